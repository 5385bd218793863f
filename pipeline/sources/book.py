"""A user's file of positions -> the book: calls, puts and the underlying."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.sources import columns
from pipeline.sources.columns import Columns, Wanted
from pipeline.tables.words import OPTION_TYPES
from vae.risk.book import CALL, PUT, UNDERLYING, Book
from vae.surface.days import day_of
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

_TYPES = (*OPTION_TYPES, ("underlying", "u", "spot", "stock", "share", "index", "future", "forward"))
_KINDS = np.array([CALL, PUT, UNDERLYING])
_TENORS: Mapping[str, columns.Kind] = {"expiry": "day", "days": "number", "tenor_years": "number"}
_MOST_ROWS = 5  # that a message names


def read_book(path: Path, *, today: dt.date | None = None) -> Book:
    """The positions of a file, a row each.

    Columns are ``type`` (call, put, underlying), ``strike``, ``quantity``, and one of ``expiry`` (a date), ``days`` and
    ``tenor_years``. Strike and expiry of the underlying are not read.

    Args:
        path: a file of text, a workbook or Parquet.
        today: from which dates of expiry count; needed with these.

    Raises:
        InputError: a column is missing or cannot be read, or a position cannot be: a line for each reason.
    """
    file = Columns.read(path, takes_unclear=True)
    when = [name for name in _TENORS if name in file]
    if len(when) != 1:
        raise InputError(
            f"{path}: the expiry of options must be in one of the columns {', '.join(_TENORS)}; "
            f"found: {', '.join(when) or 'none'}"
        )
    if when == ["expiry"] and today is None:
        raise InputError(f"{path} has dates of expiry: --date says from which day they count")
    kinds: dict[str, columns.Kind] = {
        "type": _TYPES,
        "strike": "number",
        "quantity": "number",
        when[0]: _TENORS[when[0]],
    }
    found = file.found({name: Wanted(name, kind) for name, kind in kinds.items()})
    if file.unclear:
        raise InputError(f"{path}: {file.unclear[0].partition('?')[0]}? Write it without separators of thousands")
    type_, strike, quantity = found["type"], found["strike"], found["quantity"]
    tenor = _years(found[when[0]], when[0], today)
    option = type_ < len(OPTION_TYPES)
    _check(
        path,
        {
            "type is empty; allowed: call, put, underlying": np.isnan(type_),
            "quantity is empty or not finite": ~np.isfinite(quantity),
            "strike must be a number above 0": option & ~(strike > 0.0),
            f"{when[0]} is empty": option & np.isnan(tenor),
            "the option has expired; leave it out": option & (tenor <= 0.0),
        },
    )
    return Book(_KINDS[type_.astype(int)], np.where(option, strike, 0.0), np.where(option, tenor, 0.0), quantity)


def _years(values: Array, name: str, today: dt.date | None) -> Array:
    """Years to expiry from values of that column."""
    if name == "tenor_years":
        return values
    days = values if today is None or name == "days" else values - day_of(today)
    return days / DAYS_PER_YEAR


def _check(path: Path, faults: Mapping[str, NDArray[np.bool_]]) -> None:
    """Raise InputError with a line for each fault that rows [position] have."""
    lines = [f"{what}: {_rows(where)}" for what, where in faults.items() if where.any()]
    if lines:
        raise InputError(f"{path}: " + "\n".join(lines))


def _rows(where: NDArray[np.bool_]) -> str:
    """The first rows that are True, counted from 1 without the header."""
    rows = (np.flatnonzero(where) + 1).tolist()
    shown = ", ".join(str(row) for row in rows[:_MOST_ROWS])
    more = f" and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
