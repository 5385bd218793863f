"""Progress of long work: a bar on a terminal; elsewhere a plain line every ten seconds."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def track(
    items: Iterable[Item], *, total: int, label: str, note: Callable[[Item], str], done: int = 0
) -> Iterator[Item]:
    """Pass the items on and show how many are done.

    Args:
        items: the work; an item is done when the next is requested.
        total: number of all items.
        label: name of the work.
        note: text about the latest item.
        done: items that were done before.
    """
    console = Console(stderr=True)
    show = _bar if console.is_terminal else _lines
    yield from show(items, total, label, note, done)


def _bar(items: Iterable[Item], total: int, label: str, note: Callable[[Item], str], done: int) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, completed=done, note="")
        for item in items:
            progress.update(task, advance=1, note=note(item))
            yield item


def _lines(items: Iterable[Item], total: int, label: str, note: Callable[[Item], str], done: int) -> Iterator[Item]:
    last = time.monotonic()
    for count, item in enumerate(items, start=done + 1):
        if count == total or time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {count}/{total} {note(item)}".rstrip(), file=sys.stderr, flush=True)
        yield item
