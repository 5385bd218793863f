"""Workers that hang, and what a supervisor leaves that is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.server import supervisor
from deploy.server.children import temporary_folder
from deploy.server.stop import Stop
from deploy.server.supervisor import Pulse, Workers
from tests.deploy.serving import serving
from tests.services import alive, wait_for


def beats(pulse: Pulse) -> None:
    """The work of a process that does nothing else."""
    while True:
        pulse.value = time.monotonic()
        time.sleep(0.01)


def never_beats(pulse: Pulse) -> None:
    """The work of a process that waits for its model."""
    threading.Event().wait()


@contextmanager
def kept_alive(workers: Workers) -> Iterator[None]:
    stop = Stop()
    thread = threading.Thread(target=workers.keep_alive, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        workers.stop(seconds=5.0)


def processes(workers: Workers) -> list[int]:
    return [worker.process.pid for worker in workers._workers]


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_HUNG", 2.0)
    workers = Workers(beats, 2)
    with kept_alive(workers):
        wait_for(lambda: all(worker._pulse.value for worker in workers._workers), seconds=60, what="both workers")
        stopped, other = processes(workers)
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: processes(workers)[0] != stopped, seconds=60, what="another worker")
        assert not psutil.pid_exists(stopped)
        assert processes(workers)[1] == other


def test_a_worker_that_has_not_begun_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_HUNG", 0.0)
    workers = Workers(never_beats, 1)
    try:
        (worker,) = workers._workers
        worker.kill_if_hung(time.monotonic() + 1e6, 0.0)
        assert worker.process.is_alive()
        worker._pulse.value = now = time.monotonic()
        worker.kill_if_hung(now + 1e6, back=now + 1e6)
        assert worker.process.is_alive(), "the supervisor itself was stopped meanwhile"
        worker.kill_if_hung(now + 1e6, back=now)
        assert not worker.process.is_alive()
    finally:
        workers.stop(seconds=0.0)


@pytest.mark.slow
def test_a_server_beats(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of two seconds, its worker is replaced when it is stopped, and not before."""
    code = "import deploy.server.supervisor as s; s._HUNG = 5.0; from pipeline.cli.main import main; main()"
    monkeypatch.setattr("tests.deploy.serving.VOLVAE", [sys.executable, "-c", code])
    with serving(bundle, tmp_path) as server:
        (first,) = {line["process"] for line in server.said("serves a model")}
        os.kill(first, signal.SIGSTOP)
        wait_for(lambda: len(server.said("serves a model")) == 2, seconds=60, what="another worker")
        assert [line["killed"] for line in server.said("a worker hangs and is killed")] == [first]
        assert server.ask("POST", "/sample", "{}").status == 200


_HOLDER = """
import sys, threading
from deploy.server.children import temporary_folder
with temporary_folder("volvae-test-") as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    threading.Event().wait()
"""


def test_a_killed_process_leaves_no_temporary_folder() -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        folder = Path(holder.stdout.readline().strip())
        assert (folder / "file").exists()
        holder.kill()
        wait_for(lambda: not folder.exists(), seconds=30, what="the end of the folder")


def test_a_temporary_folder_ends_with_its_block() -> None:
    with temporary_folder("volvae-test-") as folder:
        (folder / "file").touch()
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped worker"])
def test_a_killed_supervisor_leaves_neither_folders_nor_workers(bundle: Path, tmp_path: Path, *, stopped: bool) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving(bundle, tmp_path, "--drain", "0", environment={"TMPDIR": str(temporary)}) as server:
        below = psutil.Process(server.process.pid).children()
        (worker,) = {line["process"] for line in server.said("serves a model")}
        assert list(temporary.iterdir())
        if stopped:
            os.kill(worker, signal.SIGSTOP)
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not list(temporary.iterdir()), seconds=30, what="the end of the folders")
        wait_for(lambda: not any(alive(child.pid) for child in below), seconds=30, what="the end of the children")
