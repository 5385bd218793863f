"""Which code, data and environment made an artifact: git, DVC's hashes, versions."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from pipeline.errors import InputError

LOCK = Path("dvc.lock")
_PACKAGES = ("volvae", "torch", "numpy", "onnx", "onnxscript", "dvc", "mlflow")


class Git(NamedTuple):
    """Commit of the working tree, and what differs from it; empty outside a repository."""

    commit: str
    changes: str

    @property
    def dirty(self) -> bool:
        """Whether the working tree differs from the commit."""
        return bool(self.changes)


def git() -> Git:
    """State of the working tree; dvc.lock, which DVC rewrites while it runs, does not count as a change."""
    commit = _run("git", "rev-parse", "HEAD")
    changes = _run("git", "status", "--porcelain", "--", ".", f":!{LOCK}")
    return Git(commit, changes)


def git_patch() -> str:
    """What the working tree changed in tracked files."""
    return _run("git", "diff", "HEAD", "--", ".", f":!{LOCK}") + "\n"


def dvc_hashes(*paths: Path) -> dict[str, str]:
    """DVC's hash of each path, as dvc.lock records it and as the path has it.

    Raises:
        InputError: dvc.lock is missing or records something else, as when a stage ran without DVC.
    """
    try:
        stages = YAML(typ="safe").load(LOCK)["stages"].values()
    except OSError as error:
        raise InputError(f"{LOCK} cannot be read: {error.strerror}; `dvc repro` writes it") from error
    recorded = {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", ())}
    for path in paths:
        if recorded.get(str(path)) != _md5(path):
            raise InputError(f"{path} is not what {LOCK} records; run `dvc repro`")
    return {str(path): recorded[str(path)] for path in paths}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder: that of the list of its files."""
    if not path.is_dir():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = (file for file in path.rglob("*") if file.is_file())
    listing = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    content = json.dumps(sorted(listing, key=itemgetter("relpath")), sort_keys=True).encode()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"


def _run(*command: str) -> str:
    """Output of a command; empty where it fails, as git does outside a repository."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
