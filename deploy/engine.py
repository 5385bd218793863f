"""Calls with a deadline, and one thread for those that would hold up other requests."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from deploy.metrics import Metrics
from deploy.models import Array, LateError, Model, Tensors, refusing, run

T = TypeVar("T")


class Engine:
    """Runs the calls of one worker; who calls holds a place in the queue."""

    def __init__(self, *, deadline: float, metrics: Metrics) -> None:
        self._deadline, self._metrics = deadline, metrics
        self._thread = ThreadPoolExecutor(1, "volvae-engine")

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
        return await self._in_turn(partial(run, model, inputs, until=until))

    async def aside(self, function: Callable[[], T]) -> T:
        """The outcome of a short function, which runs after those that came before.

        Raises:
            RefusedError: it raises ValueError.
            LateError: the deadline passed before its turn came.
        """
        until = time.monotonic() + self._deadline

        def timely() -> T:
            if time.monotonic() > until:
                raise LateError
            with refusing():
                return function()

        return await self._in_turn(timely)

    async def _in_turn(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
