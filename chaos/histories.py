"""Promotions, roll-backs and reads of four processes at once, as one history."""

import json
import os
import random
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

from chaos.linear import Operation, order
from chaos.nth_call import Row
from chaos.spread import Violation
from chaos.subjects import opened
from pipeline.errors import InputError
from pipeline.registry.registry import CHAMPION, Registry

_PROCESSES = 4
_MOST = 400  # operations of a history; each takes longer than the one before, as the record of promotions grows
_VERSIONS = ("1", "2", "3")


def history(store: Path, folder: Path, *, operations: int, seed: int) -> list[list[Operation]]:
    """The operations of each process.

    Args:
        store: folder with three versions, of which 2 is champion after 1.
        folder: empty.
        operations: of all processes together.
        seed: of what they do.

    Raises:
        RuntimeError: an operation failed.
    """
    shutil.copytree(store, folder, dirs_exist_ok=True)
    children = []
    for number in range(_PROCESSES):
        path = folder / f"history.{number}"
        child = os.fork()
        if not child:
            _work(folder, path, operations // _PROCESSES, random.Random(f"{seed} {number}"))  # noqa: S311 - no secret
        children.append((child, path))
    for child, _ in children:
        os.waitpid(child, 0)
    for error in folder.glob("history.*.error"):
        raise RuntimeError(error.read_text())
    return [[_read(values) for values in json.loads(path.read_text())] for _, path in children]


def row(store: Path, folder: Path, *, operations: int, seed: int) -> Row:
    """The row of the table: whether each of the histories, which have so many operations in all, has an order."""
    done, violations = 0, []
    for number, before in enumerate(range(0, operations, _MOST), seed):
        trial = f"seed {number}"
        try:
            found = history(store, folder / trial, operations=min(_MOST, operations - before), seed=number)
        except RuntimeError as error:
            violations.append(Violation("processes do not fail each other", trial, str(error)))
            continue
        done += sum(map(len, found))
        if order(found, ("1", "2")) is None:
            violations.append(Violation("promotions have an order", trial, "they have none"))
        shutil.rmtree(folder / trial)
    return Row("history", "at once", operations, done, violations)


def _read(values: list[Any]) -> Operation:
    kind, version, answer, start, end = values
    return Operation(str(kind), str(version), tuple(answer), int(start), int(end))


def _work(folder: Path, path: Path, count: int, drawn: random.Random) -> None:
    try:
        os.chdir(folder)
        with opened() as models:
            path.write_text(json.dumps([_operation(models, drawn) for _ in range(count)]))
    except BaseException:  # noqa: BLE001 - the parent reports it
        path.with_name(f"{path.name}.error").write_text(traceback.format_exc())
    finally:
        os._exit(0)


def _operation(models: Registry, drawn: random.Random) -> Operation:
    kind = drawn.choice(("read", "promote", "rollback"))
    version = drawn.choice(_VERSIONS) if kind == "promote" else ""
    start = time.monotonic_ns()
    answer: tuple[str, ...] = ()
    if kind == "read":
        answer = (models.find(CHAMPION).number,)
    elif kind == "promote":
        former = models.promote(models.find(version))
        answer = (former.number,) if former else ()
    else:
        try:
            left, now = models.roll_back()
            answer = (left.number, now.number)
        except InputError:
            answer = ()
    return Operation(kind, version, answer, start, time.monotonic_ns())
