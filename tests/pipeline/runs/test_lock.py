"""The lock of a folder under runs that end in every way, and the repair of what a killed DVC left."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dvc.exceptions import DvcException

from pipeline.errors import InputError
from pipeline.runs.lock import BusyError, heal, locked
from tests.repositories import repro

HOLD = """
import sys
from pathlib import Path
from pipeline.runs.lock import locked
with locked(Path(sys.argv[1]), holder="other"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    process = holder(tmp_path)
    message = rf"is held by another run: process {process.pid} on \S+, since 20"
    with pytest.raises(BusyError, match=message), locked(tmp_path, holder="me"):
        pass
    process.communicate()
    with locked(tmp_path, holder="me") as held:
        assert held.killed_holder is None  # it let go by itself


def test_a_run_that_waits_gets_the_folder(tmp_path: Path) -> None:
    process = holder(tmp_path)
    threading.Timer(0.3, process.communicate).start()
    with locked(tmp_path, holder="me", wait_seconds=60.0) as held:
        assert held.killed_holder is None


def test_the_lock_of_a_killed_run_is_free_and_names_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
    with locked(tmp_path, holder="me") as held:
        assert held.killed_holder == "other"
    with locked(tmp_path, holder="again") as held:
        assert held.killed_holder is None


def test_a_child_holds_the_lock_longer_than_its_killed_parent(tmp_path: Path) -> None:
    with locked(tmp_path, holder="me") as held:
        sleeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(held.descriptor,))
    with pytest.raises(BusyError), locked(tmp_path, holder="next"):
        pass
    sleeper.communicate()
    with locked(tmp_path, holder="next"):
        pass


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(InputError, match=r"/dev/null/\.dvc/tmp/volvae\.lock cannot be written: Not a directory"):
        locked(Path("/dev/null"), holder="me").__enter__()


@pytest.mark.parametrize("half", ["", '{"read": {"', "[" * 100_000])
def test_what_a_killed_dvc_left_of_its_lock_is_removed(repository: Path, half: str) -> None:
    (repository / "dvc.yaml").write_text("stages: {copy: {cmd: echo, deps: [code.py]}}\n")
    path = repository / ".dvc/tmp/rwlock"
    path.write_text(half)
    with pytest.raises(DvcException) as refused:
        repro(repository)
    cause = refused.value.__cause__
    assert "rwlock" in str(cause) or isinstance(cause, RecursionError)  # or there is nothing to heal any more
    with locked(repository, holder="me"):
        repro(repository)


def test_half_a_dvc_lock_is_made_anew(repository: Path) -> None:
    (repository / "dvc.yaml").write_text("stages: {copy: {cmd: cp code.py made, deps: [code.py], outs: [made]}}\n")
    (repository / ".gitignore").unlink()
    repro(repository)
    path = repository / "dvc.lock"
    whole = path.read_bytes()
    for length in (0, 10, 60, -1):
        path.write_bytes(whole[:length])
        heal(repository)
        repro(repository)
        assert path.read_bytes() == whole


def test_whole_locks_of_dvc_stay(repository: Path) -> None:
    own, recorded = repository / ".dvc/tmp/rwlock", repository / "dvc.lock"
    own.write_text('{"read": {}, "write": {}}')
    recorded.write_text("schema: '2.0'\nstages: {}\n")
    heal(repository)
    assert own.exists()
    assert recorded.exists()
