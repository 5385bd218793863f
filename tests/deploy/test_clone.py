"""deploy/clone.sh, which brings workers the newest commit: what it fetches, what it keeps and what it refuses."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.repositories import empty_objects, fetch_half, git

Clone = Callable[..., subprocess.CompletedProcess[str]]
STATE = ".scheduled/.checkpoints/train.safetensors"


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Clone:
    """The script, run in an empty folder as a worker runs it."""
    work = tmp_path / "work"
    work.mkdir()

    def run(source: Path, branch: str = "main", **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(root / "deploy/clone.sh"), str(source), branch]
        return subprocess.run(
            command, cwd=work, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def cloned(tmp_path: Path) -> Path:
    return tmp_path / "work/repository"


@pytest.fixture
def source(repository: Path) -> Path:
    git(repository, "checkout", "--quiet", "-B", "main")
    return repository


def commit(folder: Path, text: str) -> str:
    """The commit that gives code.py a text."""
    (folder / "code.py").write_text(text)
    git(folder, "commit", "--quiet", "-am", text)
    return git(folder, "rev-parse", "HEAD")


def test_a_new_commit_is_fetched_and_the_state_of_runs_stays(clone: Clone, source: Path, cloned: Path) -> None:
    assert clone(source).returncode == 0
    assert git(cloned, "rev-parse", "HEAD") == git(source, "rev-parse", "HEAD")
    state = cloned / STATE
    state.parent.mkdir(parents=True)
    state.write_text("half a training")
    newest = commit(source, "two")
    assert clone(source).returncode == 0
    assert git(cloned, "rev-parse", "HEAD") == newest
    assert (cloned / "code.py").read_text() == "two"
    assert state.read_text() == "half a training"


def test_what_git_tracks_is_that_of_the_commit(clone: Clone, source: Path, cloned: Path) -> None:
    clone(source)
    (cloned / "code.py").write_text("edited by hand")
    git(source, "commit", "--quiet", "--allow-empty", "--amend", "-m", "history written anew")
    assert clone(source).returncode == 0
    assert git(cloned, "status", "--porcelain") == ""
    assert git(cloned, "rev-parse", "HEAD") == git(source, "rev-parse", "HEAD")


def test_another_repository_and_branch_take_the_place(clone: Clone, source: Path, cloned: Path, tmp_path: Path) -> None:
    clone(source)
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(source), str(other))
    git(other, "checkout", "--quiet", "-b", "release")
    newest = commit(other, "two")
    assert clone(other, "release").returncode == 0
    assert git(cloned, "rev-parse", "HEAD") == newest
    assert git(cloned, "remote", "get-url", "origin").strip() == str(other)


def test_a_missing_branch_is_named_in_one_line_and_the_clone_stays(clone: Clone, source: Path, cloned: Path) -> None:
    clone(source)
    before = git(cloned, "rev-parse", "HEAD")
    refused = clone(source, "release")
    assert refused.returncode != 0
    assert refused.stderr == "fatal: couldn't find remote ref release\n"
    assert git(cloned, "rev-parse", "HEAD") == before


@pytest.mark.parametrize("lock", ["index.lock", "config.lock", "HEAD.lock", "refs/heads/main.lock"])
def test_a_clone_that_was_killed_stops_no_later_one(clone: Clone, source: Path, cloned: Path, lock: str) -> None:
    clone(source)
    newest = commit(source, "two")
    (cloned / ".git" / lock).touch()
    after = clone(source)
    assert (after.returncode, after.stderr) == (0, "")
    assert git(cloned, "rev-parse", "HEAD") == newest


def test_a_clone_that_was_killed_as_it_began_is_begun_again(clone: Clone, source: Path, cloned: Path) -> None:
    (cloned / ".git").mkdir(parents=True)
    assert clone(source).returncode == 0
    assert git(cloned, "rev-parse", "HEAD") == git(source, "rev-parse", "HEAD")


def test_a_head_that_a_power_cut_left_empty_is_fetched_again(clone: Clone, source: Path, cloned: Path) -> None:
    clone(source)
    state = cloned / STATE
    state.parent.mkdir(parents=True)
    state.write_text("half a training")
    (cloned / ".git/HEAD").write_bytes(b"")
    newest = commit(source, "two")
    after = clone(source)
    assert (after.returncode, after.stderr) == (0, "")
    assert git(cloned, "rev-parse", "HEAD") == newest
    assert state.read_text() == "half a training"


def test_objects_that_a_power_cut_left_empty_are_fetched_again(clone: Clone, source: Path, cloned: Path) -> None:
    clone(source)
    state = cloned / STATE
    state.parent.mkdir(parents=True)
    state.write_text("half a training")
    empty_objects(cloned)
    newest = commit(source, "two")
    after = clone(source)
    assert (after.returncode, after.stderr) == (0, "")
    assert git(cloned, "rev-parse", "HEAD") == newest
    assert git(cloned, "fsck") == ""
    assert state.read_text() == "half a training"


def test_a_fetch_that_a_power_cut_ended_is_done_again(clone: Clone, source: Path, cloned: Path) -> None:
    clone(source)
    newest = commit(source, "two")
    fetch_half(cloned, source)
    after = clone(source)
    assert (after.returncode, after.stderr) == (0, "")
    assert git(cloned, "rev-parse", "HEAD") == newest
    assert git(cloned, "fsck") == ""


def test_a_clone_whose_objects_are_whole_is_not_fetched_again(clone: Clone, source: Path, cloned: Path) -> None:
    """Whatever forms of objects its history has that git does not write today."""
    tree = git(source, "rev-parse", "HEAD^{tree}").strip()
    odd = f"tree {tree}\nauthor a<a@b> 1 +0000\ncommitter a<a@b> 1 +0000\n\nold\n"
    (source / "odd").write_text(odd)
    old = git(source, "hash-object", "-t", "commit", "-w", "--literally", "odd").strip()
    git(source, "reset", "--quiet", "--hard", old)
    clone(source)
    mark = cloned / ".git/mark"
    mark.touch()
    assert clone(source).returncode == 0
    assert mark.exists()
    assert git(cloned, "config", "gc.autoDetach") == "false\n"


def test_a_password_is_written_nowhere(clone: Clone, source: Path, cloned: Path) -> None:
    assert clone(source, GIT_USERNAME="volvae", GIT_PASSWORD="of-a-test").returncode == 0
    assert not [path for path in cloned.rglob("*") if path.is_file() and b"of-a-test" in path.read_bytes()]
