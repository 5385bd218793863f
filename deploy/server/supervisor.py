"""Processes that are kept alive: one that dies is started again, and all finish when a signal says so."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess

from deploy.server import logs

_LOOK = 0.05  # seconds between looks at workers
_PAUSE = 1.0  # seconds that one which cannot start must have lived before it is started again
_MARGIN = 5.0  # seconds beyond its time before a worker is killed
_spawn = multiprocessing.get_context("spawn")


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Workers:
    """A number of processes that all do the same work, which must be picklable."""

    def __init__(self, work: Callable[[], None], number: int) -> None:
        self._work = work
        self._workers = [_Worker(work) for _ in range(number)]

    def keep(self, told: threading.Event) -> None:
        """Replace those that die, until the event is set."""
        while not told.wait(_LOOK):
            for place, worker in enumerate(self._workers):
                if not worker.process.is_alive() and worker.age > _PAUSE:
                    logs.warning("a worker died and is replaced", died=worker.process.pid, code=worker.process.exitcode)
                    self._workers[place] = _Worker(self._work)

    def stop(self, *, seconds: float) -> None:
        """Tell all to finish, and kill those that take longer than these seconds and a margin."""
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + seconds + _MARGIN
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                logs.warning("a worker did not finish and is killed", killed=worker.process.pid)
                worker.process.kill()
                worker.process.join()


class _Worker:
    def __init__(self, work: Callable[[], None]) -> None:
        self.process: SpawnProcess = _spawn.Process(target=_live, args=(work,))
        self._start = time.monotonic()
        self.process.start()

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._start


def _live(work: Callable[[], None]) -> None:
    """Do the work, and be told to finish also when the process that started this one dies."""
    threading.Thread(target=_await_parent, daemon=True).start()
    work()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
