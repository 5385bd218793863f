"""Which code, data and environment made an artifact: git, DVC's hashes, versions."""

import platform
import subprocess
from importlib.metadata import version
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
    """DVC's hash of each path, as dvc.lock records it.

    Raises:
        InputError: dvc.lock is missing or does not know a path, as when a stage was run without DVC.
    """
    try:
        stages = YAML(typ="safe").load(LOCK)["stages"].values()
    except OSError as error:
        raise InputError(f"{LOCK} cannot be read: {error.strerror}; `dvc repro` writes it") from error
    known = {out["path"]: f"{out['hash']}:{out[out['hash']]}" for stage in stages for out in stage.get("outs", ())}
    missing = [str(path) for path in paths if str(path) not in known]
    if missing:
        raise InputError(f"{LOCK} has no hash of {', '.join(missing)}; run `dvc repro`")
    return {str(path): known[str(path)] for path in paths}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _run(*command: str) -> str:
    """Output of a command; empty where it fails, as git does outside a repository."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
