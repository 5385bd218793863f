"""Calls with a deadline: small ones that come together run together, long ones run in a thread of their own.

To run the decoder for eight surfaces takes half as long again as for one, and around each run there is as much Python.
So calls are joined as long as each turn of the event loop brings more of them; one that comes alone waits for a turn,
a fiftieth of its time on the wire. No row depends on the rows beside it, to the last bit.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from deploy.server.endpoints import Array, LateError, Model, Tensors, refusing, run
from deploy.server.metrics import Metrics

T = TypeVar("T")
_Outputs = dict[str, Array]
_Kind = tuple[Model, tuple[str, ...]]  # a model and the names of inputs: calls that can be joined
_SMALL = 64  # rows of a call that may be joined with others
_MOST_JOINED = 64  # calls, after which the next have to wait


class _Call(NamedTuple):
    inputs: Tensors
    rows: int
    until: float
    outputs: "asyncio.Future[_Outputs]"


class Engine:
    """Runs the calls of one worker; who calls holds a place in the queue."""

    def __init__(self, *, deadline: float, metrics: Metrics) -> None:
        self._deadline, self._metrics = deadline, metrics
        self._thread = ThreadPoolExecutor(1, "volvae-engine")
        self._calls: dict[_Kind, list[_Call]] = {}  # that are not yet started

    async def call(self, model: Model, inputs: Tensors) -> _Outputs:
        """Outputs of checked inputs.

        Raises:
            RefusedError: values that the model cannot read.
            LateError: the deadline passed.
        """
        loop, rows = asyncio.get_running_loop(), model.rows(inputs)
        call = _Call(inputs, rows, time.monotonic() + self._deadline, loop.create_future())
        if not model.batched or rows > _SMALL:
            self._start(model, [call])
        elif (kind := (model, tuple(inputs))) in self._calls:
            self._calls[kind].append(call)
        else:
            self._calls[kind] = [call]
            loop.call_soon(self._gather, kind, 0)
        return await call.outputs

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

        return await asyncio.get_running_loop().run_in_executor(self._thread, timely)

    def _gather(self, kind: _Kind, before: int) -> None:
        """Run the calls that came together, unless the last turn brought more of them."""
        if before < len(self._calls[kind]) < _MOST_JOINED:
            asyncio.get_running_loop().call_soon(self._gather, kind, len(self._calls[kind]))
        else:
            self._start(kind[0], self._calls.pop(kind))

    def _start(self, model: Model, calls: Sequence[_Call]) -> None:
        """Run calls at once where that is quick, else in the thread."""
        rows = sum(call.rows for call in calls)
        self._metrics.called(model.name, rows)
        if rows <= model.quick:
            _deliver(calls, _outcomes(model, calls))
        else:
            done = asyncio.get_running_loop().run_in_executor(self._thread, _outcomes, model, calls)
            done.add_done_callback(lambda done: _deliver(calls, done.result()))


def _outcomes(model: Model, calls: Sequence[_Call]) -> list[_Outputs | Exception]:
    """Outputs of each call, or why there are none; where one of several cannot be read, each runs alone."""
    try:
        outputs = run(model, _joined(calls), until=calls[0].until)
    except Exception as error:  # noqa: BLE001 - it is raised again where the call waits
        return [error] if len(calls) == 1 else [each for call in calls for each in _outcomes(model, [call])]
    return list(_rows_of(outputs, calls))


def _joined(calls: Sequence[_Call]) -> Tensors:
    """The inputs of all calls, one below the other."""
    if len(calls) == 1:
        return calls[0].inputs
    return {name: np.concatenate([call.inputs[name] for call in calls]) for name in calls[0].inputs}


def _rows_of(outputs: _Outputs, calls: Sequence[_Call]) -> Iterator[_Outputs]:
    """The outputs of each call."""
    if len(calls) == 1:
        yield outputs
        return
    start = 0
    for call in calls:
        stop = start + call.rows
        yield {name: array[start:stop] for name, array in outputs.items()}
        start = stop


def _deliver(calls: Sequence[_Call], outcomes: Sequence[_Outputs | Exception]) -> None:
    for call, outcome in zip(calls, outcomes, strict=True):
        if call.outputs.done():  # who waited has left
            continue
        if isinstance(outcome, Exception):
            call.outputs.set_exception(outcome)
        else:
            call.outputs.set_result(outcome)
