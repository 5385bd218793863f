"""Trials in several processes, each with a folder of its own; what is found has the order of the trials."""

import json
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Violation(NamedTuple):
    """An invariant that did not hold, and the trial that shows it."""

    invariant: str
    trial: str
    found: str


Check = Callable[[int, Path], Iterable[Violation]]


def spread(check: Check, numbers: Sequence[int], folder: Path, *, workers: int) -> list[Violation]:
    """The violations of all trials.

    Args:
        check: does one trial, by its number, in a folder.
        numbers: of the trials.
        folder: below which the trials run.
        workers: processes.

    Raises:
        RuntimeError: a trial could not be done.
    """
    waiting = [_start(check, numbers[k::workers], folder / str(k)) for k in range(workers)]
    ends = [finish() for finish in waiting]
    for end in ends:
        if "error" in end:
            raise RuntimeError(end["error"])
    found = sorted((number, values) for end in ends for number, values in end["found"])
    return [Violation(*values) for _, values in found]


def _start(check: Check, numbers: Sequence[int], folder: Path) -> Callable[[], dict[str, Any]]:
    """Start a process; a function that waits for what it sends."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            found = [(number, violation) for number in numbers for violation in check(number, folder)]
            sent = json.dumps({"found": found})
        except BaseException:  # noqa: BLE001 - the parent reports it
            sent = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(writer, "wb") as stream:
            stream.write(sent.encode())
        os._exit(0)
    os.close(writer)

    def finish() -> dict[str, Any]:
        with os.fdopen(reader, "rb") as stream:
            sent = stream.read()
        os.waitpid(child, 0)
        answer: dict[str, Any] = json.loads(sent) if sent else {"error": "a process ended without a word"}
        return answer

    return finish
