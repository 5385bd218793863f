"""Faults of the cells of a column, in words that name the rows."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SHOWN = 3  # rows that a sentence names


class CellError(Exception):
    """Cells that cannot be read as what the column must hold; the message follows "column NAME"."""


def cells(column: pa.Array, wrong: NDArray[np.bool_]) -> str:
    """The first cells of a column that are wrong, by row counted from 1, and the number of all of them.

    Args:
        column: its cells.
        wrong: true where a cell is wrong, [row]; somewhere it is.
    """
    rows = np.flatnonzero(wrong)
    first: dict[str, list[str]] = {}
    for row in rows[:_SHOWN].tolist():
        first.setdefault(_shown(column[row].as_py()), []).append(f"{row + 1:,}")
    more = f" ({len(rows):,} such rows)" if len(rows) > _SHOWN else ""
    return " and ".join(f"{cell} in row{'s' * (len(own) > 1)} {', '.join(own)}" for cell, own in first.items()) + more


def _shown(cell: object) -> str:
    return repr(cell) if isinstance(cell, str) else f"{cell:.12g}"
