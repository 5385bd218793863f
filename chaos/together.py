"""Two processes do the same at once in one folder, one of which may be killed.

Each succeeds, or ends with one line; what stands there afterwards is old or new, whole, and a rerun ends as one process
alone does.
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from chaos import faults, nth_call
from chaos.faults import FAULTS, NONE
from chaos.nth_call import Row, Whole
from chaos.spread import Violation, spread
from chaos.subjects import Subject

(_KILL,) = (fault for fault in FAULTS if fault.name == "SIGKILL")


def rows(subjects: Sequence[Subject], folder: Path, *, trials: int, seed: int, workers: int) -> Iterator[Row]:
    """One row a subject; the trials are shared among them."""
    for subject in subjects:
        whole, count = nth_call.whole(subject, folder), trials // len(subjects)
        calls = nth_call.trial(subject, folder, NONE, 0).calls
        found = spread(partial(_check, subject, seed, calls, whole), range(count), folder, workers=workers)
        yield Row(subject.name, "two at once", calls, count, found)


def _check(subject: Subject, seed: int, calls: int, whole: Whole, number: int, folder: Path) -> Iterator[Violation]:
    drawn = random.Random(f"{seed} {subject.name} {number}")  # noqa: S311 - no secret
    n = drawn.randrange(1, 2 * calls)  # half of the second ones live
    nth_call.fresh(subject, folder)
    project = folder / nth_call.PROJECT
    waiting = [faults.start(subject.work, project), faults.start(subject.work, project, _KILL, n)]
    name = f"{subject.name}:two at once:{number}"
    ends = [finish() for finish in waiting]
    for end in ends:
        if end.code not in (0, -9):
            yield from nth_call.one_line(name, end)
    yield from nth_call.afterwards(subject, folder, name, ends[0], whole)
