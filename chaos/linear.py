"""Whether a history of promotions and roll-backs by several processes has an order.

Each operation took effect at one moment between its start and its end: a history is linearisable if there is an order
of all operations that keeps those that did not overlap in place, and in which one process alone would have got the same
answers (Herlihy and Wing, "Linearizability", 1990). The search is that of Wing and Gong, with the memory of Lowe
("Testing for linearizability", 2017).
"""

from collections.abc import Sequence
from typing import NamedTuple

Line = tuple[str, ...]  # of champions, the present one last


class Operation(NamedTuple):
    """One operation of one process.

    Attributes:
        kind: ``read``, ``promote`` or ``rollback``.
        version: that shall be champion; empty for the other kinds.
        answer: the champion that was read; the champion before a promotion; the champions before and after a roll-back,
            or none where the first champion was there.
        start, end: times of one clock.
    """

    kind: str
    version: str
    answer: tuple[str, ...]
    start: int
    end: int


def applied(line: Line, operation: Operation) -> tuple[Line, tuple[str, ...]]:
    """The line after an operation, and its answer.

    >>> promote = Operation("promote", "3", (), 0, 0)
    >>> applied(("1", "2"), promote)
    (('1', '2', '3'), ('2',))
    >>> applied(("1", "2"), Operation("rollback", "", (), 0, 0))
    (('1',), ('2', '1'))
    >>> applied(("1",), Operation("rollback", "", (), 0, 0))
    (('1',), ())
    """
    champion = line[-1]
    if operation.kind == "promote":
        return (line if champion == operation.version else (*line, operation.version)), (champion,)
    if operation.kind == "rollback":
        return (line[:-1], (champion, line[-2])) if len(line) > 1 else (line, ())
    return line, (champion,)


def order(processes: Sequence[Sequence[Operation]], line: Line) -> list[Operation] | None:
    """An order of all operations that explains their answers; None where there is none.

    Args:
        processes: operations of each process, one after the other.
        line: of champions at the start.
    """
    seen = set()
    path: list[tuple[tuple[int, ...], Line, Operation | None]] = [((0,) * len(processes), line, None)]
    open_: list[list[tuple[tuple[int, ...], Line, Operation]]] = [_next(processes, path[0][0], line)]
    while open_:
        done = path[-1][0]
        if all(place == len(operations) for place, operations in zip(done, processes, strict=True)):
            return [operation for _, _, operation in path if operation is not None]
        if not open_[-1]:
            open_.pop()
            path.pop()
            continue
        places, after, operation = open_[-1].pop()
        if (places, after) in seen:
            continue
        seen.add((places, after))
        path.append((places, after, operation))
        open_.append(_next(processes, places, after))
    return None


def _next(
    processes: Sequence[Sequence[Operation]], places: tuple[int, ...], line: Line
) -> list[tuple[tuple[int, ...], Line, Operation]]:
    """Operations that may come next, as none that is open ended before they started, and their answer fits."""
    heads = {k: operations[place] for k, operations in enumerate(processes) if (place := places[k]) < len(operations)}
    first_end = min((operation.end for operation in heads.values()), default=0)
    found = []
    for k, operation in heads.items():
        after, answer = applied(line, operation)
        if operation.start <= first_end and answer == operation.answer:
            found.append((tuple(place + (i == k) for i, place in enumerate(places)), after, operation))
    return found
