"""A request to end, which signals and threads make."""

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """As ``threading.Event``, which a signal handler must not set: the thread that it interrupts may hold its lock."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()  # its ``put`` may interrupt itself and ``get``

    def set(self) -> None:
        """Ask for the end."""
        self._asked.put(None)

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return not self._asked.empty()

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; whether the end was asked for."""
        try:
            self._asked.get(timeout=seconds)
        except queue.Empty:
            return False
        self._asked.put(None)
        return True


@contextmanager
def stop_at_signals() -> Iterator[Stop]:
    """Asked for by SIGTERM and SIGINT."""
    stop = Stop()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
