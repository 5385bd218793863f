"""Clean checkouts: what they refuse, what they hold and what they keep."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.errors import InputError
from pipeline.runs import checkout
from pipeline.runs.checkout import check_clean
from pipeline.runs.lock import BusyError, locked
from tests.repositories import empty_objects, fetch_half, git
from tests.services import wait_for


def test_a_tree_that_differs_from_its_commit_is_refused(repository: Path, tmp_path: Path) -> None:
    check_clean(repository)
    (repository / "dvc.lock").write_text("not a change\n")
    check_clean(repository)
    (repository / "code.py").write_text("two\n")
    for name in ("a.py", "b.yaml", "made.dvc"):
        (repository / name).write_text("new\n")
    with pytest.raises(InputError, match=r"differs from its commit \(code.py, a.py, b.yaml and 1 more\); commit that"):
        check_clean(repository)
    with pytest.raises(InputError, match="is no git repository with a commit"):
        check_clean(tmp_path)


def test_new_code_in_a_new_folder_is_named(repository: Path) -> None:
    (repository / "models").mkdir()
    (repository / "models/heston.py").write_text("new\n")
    with pytest.raises(InputError, match=r"differs from its commit \(models/heston.py\); commit that"):
        check_clean(repository)


def test_a_name_in_any_encoding_is_shown_and_stops_nothing_by_itself(repository: Path) -> None:
    (repository / os.fsdecode(b"caf\xe9.csv")).touch()
    check_clean(repository)
    (repository / os.fsdecode(b"caf\xe9.py")).touch()
    with pytest.raises(InputError, match=r"differs from its commit \(caf\\xe9.py\); commit that"):
        check_clean(repository)


def test_a_deleted_or_staged_file_is_a_change(repository: Path) -> None:
    (repository / "notes.txt").write_text("new\n")
    git(repository, "add", "notes.txt")
    with pytest.raises(InputError, match=r"differs from its commit \(notes.txt\)"):
        check_clean(repository)
    git(repository, "commit", "--quiet", "-m", "notes")
    check_clean(repository)
    (repository / "notes.txt").unlink()
    with pytest.raises(InputError, match=r"differs from its commit \(notes.txt\)"):
        check_clean(repository)


def outputs_of_the_readme(root: Path) -> list[str]:
    """Paths that the commands in the README write."""
    text = (root / "README.md").read_text("utf-8")
    commands = "\n".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL))
    named = re.findall(r"^\$ volvae .*-o (\S+)", commands, re.MULTILINE)
    (triton,) = re.findall(r"^\$ volvae export-triton (\w+)", commands, re.MULTILINE)
    pages = [name.replace(".csv", ".html") for name in re.findall(r"-o (\S+) --plot", commands)]
    assert "dvc plots show" in commands
    return [*named, *pages, f"{triton}/", "dvc_plots/"]


def test_outputs_of_the_commands_in_the_readme_are_no_changes(root: Path, repository: Path) -> None:
    """With and without the project's own list of ignored files."""
    names = outputs_of_the_readme(root)
    assert {"surfaces.parquet", "surface.csv", "surface.html", "scores.csv", "bundle", "models/"} <= set(names)
    for name in names:
        path = repository / name
        if "." not in name:
            path.mkdir()
            path /= "config.pbtxt"
        path.write_text("made\n")
    check_clean(repository)
    ignored = subprocess.run(
        ["git", "check-ignore", *(name if "." in name else f"{name.rstrip('/')}/" for name in names)],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert {name.rstrip("/") for name in ignored} == {name.rstrip("/") for name in names}


@pytest.fixture
def check_out(repository: Path) -> Iterator[Callable[[Path], Path]]:
    """Makes the checkout as the holder of its lock."""
    with locked(repository / checkout.SCHEDULED, holder="run") as held:
        yield partial(checkout.check_out, lock=held.descriptor)


CHECK_OUT = """
import sys
from pathlib import Path
from pipeline.runs.checkout import SCHEDULED, check_out
from pipeline.runs.lock import locked
source = Path(sys.argv[1])
with locked(source / SCHEDULED, holder="run") as held:
    check_out(source, held.descriptor)
"""


def test_a_git_that_outlives_a_killed_run_holds_the_lock(repository: Path, tmp_path: Path) -> None:
    """Else the next run would remove the locks of a git that writes."""
    path = tmp_path / "path"
    path.mkdir()
    (path / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (path / "git").chmod(0o755)
    command = [sys.executable, "-c", CHECK_OUT, str(repository)]
    with subprocess.Popen(command, env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}) as run:
        try:
            wait_for(psutil.Process(run.pid).children, seconds=60, what="git")
            (child,) = psutil.Process(run.pid).children()
        finally:
            run.kill()
    try:
        with pytest.raises(BusyError), locked(repository / checkout.SCHEDULED, holder="next"):
            pass
    finally:
        child.kill()
    with locked(repository / checkout.SCHEDULED, holder="next", wait_seconds=60.0) as held:
        assert held.killed_holder == "run"


@pytest.mark.slow
def test_a_checkout_is_the_commit_and_keeps_what_was_made(repository: Path, check_out: Callable[[Path], Path]) -> None:
    (repository / ".dvc/config.local").write_text('[remote "mine"]\n    url = /elsewhere\n')
    git(repository, "remote", "add", "origin", "https://example.org/project.git")
    (repository / "code.py").write_text("not committed\n")

    folder = check_out(repository)

    assert folder == repository / checkout.SCHEDULED
    assert (folder / "code.py").read_text() == "one\n"
    assert git(folder, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")
    assert git(folder, "remote", "get-url", "origin") == "https://example.org/project.git\n"
    assert git(folder, "config", "gc.autoDetach") == "false\n"
    local = (folder / ".dvc/config.local").read_text()
    assert f"dir = {repository}/.dvc/cache" in local
    assert "url = /elsewhere" in local

    (folder / "made").mkdir()
    (folder / "made/model").write_text("kept")
    (folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (folder / "stray").write_text("gone")
    (folder / "code.py").write_text("gone")
    (repository / "code.py").write_text("two\n")
    git(repository, "commit", "--quiet", "-am", "second")
    check_out(repository)
    assert (folder / "code.py").read_text() == "two\n"
    assert not (folder / "stray").exists()
    assert (folder / "made/model").read_text() == "kept"
    assert (folder / "dvc.lock").exists()
    check_clean(folder)


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "an empty HEAD"])
def test_a_git_that_was_killed_stops_no_later_checkout(
    repository: Path, check_out: Callable[[Path], Path], left: str
) -> None:
    own = repository / "code.py"
    own.write_text("not committed\n")
    folder = repository / checkout.SCHEDULED
    kept = folder / ".git"
    kept.mkdir()
    if left == "an empty HEAD":  # as a power cut leaves it
        git(folder, "init", "--quiet")
        (kept / "HEAD").write_bytes(b"")
    check_out(repository)
    assert own.read_text() == "not committed\n"  # git takes a folder without repository for a part of the one around it
    own.write_text("one\n")
    for name in ("index.lock", "config.lock", "HEAD.lock"):
        (kept / name).touch()
    (kept / "refs/some.lock").mkdir()  # a folder is no lock
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")
    check_out(repository)
    assert git(folder, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")


@pytest.mark.slow
def test_objects_that_a_power_cut_left_empty_are_fetched_again(
    repository: Path, check_out: Callable[[Path], Path]
) -> None:
    folder = check_out(repository)
    made = folder / "made/checkpoint"
    made.parent.mkdir()
    made.write_text("half a training")
    empty_objects(folder)
    (repository / "code.py").write_text("two\n")
    git(repository, "commit", "--quiet", "-am", "second")
    check_out(repository)
    assert (folder / "code.py").read_text() == "two\n"
    assert made.read_text() == "half a training"
    assert git(folder, "fsck") == ""


@pytest.mark.slow
def test_a_fetch_that_a_power_cut_ended_is_done_again(repository: Path, check_out: Callable[[Path], Path]) -> None:
    folder = check_out(repository)
    (repository / "code.py").write_text("two\n")
    git(repository, "commit", "--quiet", "-am", "second")
    fetch_half(folder, repository)
    check_out(repository)
    assert (folder / "code.py").read_text() == "two\n"
    assert git(folder, "fsck") == ""


@pytest.mark.slow
def test_a_relative_path_leads_to_data_that_git_does_not_track(
    repository: Path, check_out: Callable[[Path], Path]
) -> None:
    own = repository / "quotes/own.csv"
    own.parent.mkdir()
    own.write_text("first")
    folder = check_out(repository)
    for _ in range(2):  # a later run finds the link of the first
        checkout.link(Path("quotes/own.csv"), source=repository, folder=folder)
        assert (folder / "quotes/own.csv").read_text() == "first"
    own.unlink()
    check_out(repository)
    checkout.link(Path("quotes/own.csv"), source=repository, folder=folder)
    assert not (folder / "quotes/own.csv").exists()
