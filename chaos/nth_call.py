"""The n-th call that touches the disk fails, for every n until the work succeeds in spite of the fault.

After each fault, what stands on the disk is what was there before or what is there after a run without a fault; whoever
reads between two calls finds one of these. A plain rerun then ends as a run without a fault does.
"""

import contextlib
import functools
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from chaos import faults
from chaos.faults import NONE, Fault, Kind, Outcome
from chaos.spread import Violation, spread
from chaos.subjects import Strike, Subject

PROJECT = "project"
_NEVER = 2**62  # the number of no call
_PROGRESS = re.compile(r"\w+: (\d+/\d+ |resumed |\S+ is damaged; training starts anew)")


class Row(NamedTuple):
    """A row of the table."""

    subject: str
    fault: str
    calls: int
    trials: int
    violations: list[Violation]


class Whole(NamedTuple):
    """Contents that a reader finds before and after the work, and the names of all files after it."""

    before: Mapping[str, object]
    after: Mapping[str, object]
    names: set[str]


def rows(
    subject: Subject, folder: Path, chosen: tuple[Fault, ...], *, most: int, seed: int, workers: int
) -> Iterator[Row]:
    """One row a fault.

    Args:
        subject: the transaction.
        folder: empty; the trials run below it.
        chosen: the faults.
        most: trials of a fault; of more calls some are drawn.
        seed: of the draw.
        workers: processes that share the trials.
    """
    expected = whole(subject, folder)
    counts = {kinds: trial(subject, folder, NONE._replace(kinds=kinds), _NEVER).calls for kinds in _kinds(chosen)}
    for fault in chosen:
        calls = counts[fault.kinds]
        numbers = range(1, calls + 1)
        drawn = random.Random(f"{seed} {subject.name} {fault.name}")  # noqa: S311 - no secret
        picked = sorted(drawn.sample(numbers, most)) if calls > most else list(numbers)
        found = spread(partial(_numbered, subject, fault, expected), picked, folder, workers=workers)
        yield Row(subject.name, fault.name, calls, len(picked), found)


def _kinds(chosen: tuple[Fault, ...]) -> list[Kind]:
    """The kinds of calls that faults may strike, each once: a run without a fault counts the calls."""
    return list(dict.fromkeys(fault.kinds for fault in chosen))


def _numbered(subject: Subject, fault: Fault, expected: Whole, n: int, folder: Path) -> Iterator[Violation]:
    return check(subject, folder, fault, n, expected)


def check(subject: Subject, folder: Path, fault: Fault, n: int, expected: Whole) -> Iterator[Violation]:
    """The violations of one trial."""
    name = f"{subject.name}:{fault.name}:{n}"
    struck = trial(subject, folder, fault, n)
    if fault.survived and struck.code:
        yield Violation("the work goes on", name, _end(struck))
    elif struck.code and not (fault.deadly and struck.code == -9):
        yield from one_line(name, struck)
    yield from afterwards(subject, folder, name, struck, expected)


def afterwards(subject: Subject, folder: Path, name: str, struck: Outcome, expected: Whole) -> Iterator[Violation]:
    """The violations that are found after a trial: by a reader, by a rerun, and by a reader again.

    One new process does all three, as to start it takes longer than to look.
    """
    outcome = faults.run(partial(_aftermath, subject), folder / PROJECT)
    if outcome.code or not isinstance(outcome.result, dict):
        yield Violation("a reader does not fail", name, f"{_end(outcome)}; {_end(struck)}")
        return
    state, code = outcome.result["found"], outcome.result["code"]
    for part, value in state.items():
        if value not in (expected.before[part], expected.after[part]):
            yield Violation("old or new, whole", name, f"{part} is {value}; {_end(struck)}")
        elif struck.code == 0 and value != expected.after[part]:
            yield Violation("what is acknowledged is done", name, f"{part} is {value}")
    if code and not (subject.remains and code == 2 and state == expected.after):
        yield Violation("a rerun converges", name, f"{_end(struck)}; rerun: {_end(outcome._replace(code=code))}")
        return
    state = outcome.result["again"]
    if state != expected.after:
        yield Violation("a rerun converges", name, f"{state}; {_end(struck)}")
    left = _names(folder / PROJECT) - expected.names
    if left:
        yield Violation("nothing is left behind", name, f"{', '.join(sorted(left)[:3])}; {_end(struck)}")


def _aftermath(subject: Subject, strike: Strike) -> dict[str, object]:
    """The state that a reader finds, the exit code of a rerun, and the state that a reader finds then."""
    found = subject.state(strike)
    code, _ = faults.ended(lambda: subject.work(contextlib.nullcontext()))
    return {"found": found, "code": code, "again": subject.state(strike)}


@functools.cache
def whole(subject: Subject, folder: Path) -> Whole:
    """Contents that a reader finds before and after a run without a fault."""
    fresh(subject, folder)
    before = _state(subject, folder, subject.name)
    outcome = _run(subject, folder)
    after = _state(subject, folder, subject.name)
    if outcome.code or isinstance(before, Violation) or isinstance(after, Violation):
        raise RuntimeError(f"{subject.name} fails without a fault: {outcome.said}, {before}, {after}")
    return Whole(before, after, _names(folder / PROJECT))


def fresh(subject: Subject, folder: Path) -> None:
    """Make the folder what the work starts from."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(subject.template, folder / PROJECT)


def trial(subject: Subject, folder: Path, fault: Fault, n: int) -> Outcome:
    """A run in a fresh folder."""
    fresh(subject, folder)
    return _run(subject, folder, fault, n)


def _run(subject: Subject, folder: Path, fault: Fault = NONE, n: int = 0) -> Outcome:
    return faults.run(subject.work, folder / PROJECT, fault, n)


def _state(subject: Subject, folder: Path, name: str) -> Mapping[str, object] | Violation:
    """Contents that a reader finds; a reader that fails is a violation."""
    outcome = faults.run(subject.state, folder / PROJECT)
    if outcome.code or not isinstance(outcome.result, dict):
        return Violation("a reader does not fail", name, _end(outcome))
    return outcome.result


def one_line(name: str, outcome: Outcome) -> Iterator[Violation]:
    """The violation, if there is one: a failure ends with one line on standard error, beside those of progress."""
    lines = [line for line in outcome.said.splitlines() if line and not _PROGRESS.match(line)]
    if outcome.code not in (1, 2) or len(lines) != 1:
        yield Violation("one clear line", name, _end(outcome))


def _end(outcome: Outcome) -> str:
    """Exit code and last words of a child."""
    return f"exit {outcome.code}: {outcome.said.strip()[-300:]}".replace("\n", " | ")


def _names(folder: Path) -> set[str]:
    """Names of all files but random ones, of a registry's artifacts, and SQLite's journal, which it takes again."""
    names = (path.relative_to(folder) for path in folder.rglob("*"))
    return {str(name) for name in names if not {"mlartifacts", "mlflow.db-journal"} & {*name.parts}}
