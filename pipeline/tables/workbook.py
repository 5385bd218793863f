"""Tables in Excel workbooks (.xlsx): one sheet, its header found as in files of text."""

import datetime as dt
import io
import itertools
import zipfile
from collections.abc import Iterable, Sequence

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.tables import header

_HEAD = 500  # rows in which the header is looked for
_MOST_ROWS = 2**20  # of a sheet of Excel; a file of megabytes may claim billions

Row = Sequence[object]


def read(content: bytes, sheet: str | None) -> pa.Table:
    """The table of a workbook: of the sheet, or of the only one that has rows.

    A column of numbers, dates or truth values has that type; every other one is text. Formulas have the values that
    Excel saved.

    Raises:
        InputError: openpyxl is not installed.
        ValueError: the content is no workbook, or several sheets have rows and none is named, or a sheet has too many.
    """
    try:
        import openpyxl  # noqa: PLC0415 - an extra, and only workbooks need it
    except ImportError as error:
        raise InputError("Excel files need openpyxl: pip install 'volvae[excel]'") from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise ValueError(f"it is no workbook ({error})") from error
    names = book.sheetnames if sheet is None else [name for name in book.sheetnames if name == sheet]
    if not names:
        raise ValueError(f"it has no sheet {sheet}; its sheets: {', '.join(book.sheetnames)}")
    rows = {name: found for name in names if (found := _rows(book[name].iter_rows(values_only=True)))}
    if len(rows) > 1:
        raise ValueError(f"several sheets have rows: {', '.join(rows)}; name one as prepare.quotes.sheet")
    return _table(next(iter(rows.values()), []))


def _rows(cells: Iterable[Row]) -> list[Row]:
    found = []
    for number, row in enumerate(cells):
        if number == _MOST_ROWS:
            raise ValueError(f"a sheet has more than {_MOST_ROWS:,} rows, the most that Excel has")
        if any(cell is not None for cell in row):
            found.append(row)
    return found


def _table(rows: list[Row]) -> pa.Table:
    head = [["" if cell is None else str(cell) for cell in row] for row in rows[:_HEAD]]
    found = header.find(head)
    below = itertools.zip_longest(*rows[found.row + 1 :])
    columns = [_column(cells) for cells in below] or [pa.array([], pa.string()) for _ in found.names]
    return pa.table(columns, names=found.names)


def _column(cells: Row) -> pa.Array:
    """The cells of a column by the one type that all of them have, else as text."""
    types = {type(cell) for cell in cells if cell is not None}
    if types <= {int, float}:
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
