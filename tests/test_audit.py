"""No locked package and no lower bound is one that a stored advisory names."""

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tools import audit


def test_no_advisory_names_a_locked_package_or_a_lower_bound() -> None:
    known = audit.advisories()
    assert list(map(str, audit.faults(audit.locked(), known))) == []
    assert list(map(str, audit.faults(audit.lowest(), known))) == []


def test_all_packages_of_the_lock_are_read(root: Path) -> None:
    lines = (root / "requirements.lock").read_text().splitlines()
    assert len(audit.locked()) == len([line for line in lines if "==" in line])
    assert {"torch", "pyarrow", "mlflow", "click"} <= {name for name, _ in audit.lowest()}


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        ([{"introduced": "0"}, {"fixed": "1.3"}], ["0.1", "1.2.9", "1.3rc1"], ["1.3", "1.10"]),
        ([{"introduced": "0"}, {"last_affected": "2.10.0"}], ["2.9", "2.10"], ["2.10.1", "2.11"]),
        ([{"introduced": "1.22"}, {"fixed": "2.6.3"}], ["1.22", "2.6.2"], ["1.21.9", "2.6.3"]),
        (
            [{"introduced": "3"}, {"fixed": "3.2"}, {"introduced": "4"}, {"fixed": "4.1"}],
            ["3.1", "4.0"],
            ["3.5", "4.1"],
        ),
        ([{"introduced": "5"}], ["5", "99"], ["4.9"]),
    ],
)
def test_ranges_are_those_of_osv(events: list[dict[str, str]], inside: list[str], outside: list[str]) -> None:
    """As the schema of OSV defines them: `fixed` is outside, `last_affected` inside."""
    affected = {"ranges": [{"type": "ECOSYSTEM", "events": events}]}
    assert [version for version in (*inside, *outside) if audit.is_affected(version, affected)] == inside
    two = {"ranges": [{"events": [{"introduced": "90"}]}, {"events": events}]}
    assert audit.is_affected(inside[0], two)


def test_a_name_is_found_however_it_is_spelt() -> None:
    affected: dict[str, Any] = {
        "package": {"name": "Ruamel_YAML"}, "ranges": [{"events": [{"introduced": "0"}, {"fixed": "2"}]}],
    }  # fmt: skip
    advisory = {"id": "CVE-1", "summary": "bad", "affected": [affected]}
    (fault,) = audit.faults([("ruamel.yaml", "1.9"), ("ruamel", "1.9")], [advisory])
    assert str(fault) == "ruamel-yaml 1.9: CVE-1, bad"


def test_advisories_are_whole(root: Path) -> None:
    """Each has an identifier of its own, a source, and versions that can be compared."""
    known = json.loads((root / "tools/advisories.json").read_text())
    assert len({each["id"] for each in known}) == len(known)
    assert audit.ACCEPTED.keys() <= {each["id"] for each in known}
    for each in known:
        assert each["summary"]
        assert each["references"][0]["url"].startswith("https://")
        for affected in each["affected"]:
            assert affected["package"]["ecosystem"] == "PyPI"
            for event in affected["ranges"][0]["events"]:
                ((kind, version),) = event.items()
                assert kind in ("introduced", "fixed", "last_affected")
                assert Version(version) >= Version("0")


def test_an_accepted_advisory_still_names_what_is_locked(root: Path) -> None:
    """Else it need not be accepted any more."""
    known = json.loads((root / "tools/advisories.json").read_text())
    accepted = [each for each in known if each["id"] in audit.ACCEPTED]
    assert {fault.advisory for fault in audit.faults(audit.locked(), accepted)} == audit.ACCEPTED.keys()
