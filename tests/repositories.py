"""A small git and DVC repository for tests."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.shared import built_once


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def empty_objects(folder: Path) -> None:
    """Empty the objects of a repository, as a power cut may leave those that git does not sync."""
    for path in (folder / ".git/objects").glob("??/*"):
        path.chmod(0o644)
        path.write_bytes(b"")


def fetch_half(folder: Path, source: Path) -> None:
    """Leave the newest objects of ``source`` empty, as a power cut during a fetch may: no commit there has them yet."""
    for path in (source / ".git/objects").glob("??/*"):
        copy = folder / ".git/objects" / path.parent.name / path.name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            copy.touch()


def init(folder: Path) -> None:
    """Make a folder a git and DVC repository, all of whose files are to be committed."""
    git(folder, "init", "--quiet")
    Repo.init(str(folder)).close()


def repro(folder: Path) -> None:
    """`dvc repro` in this process."""
    with contextlib.chdir(folder), Repo() as repo:
        repo.reproduce()


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A new folder with a git and DVC repository of one commit."""
    return shutil.copytree(built_once(tmp_path_factory, "repository", _one_commit), tmp_path / "project")


def _one_commit(folder: Path) -> None:
    init(folder)
    (folder / ".gitignore").write_text("/made/\n/.scheduled/\n")
    (folder / "code.py").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
