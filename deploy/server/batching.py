"""Batching: small calls that arrive together run as one, long calls run in a thread, and each has a deadline.

The decoder takes 1.5 times as long for eight surfaces as for one, and each run costs as much again in Python. So calls
are joined as long as each turn of the event loop brings more of them. A call that comes alone waits for one turn, a
fiftieth of its time on the wire. Joining changes no bit: no row depends on the rows beside it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from deploy.server.endpoints import Array, Endpoint, Tensors, check_time, refusing, run
from deploy.server.metrics import Metrics

T = TypeVar("T")
_Outputs = dict[str, Array]
_Kind = tuple[Endpoint, tuple[str, ...]]  # calls of one endpoint with the same names of inputs can be joined
_MAX_ROWS = 64  # of a call that may be joined with others
_MAX_CALLS = 64  # that are joined; more wait for the next batch


class _Call(NamedTuple):
    inputs: Tensors
    rows: int
    deadline: float  # on the clock time.monotonic
    outputs: "asyncio.Future[_Outputs]"


class Engine:
    """Runs the calls of one worker. Callers are admitted before, by `Admission`."""

    def __init__(self, *, deadline: float, metrics: Metrics) -> None:
        self._deadline, self._metrics = deadline, metrics
        self._thread = ThreadPoolExecutor(1, "volvae-engine")
        self._calls: dict[_Kind, list[_Call]] = {}  # that have not started

    def deadline(self) -> float:
        """The time, on the clock ``time.monotonic``, at which a request that begins now must have been computed."""
        return time.monotonic() + self._deadline

    async def call(self, endpoint: Endpoint, inputs: Tensors, deadline: float) -> _Outputs:
        """Outputs of checked inputs.

        Raises:
            RefusedError: the endpoint cannot read the values.
            LateError: the deadline passed.
        """
        loop, rows = asyncio.get_running_loop(), endpoint.rows(inputs)
        call = _Call(inputs, rows, deadline, loop.create_future())
        if not endpoint.batched or rows > _MAX_ROWS:
            self._start(endpoint, [call])
        elif (kind := (endpoint, tuple(inputs))) in self._calls:
            self._calls[kind].append(call)
        else:
            self._calls[kind] = [call]
            loop.call_soon(self._gather, kind, 0)
        return await call.outputs

    async def in_thread(self, function: Callable[[], T], deadline: float) -> T:
        """The result of a function that runs in the thread, after all that was handed to the thread before.

        A function that takes long calls ``check_time`` with its deadline from time to time.

        Raises:
            RefusedError: the function raised ValueError.
            LateError: the deadline passed before the function started, or the function found that it passed.
        """

        def unless_late() -> T:
            check_time(deadline)
            with refusing():
                return function()

        return await asyncio.get_running_loop().run_in_executor(self._thread, unless_late)

    def _gather(self, kind: _Kind, calls_before: int) -> None:
        """Run the calls that arrived together, unless the last turn of the event loop brought more of them."""
        if calls_before < len(self._calls[kind]) < _MAX_CALLS:
            asyncio.get_running_loop().call_soon(self._gather, kind, len(self._calls[kind]))
        else:
            self._start(kind[0], self._calls.pop(kind))

    def _start(self, endpoint: Endpoint, calls: Sequence[_Call]) -> None:
        """Run calls here if that is quick, else in the thread."""
        rows = sum(call.rows for call in calls)
        self._metrics.called(endpoint.name, rows)
        if rows <= endpoint.quick:
            _deliver(calls, _outcomes(endpoint, calls))
        else:
            done = asyncio.get_running_loop().run_in_executor(self._thread, _outcomes, endpoint, calls)
            done.add_done_callback(lambda done: _deliver(calls, done.result()))


def _outcomes(endpoint: Endpoint, calls: Sequence[_Call]) -> list[_Outputs | Exception]:
    """Outputs of each call, or its error; if joined calls fail, each runs alone to find the one that does."""
    try:
        outputs = run(endpoint, _joined(calls), deadline=calls[0].deadline)
    except Exception as error:  # noqa: BLE001 - raised again in the task that waits for the call
        return [error] if len(calls) == 1 else [each for call in calls for each in _outcomes(endpoint, [call])]
    return list(_rows_of(outputs, calls))


def _joined(calls: Sequence[_Call]) -> Tensors:
    """The inputs of all calls, concatenated by rows."""
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
        if call.outputs.done():  # the client left
            continue
        if isinstance(outcome, Exception):
            call.outputs.set_exception(outcome)
        else:
            call.outputs.set_result(outcome)
