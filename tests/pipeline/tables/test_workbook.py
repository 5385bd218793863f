"""Excel workbooks: the same tables as files of text, with typed columns."""

import datetime as dt
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.tables import table_file, workbook

openpyxl = pytest.importorskip("openpyxl")

ROWS = [
    ["date", "strike", "iv", "note", "flag"],
    [dt.datetime(2025, 9, 16), 100, 0.2, "a", True],
    [dt.datetime(2025, 9, 17), None, 0.25, 3.0, False],
]


def saved(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_column_has_the_one_type_of_its_cells_or_is_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "q.xlsx", {"empty": [], "vols": [["Vols of SPX"], [], *ROWS]})
    assert table_file.read(path).table.to_pydict() == {
        "date": [dt.datetime(2025, 9, 16), dt.datetime(2025, 9, 17)],
        "strike": [100.0, None],
        "iv": [0.2, 0.25],
        "note": ["a", "3"],
        "flag": [True, False],
    }


def test_of_several_sheets_one_must_be_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "q.xlsx", {"one": ROWS, "two": ROWS[:2]})
    with pytest.raises(InputError, match=r"several sheets have rows: one, two; name one as prepare\.quotes\.sheet"):
        table_file.read(path)
    with pytest.raises(InputError, match="it has no sheet three; its sheets: one, two"):
        table_file.read(path, "three")
    assert table_file.read(path, "two").table.num_rows == 1


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.xlsx"
    path.write_bytes(b"PK\x03\x04 not a workbook")
    with pytest.raises(InputError, match=r"q\.xlsx cannot be read as a table: it is no workbook"):
        table_file.read(path)


def test_a_sheet_longer_than_those_of_excel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few megabytes unpack to billions of rows."""
    path = saved(tmp_path / "q.xlsx", {"one": ROWS})
    monkeypatch.setattr(workbook, "_MOST_ROWS", len(ROWS))
    assert table_file.read(path).table.num_rows == 2
    monkeypatch.setattr(workbook, "_MOST_ROWS", 2)
    with pytest.raises(InputError, match=r"a sheet has more than 2 rows, the most that Excel has"):
        table_file.read(path)


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "q.xlsx", {"one": ROWS})
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"Excel files need openpyxl: pip install 'volvae\[excel\]'"):
        table_file.read(path)
