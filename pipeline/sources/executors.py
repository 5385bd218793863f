"""Runs independent tasks on the cores of this machine or on a Dask cluster. The only module that imports dask."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import InputError, StageError

Task = TypeVar("Task")
Result = TypeVar("Result")

_QUEUED = 2  # tasks submitted for each worker: more would only fill memory with results
_CONNECT_SECONDS = 30
_RETRIES = 3


def local(function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int) -> Iterator[tuple[Task, Result]]:
    """Each task with its result, in the order of completion, by processes of this machine.

    With one worker, or one task, this process does the work itself.

    Raises:
        StageError: a worker was killed.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from ((task, function(task)) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the state of torch's threads
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    try:
        yield from _as_done(pool, function, tasks, _QUEUED * workers)
    except BrokenProcessPool as error:
        raise StageError("a worker was killed, perhaps because memory ran out; finished shards are kept") from error
    finally:
        pool.shutdown(cancel_futures=True)


def dask(function: Callable[[Task], Result], tasks: Sequence[Task], *, address: str) -> Iterator[tuple[Task, Result]]:
    """Each task with its result, in the order of completion, by the workers of a Dask cluster.

    The tasks of a lost worker go to others. Waiting and losses are told on standard error.

    Raises:
        InputError: the package distributed is not installed.
        StageError: there is no scheduler at the address, it has no workers, or its workers die one after the other.
    """
    try:
        from distributed import Client, KilledWorker  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise InputError("prepare.engine: dask needs the package distributed: pip install '.[dask]'") from error
    print(
        f"prepare: asking for the Dask scheduler at {address}, {_CONNECT_SECONDS} s at most",
        file=sys.stderr,
        flush=True,
    )
    try:
        _greet(address)
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, MemoryError) as error:  # memory: Dask takes another program's greeting for a size
        raise StageError(f"prepare.address: no Dask scheduler answers at {address}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
            known = set(client.nthreads())
            client.subscribe_topic("all", partial(_tell_of_loss, known))
            workers = client.nthreads()
            known |= set(workers)
            for worker in known - set(workers):  # which were lost before the scheduler heard of the subscription
                _tell_of_loss(known, (0.0, {"action": "remove-worker", "worker": worker}))
            with client.get_executor(pure=False, retries=_RETRIES) as executor:
                yield from _as_done(executor, function, tasks, _QUEUED * sum(workers.values()))
        except TimeoutError as error:
            raise StageError(f"prepare.address: the Dask scheduler at {address} has no workers") from error
        except KilledWorker as error:
            raise StageError(
                f"prepare.address: workers of {address} die again and again; finished shards are kept: {error}"
            ) from error


def _greet(address: str) -> None:
    """Exchange greetings with a scheduler: Dask's client would wait for those of another program without end.

    Raises:
        OSError, ValueError, MemoryError: no Dask greets there in time.
    """
    from distributed.comm import connect  # noqa: PLC0415 - an extra of its own
    from distributed.security import Security  # noqa: PLC0415

    async def greet() -> None:
        secured = Security().get_connection_args("client")
        (await connect(address, timeout=_CONNECT_SECONDS, **secured)).abort()

    asyncio.run(asyncio.wait_for(greet(), _CONNECT_SECONDS))


def _tell_of_loss(workers: set[str], event: tuple[float, Mapping[str, Any]]) -> None:
    """Print a line for a worker that is gone, at once: where all are, no result comes to tell it by.

    Args:
        workers: addresses of those that there are, which an event changes.
        event: of the scheduler: when, and what.
    """
    _, found = event
    if found.get("action") == "add-worker":
        workers.add(found["worker"])
    elif found.get("action") == "remove-worker" and found["worker"] in workers:
        workers.discard(found["worker"])
        print(
            f"prepare: the Dask worker {found['worker']} is gone, {len(workers)} are left", file=sys.stderr, flush=True
        )


def _as_done(
    executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task], window: int
) -> Iterator[tuple[Task, Result]]:
    """Results in the order of completion; at most ``window`` tasks are submitted at a time."""
    left = iter(tasks)
    running: dict[Future[Result], Task] = {}
    while True:
        for task in islice(left, window - len(running)):
            running[executor.submit(function, task)] = task
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future.result()


def _end_with_parent() -> None:
    """Ignore interrupts, which the parent handles, and end when the parent ends, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.join,), daemon=True).start()


def _exit_after(event: Callable[[], None]) -> None:
    event()
    os._exit(1)
