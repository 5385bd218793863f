"""Calls within bounds: a queue of fixed length, a deadline, and one thread for what would hold up other requests."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from deploy.metrics import Metrics
from deploy.models import Array, LateError, Model, Tensors, refusing, run

T = TypeVar("T")


class BusyError(Exception):
    """The queue is full."""


class Engine:
    """Runs the calls of one worker.

    ``with engine:`` takes a place in the queue.
    """

    def __init__(self, *, queue: int, deadline: float, metrics: Metrics) -> None:
        self._queue, self._deadline, self._metrics = queue, deadline, metrics
        self._inside = 0
        self._thread = ThreadPoolExecutor(1, "volvae-engine")

    def check(self) -> None:
        """Raise BusyError where the queue is full."""
        if self._inside >= self._queue:
            raise BusyError

    def __enter__(self) -> Self:
        self.check()
        self._inside += 1
        self._metrics.queue.set(self._inside)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._inside -= 1
        self._metrics.queue.set(self._inside)

    async def call(self, model: Model, inputs: Tensors) -> dict[str, Array]:
        """Outputs of checked inputs.

        Raises:
            RefusedError: values that the model cannot read.
            LateError: the deadline passed.
        """
        rows, until = model.rows(inputs), time.monotonic() + self._deadline
        self._metrics.rows.labels(model.name).observe(rows)
        if rows <= model.quick:
            return run(model, inputs, until=until)
        return await self._aside(partial(run, model, inputs, until=until))

    async def aside(self, function: Callable[[], T]) -> T:
        """The outcome of a short function that runs in the thread, after those that came before.

        Raises:
            RefusedError: it raises ValueError.
            LateError: the deadline passed before its turn came.
        """
        until = time.monotonic() + self._deadline

        def in_turn() -> T:
            if time.monotonic() > until:
                raise LateError
            with refusing():
                return function()

        return await self._aside(in_turn)

    async def _aside(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
