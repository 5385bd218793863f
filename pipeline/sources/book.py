"""A user's file of positions -> the book: calls, puts and the underlying."""

import datetime as dt
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import InputError, listed
from pipeline.sources import columns
from pipeline.sources.columns import Columns, Texts, Wanted
from pipeline.tables.words import EXERCISES, OPTION_TYPES
from vae.risk.book import CALL, PUT, UNDERLYING, Book
from vae.surface.days import day_of
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

_TYPES = (*OPTION_TYPES, ("underlying", "u", "spot", "stock", "share", "index", "future", "forward"))
_KINDS = np.array([CALL, PUT, UNDERLYING])
_TENORS: Mapping[str, columns.Kind] = {"expiry": "day", "days": "number", "tenor_years": "number"}
_SETTING = re.compile(r"; (set|others by) prepare\.quotes\.date_format.*")  # which no book has
# Columns that would change a position, by their names without signs.
_MULTIPLIERS = ("multiplier", "contractsize", "contractmultiplier", "lotsize", "lot", "pointvalue")
_SIDES = ("side", "direction", "buysell", "longshort", "bs", "ls")
_SOLD = ("sell", "sold", "short", "s", "-1", "-")
_SYMBOLS = ("symbol", "ticker")  # of the underlying, or of the option where it has digits
_UNDERLYINGS = ("market", "underlying", "underlyingsymbol", "root", "rootsymbol", "optionroot", *_SYMBOLS)
_AMERICAN = EXERCISES[1]
_EXERCISES = ("exercise", "exercisestyle", "style", "optionstyle")
_MOST_ROWS = 5  # that a message names


def read_book(path: Path, *, today: dt.date | None = None) -> Book:
    """The positions of a file, a row each.

    Columns are ``type`` (call, put, underlying), ``strike``, ``quantity``, and one of ``expiry`` (a date), ``days`` and
    ``tenor_years``. Strike and expiry of the underlying are not read; no other column is.

    Args:
        path: a file of text, a workbook or Parquet.
        today: from which dates of expiry count; needed with these.

    Raises:
        InputError: a column is missing or cannot be read, another one would change a position, such as a multiplier or
            a side, or a position cannot be: a line for each reason.
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
    _check_others(file, {name for name in file.distinct_names if name.casefold() not in kinds})
    try:
        found = file.found({name: Wanted(name, kind) for name, kind in kinds.items()})
    except InputError as error:
        raise InputError(*(_SETTING.sub("; write dates as 2026-03-02", line) for line in error.args)) from error
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


def _check_others(file: Columns, names: Collection[str]) -> None:
    """Raise InputError for columns that are not read and would change what a position is worth."""
    checks = (
        (_MULTIPLIERS, _check_multiplier),
        (_SIDES, _check_side),
        (_UNDERLYINGS, _check_underlying),
        (_EXERCISES, _check_exercise),
    )
    for name in sorted(names):
        for known, check in checks:
            if _plain(name) in known:
                check(file, name)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _check_multiplier(file: Columns, name: str) -> None:
    if not _are_ones(file, name):
        values = listed(_texts(file, name).values)
        raise InputError(
            f"{file.path}: column {name} ({values}) is not read; multiply quantity by it, and leave the column out"
        )


def _are_ones(file: Columns, name: str) -> bool:
    """Whether a column holds nothing but ones, which are written as 1.00 too, or nothing."""
    try:
        numbers = file.numbers(name)
    except InputError:
        return False
    return bool(np.isin(numbers[~np.isnan(numbers)], 1.0).all())


def _check_side(file: Columns, name: str) -> None:
    """Raise InputError where a position is called sold that a quantity above 0 makes a bought one."""
    code, values = _texts(file, name)
    sold = [number for number, value in enumerate(values) if value.casefold() in _SOLD]
    if (np.isin(code, sold) & (file.numbers("quantity") > 0.0)).any():
        raise InputError(
            f"{file.path}: column {name} ({listed(values)}) is not read; write what is sold as a negative quantity, "
            "and leave the column out"
        )


def _check_underlying(file: Columns, name: str) -> None:
    """Raise InputError where a book has two underlyings; one has several roots, such as SPX and SPXW."""
    values = _texts(file, name).values
    if _plain(name) in _SYMBOLS:
        values = tuple(value for value in values if not any(letter.isdigit() for letter in value))
    root = min(values, key=len, default="").casefold()
    if not all(value.casefold().startswith(root) for value in values):
        raise InputError(
            f"{file.path}: column {name} has {listed(values)}; a book is of one underlying: make one of each"
        )


def _check_exercise(file: Columns, name: str) -> None:
    values = _texts(file, name).values
    if any(value.casefold() in _AMERICAN for value in values):
        raise InputError(
            f"{file.path}: column {name} has {listed(values)}; only European options are valued: leave others out"
        )


def _texts(file: Columns, name: str) -> Texts:
    """A column as text.

    Raises:
        InputError: its cells are lists or bytes.
    """
    try:
        return file.texts(name)
    except pa.ArrowException as error:
        raise InputError(f"{file.path}: column {name} holds neither text nor numbers: leave it out") from error


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
        raise InputError(f"{path}: {lines[0]}", *lines[1:])


def _rows(where: NDArray[np.bool_]) -> str:
    """The first rows that are True, counted from 1 without the header."""
    rows = (np.flatnonzero(where) + 1).tolist()
    shown = ", ".join(str(row) for row in rows[:_MOST_ROWS])
    more = f" and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
