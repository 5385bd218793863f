"""Known advisories beside the locked packages: ``make audit``, without the internet.

``advisories.json`` has advisories of this project's dependencies in the format of OSV, each with its source. pip-audit
asks a server for them and cannot read a file (github.com/pypa/pip-audit/issues/698). A new advisory is a line of that
file; a version that it names then fails the tests.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
ACCEPTED = {"PYSEC-2026-2447": "diskcache, of DVC, has no release without it; docs/runbook.md says how to live with it"}


class Fault(NamedTuple):
    """A version that an advisory names."""

    package: str
    version: str
    advisory: str
    summary: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.package} {self.version}: {self.advisory}, {self.summary}"


def advisories() -> list[dict[str, Any]]:
    """The stored advisories, but for those that are accepted."""
    found: list[dict[str, Any]] = json.loads((ROOT / "tools/advisories.json").read_text("utf-8"))
    return [each for each in found if each["id"] not in ACCEPTED]


def faults(versions: Iterable[tuple[str, str]], known: Iterable[Mapping[str, Any]]) -> Iterator[Fault]:
    """The versions, each with the name of its package, that advisories name."""
    wanted = [(canonicalize_name(name), version) for name, version in versions]
    for advisory in known:
        for affected in advisory["affected"]:
            for name, version in wanted:
                if name == canonicalize_name(affected["package"]["name"]) and is_affected(version, affected):
                    yield Fault(name, version, advisory["id"], advisory["summary"])


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether a version is in one of the ranges of OSV."""
    return any(_is_within(Version(version), each["events"]) for each in affected["ranges"])


def _is_within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """Whether a version is between the events of a range, which are in order: each opens or ends it."""
    inside = False
    for event in events:
        ((kind, bound),) = event.items()
        if kind == "introduced":
            inside = inside or bound == "0" or version >= Version(bound)
        else:
            inside = (
                inside and not {"fixed": version >= Version(bound), "last_affected": version > Version(bound)}[kind]
            )
    return inside


def locked() -> list[tuple[str, str]]:
    """Packages and versions of requirements.lock, whose lines may go on with hashes."""
    return re.findall(r"^([\w.-]+)==([^\s\\;]+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)


def lowest() -> list[tuple[str, str]]:
    """Packages and lower bounds of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    declared = [Requirement(text) for text in (*project["dependencies"], *(text for each in extras for text in each))]
    return [(each.name, bound.version) for each in declared for bound in each.specifier if bound.operator == ">="]


def main() -> int:
    """Print the locked versions and lower bounds that advisories name; the exit code."""
    known = advisories()
    found = [f"{where}: {fault}" for where, versions in (("requirements.lock", locked()), ("pyproject.toml", lowest()))
             for fault in faults(versions, known)]  # fmt: skip
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(locked())} locked packages, {len(known)} advisories, {len(found)} faults; accepted: {len(ACCEPTED)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
