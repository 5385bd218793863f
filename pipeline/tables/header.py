"""The row of names among the first rows of a table, below titles and comments."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_COMMENT = "#"

Row = Sequence[str]


class Header(NamedTuple):
    """Where the names of a table are, and what they are.

    Attributes:
        row: of the names, counted from 0.
        names: of the columns, without blanks around them; the last is empty where rows end with a separator.
    """

    row: int
    names: list[str]


def find(rows: Sequence[Row]) -> Header:
    """The header among the first rows of a table, each a list of cells.

    The names are the first row that is as long as the others and more than half filled; only comments (``#``), empty
    rows and titles, of which at most half of the cells are filled, may stand above it.

    Raises:
        ValueError: a row above the names could be part of the table.
    """
    width = _width(rows)
    comments = [i for i, row in enumerate(rows) if row and row[0].lstrip().startswith(_COMMENT)]
    for i, row in enumerate(rows):
        filled = sum(bool(cell.strip()) for cell in row)
        if i in comments or 2 * filled <= width:
            continue
        if i - 1 in comments and len(rows[i - 1]) == width and any(_is_number(cell) for cell in row):
            return Header(i - 1, _names([rows[i - 1][0].lstrip(f" {_COMMENT}"), *rows[i - 1][1:]]))
        if len(row) == width:
            return Header(i, _names(row))
        if len(row) == width - 1 and all(not other[-1].strip() for other in rows[i + 1 :] if len(other) == width):
            return Header(i, _names([*row, ""]))
        raise ValueError(f"line {i + 1} has {len(row)} cells, but most lines below it have {width}")
    raise ValueError("it has no line of column names")


def _width(rows: Sequence[Row]) -> int:
    """The most frequent number of cells; of two as frequent the larger."""
    counts = Counter(len(row) for row in rows if any(cell.strip() for cell in row))
    return max(counts, key=lambda width: (counts[width], width), default=0)


def _names(row: Row) -> list[str]:
    return [cell.strip() for cell in row]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
