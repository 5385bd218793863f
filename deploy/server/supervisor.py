"""Supervises worker processes: one that dies is replaced, and all finish at SIGTERM or SIGINT."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess

from deploy.server import logs
from deploy.server.children import spawn, with_parent

_POLL = 0.05  # seconds between checks of the workers
_MIN_AGE = 1.0  # seconds between two starts in one place, so that a worker that cannot start causes no busy loop
_MARGIN = 5.0  # seconds beyond the time to finish before a worker is killed


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Workers:
    """A number of processes with the same work, which must be picklable."""

    def __init__(self, work: Callable[[], None], number: int) -> None:
        self._work = work
        self._workers = [_Worker(work) for _ in range(number)]

    def keep_alive(self, stop: threading.Event) -> None:
        """Replace workers that die, until the event is set."""
        while not stop.wait(_POLL):
            for index, worker in enumerate(self._workers):
                if not worker.process.is_alive() and worker.age > _MIN_AGE:
                    logs.warning("a worker died and is replaced", died=worker.process.pid, code=worker.process.exitcode)
                    self._workers[index] = _Worker(self._work)

    def stop(self, *, seconds: float) -> None:
        """Send SIGTERM to all workers, and kill those that take longer than these seconds and a margin."""
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
        self.process: SpawnProcess = spawn.Process(target=with_parent, args=(work,))
        self._start = time.monotonic()
        self.process.start()

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._start
