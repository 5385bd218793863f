"""How many requests of a worker wait or run."""

from types import TracebackType


class BusyError(Exception):
    """The queue is full."""


class Queue:
    """A count that is bounded; ``with`` takes a place.

    Attributes:
        waiting: requests whose head has come and that nobody has looked at.
        running: calls that are computed or wait for the thread.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.waiting = self.running = 0

    @property
    def length(self) -> int:
        """All of them."""
        return self.waiting + self.running

    @property
    def full(self) -> bool:
        """Whether another request should be turned away."""
        return self.length >= self._most

    def __enter__(self) -> None:
        if self.running >= self._most:
            raise BusyError
        self.running += 1

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.running -= 1
