"""Excel workbooks: the same tables as files of text, with typed columns."""

import datetime as dt
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.sources.columns import Columns
from pipeline.tables import table_file, workbook

openpyxl = pytest.importorskip("openpyxl")
MAC_EPOCH, WINDOWS_EPOCH = openpyxl.utils.datetime.MAC_EPOCH, openpyxl.utils.datetime.WINDOWS_EPOCH

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


def test_columns_in_percent_are_known_by_the_formats_of_their_cells(tmp_path: Path) -> None:
    """A percent sign in quotation marks, or after a backslash, is one that somebody wrote beside the number."""
    book = openpyxl.Workbook()
    book.active.append(["a", "b", "c", "d", "e"])
    for value in (1.2, 1, None):
        book.active.append([value, value, value, value, "x"])
    for column, form in zip("abcd", ("0.0%", "General", '0.0"%"', r"0.0\%"), strict=True):
        for row in (2, 3):
            book.active[f"{column.upper()}{row}"].number_format = form
    book.active["A3"].number_format = "0%"
    book.save(tmp_path / "q.xlsx")
    found = table_file.read(tmp_path / "q.xlsx")
    assert found.percent == {0}
    assert found.table["a"].to_pylist() == [1.2, 1.0, None]


def test_names_of_columns_are_the_numbers_of_their_cells(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["date", 1, 1, 0.9], ["2025-09-16", 0.2, 0.2, 0.25]):
        book.active.append(row)
    for cell in ("C1", "D1"):
        book.active[cell].number_format = "0%"
    book.save(tmp_path / "q.xlsx")
    assert table_file.read(tmp_path / "q.xlsx").table.column_names == ["date", "1", "1", "0.9"]


@pytest.mark.parametrize("epoch", [WINDOWS_EPOCH, MAC_EPOCH])
def test_days_are_counted_from_the_day_of_the_workbook(tmp_path: Path, epoch: dt.datetime) -> None:
    book = openpyxl.Workbook()
    book.epoch = epoch
    days = (dt.datetime(2023, 2, 15) - epoch).days
    for row in (["number", "text", "date"], [days, str(days), dt.datetime(2023, 2, 15)]):
        book.active.append(row)
    book.save(tmp_path / "q.xlsx")
    columns = Columns.read(tmp_path / "q.xlsx")
    assert [columns.instants(name).tolist() for name in columns.names] == [[19_403.0]] * 3


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


def test_a_sheet_of_a_chart_holds_no_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    book.create_chartsheet("chart").add_chart(openpyxl.chart.LineChart())
    book.save(tmp_path / "q.xlsx")
    assert table_file.read(tmp_path / "q.xlsx").table.num_rows == len(ROWS) - 1


def test_a_sheet_that_is_cut_is_named_as_damaged(tmp_path: Path) -> None:
    whole, cut = saved(tmp_path / "q.xlsx", {"vols": ROWS}), tmp_path / "cut.xlsx"
    with zipfile.ZipFile(whole) as before, zipfile.ZipFile(cut, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content[: len(content) // 2] if "worksheets" in name else content)
    with pytest.raises(InputError, match=r"cut.xlsx cannot be read as a table: it is damaged"):
        table_file.read(cut)
