"""Labels of tenors, as foreign exchange and rates quote them, in years."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.tables.cell_errors import CellError, cells
from vae.surface.units import DAYS_PER_YEAR

_NIGHTS = {"on": 1, "o/n": 1, "overnight": 1, "tn": 2, "t/n": 2, "sn": 3, "s/n": 3}  # in days
_LABEL = re.compile(
    r"(\d+(?:\.\d+)?)\s*(?:(d|days?)|(w|wks?|weeks?)|(m|mos?|mths?|mons?|months?)|(y|yrs?|years?))", re.IGNORECASE
)
_YEARS = (1.0 / DAYS_PER_YEAR, 7.0 / DAYS_PER_YEAR, 1.0 / 12.0, 1.0)  # of a day, a week, a month and a year
_ALLOWED = "ON, TN, SN, or a number of days, weeks, months or years such as 2W, 3M or 1Y"


def years(column: pa.Array) -> NDArray[np.float64]:
    """The tenors of a column of labels, NaN where it is null, [row].

    A day is 1/365 of a year, a week 7 days, a month a twelfth of a year. No calendar is asked, so that a label is the
    same tenor on every date.

    Raises:
        CellError: a cell is no label of a tenor.
    """
    labels = pc.unique(column)
    found = [_years(label.as_py()) for label in labels]
    rows: NDArray[np.float64] = np.array(found, np.float64)[pc.index_in(column, labels).to_numpy(zero_copy_only=False)]
    wrong = np.isnan(rows) & column.is_valid().to_numpy(zero_copy_only=False)
    if wrong.any():
        raise CellError(f"holds {cells(column, wrong)}; allowed: {_ALLOWED}")
    return rows


def are_labels(column: pa.Array) -> bool:
    """Whether all cells of a column that are not null are labels of tenors."""
    labels = pc.drop_null(pc.unique(column.slice(0, 10_000)))
    return len(labels) > 0 and all(_years(label.as_py()) is not None for label in labels)


def _years(label: str | None) -> float | None:
    """A label in years; None where it is no label."""
    if label is None:
        return None
    nights = _NIGHTS.get(label.lower())
    if nights is not None:
        return nights / DAYS_PER_YEAR
    match = _LABEL.fullmatch(label)
    if match is None:
        return None
    unit = next(i for i, text in enumerate(match.groups()[1:]) if text)
    return float(match[1]) * _YEARS[unit]
