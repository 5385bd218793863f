"""Supervises worker processes: one that dies or hangs is replaced, and all finish when the end is asked for."""

import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import SpawnProcess
from typing import Protocol

from deploy.server import logs
from deploy.server.children import spawn, with_parent
from deploy.server.stop import Stop

_POLL = 0.05  # seconds between checks of the workers
_MIN_AGE = 1.0  # seconds between two starts in one place, so that a worker that cannot start causes no busy loop
_HUNG = 30.0  # seconds without a beat after which a worker is killed
_AWAY = 5.0  # seconds between two checks after which this process itself was stopped, with its workers, as by Ctrl-Z
_MARGIN = 5.0  # seconds beyond the time to finish before a worker is killed


class Pulse(Protocol):
    """Shared memory in which a worker notes that it is alive."""

    value: float  # the latest time of ``time.monotonic`` at which its event loop ran; 0 before the first


class Workers:
    """A number of processes with the same work, which must be picklable."""

    def __init__(self, work: Callable[[Pulse], None], number: int) -> None:
        self._work = work
        self._workers = [_Worker(work) for _ in range(number)]

    def keep_alive(self, stop: Stop) -> None:
        """Replace workers that die or hang, until the end is asked for."""
        checked = back = time.monotonic()
        while not stop.wait(_POLL):
            now = time.monotonic()
            checked, back = now, now if now - checked > _AWAY else back
            for worker in self._workers:
                worker.kill_if_hung(now, back)
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
    def __init__(self, work: Callable[[Pulse], None]) -> None:
        self._pulse: Pulse = spawn.RawValue("d", 0.0)
        self.process: SpawnProcess = spawn.Process(target=with_parent, args=(partial(work, self._pulse),))
        self._start = time.monotonic()
        self.process.start()

    def kill_if_hung(self, now: float, back: float) -> None:
        """Kill a process whose event loop has not run for long; ``back`` is when this process went on after a stop."""
        beat = self._pulse.value
        if beat and now - max(beat, back) > _HUNG and self.process.is_alive():
            logs.warning("a worker hangs and is killed", killed=self.process.pid, seconds=round(now - beat, 1))
            self.process.kill()
            self.process.join()

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._start
