"""Tables in Excel workbooks (.xlsx): one sheet, its header found as in files of text."""

import datetime as dt
import io
import itertools
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.tables import header

_HEAD = 500  # rows in which the header is looked for
_MOST_ROWS = 2**20  # of a sheet of Excel; a file of megabytes may claim billions
_DAMAGED = (zipfile.BadZipFile, KeyError, SyntaxError)  # the last is of XML

_LITERAL = re.compile(r'"[^"]*"|\\.')  # parts of a number format that are shown as they are

Row = Sequence[object]


class _Cell(Protocol):
    """A cell of openpyxl."""

    value: object
    number_format: str


class _Percent(float):
    """A number that Excel shows in percent: 1.2 as 120 %."""


class Sheet(NamedTuple):
    """A table of a workbook.

    Attributes:
        table: of typed columns.
        percent: places of the columns most of whose numbers Excel shows in percent, so that 1.2 is 120 %.
        first_day: from which the workbook counts days: 1899-12-30, or 1904-01-01 where it was made so.
    """

    table: pa.Table
    percent: frozenset[int]
    first_day: dt.date


def read(content: bytes, sheet: str | None) -> Sheet:
    """The table of a workbook: of the sheet, or of the only one that has rows.

    A column of numbers, dates or truth values has that type; every other one is text. Formulas have the values that
    Excel saved.

    Raises:
        InputError: openpyxl is not installed.
        ValueError: the content is no workbook or damaged, or several sheets have rows and none is named, or a sheet has
            too many.
    """
    try:
        import openpyxl  # noqa: PLC0415 - an extra, and only workbooks need it
    except ImportError as error:
        raise InputError("Excel files need openpyxl: pip install 'volvae[excel]'") from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except (*_DAMAGED, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise ValueError(f"it is no workbook ({error})") from error
    tables = {own.title: own for own in book.worksheets}  # sheets of charts hold no cells
    if sheet is not None and sheet not in tables:
        raise ValueError(f"it has no sheet {sheet}; its sheets: {', '.join(tables)}")
    wanted = tables if sheet is None else {sheet: tables[sheet]}
    try:
        rows = {name: found for name, own in wanted.items() if (found := _rows(own.iter_rows()))}
    except _DAMAGED as error:
        raise ValueError(f"it is damaged ({error})") from error
    if len(rows) > 1:
        raise ValueError(f"several sheets have rows: {', '.join(rows)}; name one as prepare.quotes.sheet")
    return _sheet(next(iter(rows.values()), []), book.epoch.date())


def _rows(cells: Iterable[Sequence[_Cell]]) -> list[Row]:
    found: list[Row] = []
    for number, of_row in enumerate(cells):
        if number == _MOST_ROWS:
            raise ValueError(f"a sheet has more than {_MOST_ROWS:,} rows, the most that Excel has")
        row = [_value(cell) for cell in of_row]
        if any(cell is not None for cell in row):
            found.append(row)
    return found


def _value(cell: _Cell) -> object:
    value = cell.value
    if type(value) in (int, float) and "%" in _LITERAL.sub("", cell.number_format):
        return _Percent(value)  # type: ignore[arg-type]
    return value


def _sheet(rows: list[Row], first_day: dt.date) -> Sheet:
    head = [["" if cell is None else _name(cell) for cell in row] for row in rows[:_HEAD]]
    found = header.find(head)
    below = list(itertools.zip_longest(*rows[found.row + 1 :]))
    columns = [_column(cells) for cells in below] or [pa.array([], pa.string()) for _ in found.names]
    percent = frozenset(i for i, cells in enumerate(below) if _in_percent(cells))
    return Sheet(pa.table(columns, names=found.names), percent, first_day)


def _name(cell: object) -> str:
    """A cell of the header; 1 in the format 0% is 1, as in any other."""
    return _text(cell) if isinstance(cell, _Percent) else str(cell)


def _in_percent(cells: Row) -> bool:
    kinds = [isinstance(cell, _Percent) for cell in cells if isinstance(cell, int | float)]
    return 2 * sum(kinds) > len(kinds)


def _column(cells: Row) -> pa.Array:
    """The cells of a column by the one type that all of them have, else as text."""
    types = {type(cell) for cell in cells if cell is not None}
    if types <= {int, float, _Percent}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())  # type: ignore[arg-type]
    for kind, arrow in ((dt.datetime, pa.timestamp("us")), (bool, pa.bool_())):
        if types == {kind}:
            return pa.array(cells, arrow)
    return pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())


def _text(cell: object) -> str:
    """A cell as text; a date as ISO writes it, a whole number without decimals."""
    if isinstance(cell, dt.datetime):
        return cell.isoformat(sep=" ")
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
