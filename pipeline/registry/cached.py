"""Outputs of stages that are not what dvc.lock records, and the damaged object of DVC's cache that they come from.

DVC believes its cache: it checks an object when it adds it, and never again. ``python -m pipeline.registry.cached``
checks all outputs of the project.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import InputError, shown_message
from pipeline.registry import dvc_lock
from pipeline.registry.dvc_lock import LOCK, md5

_FOLDER = ".dir"  # suffix of the hash of a folder, whose object lists its files


def check_all() -> None:
    """Refuse outputs that differ from dvc.lock.

    Raises:
        InputError: as of ``check``.
    """
    check(Path(path) for path in dvc_lock.outputs(dvc_lock.recorded()))


def check_inputs(stage: str, paths: Iterable[Path]) -> None:
    """Refuse what a stage reads, where another stage made it and it differs from dvc.lock.

    Before the first stage has run there is no dvc.lock, and nothing to compare with.

    Raises:
        InputError: as of ``check``.
    """
    if not LOCK.exists():
        return
    stages = {name: kinds for name, kinds in dvc_lock.recorded().items() if name != stage}
    made = dvc_lock.outputs(stages)
    check(path for path in paths if str(path) in made and path.exists())


def check(paths: Iterable[Path]) -> None:
    """Refuse files and folders that differ from dvc.lock, as after a stage that ran without DVC.

    Raises:
        InputError: dvc.lock is missing or records another hash; the message names the damaged object of the cache, if
            that is the reason.
    """
    made = dvc_lock.outputs(dvc_lock.recorded())
    for path in paths:
        digest = made.get(str(path), "")
        if path.exists() and md5(path) == digest:
            continue
        if damaged := [str(found) for found in _damaged(digest, _cache())]:
            raise InputError(
                f"{path} is not what {LOCK} records, because DVC's cache is damaged: "
                f"`rm -rf {' '.join(damaged)} {path}`, then `dvc repro` makes it anew"
            )
        fault = f"is not what {LOCK} records" if path.exists() else "is missing"
        raise InputError(f"{path} {fault}; run `dvc repro`")


def _damaged(digest: str, cache: Path) -> Iterator[Path]:
    """Objects of an output in the cache whose content has another hash than their name."""
    found = cache / "files" / "md5" / digest[:2] / digest[2:]
    if not found.is_file():
        return
    if md5(found) != digest.removesuffix(_FOLDER):
        yield found
    elif digest.endswith(_FOLDER):
        for entry in json.loads(found.read_bytes()):
            yield from _damaged(entry["md5"], cache)


def _cache() -> Path:
    """The folder of DVC's cache, which projects may share."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return Path(found or ".dvc/cache")


def main() -> int:
    """Check all outputs; the exit code."""
    try:
        check_all()
    except InputError as error:
        print(f"volvae: {shown_message(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
