"""Files of text as people export them: what separates their cells, where the names are, which rows do not fit."""

import gzip
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.tables import table_file
from pipeline.tables.table_file import TableFile

ROWS = {"Datum": ["1", "2"], "Größe": ["0.5", None]}


def opened(tmp_path: Path, content: bytes, name: str = "q.csv") -> TableFile:
    path = tmp_path / name
    path.write_bytes(content)
    return table_file.read(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path: Path, separator: str, end: str) -> None:
    text = end.join(separator.join(row) for row in (("Datum", "Größe"), ("1", "0.5"), ("2", ""))) + end
    file = opened(tmp_path, text.encode())
    assert file.table.to_pydict() == ROWS
    assert file.format is not None
    assert file.format.separator == separator


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert opened(tmp_path, mark + "Datum,Größe\n1,0.5\n2,\n".encode(encoding)).table.to_pydict() == ROWS


@pytest.mark.parametrize("name", ["q.CSV", "q.tsv", "q.txt", "q.csv.gz", "q.TSV.GZ", "q.txt.gz"])
def test_endings_of_names(tmp_path: Path, name: str) -> None:
    content = "Datum,Größe\n1,0.5\n2,\n".encode()
    assert (
        opened(tmp_path, gzip.compress(content) if name.lower().endswith("gz") else content, name).table.num_rows == 2
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b,c\n1,2,3\n", 1),
        (" a , b,c\n 1, 2,3\n", 1),
        ("\n# made on Monday\na,b,c\n1,2,3\n", 3),
        ("# a,b,c\n1,2,3\n", 1),
        ("sep=,\na,b,c\n1,2,3\n", 2),
        ("Vols of SPX\nat noon\n\na,b,c\n1,2,3\n", 4),
        ("Vols of SPX,,\na,b,c\n1,2,3\n", 2),
        ("a,b,c\n1,2,3,\n", 1),
        ('a,"b",c\n1,"2",3\n', 1),
        ("a,b,c\n\n1,2,3\n   \n# noon\n,,\n", 1),
    ],
)
def test_names_stand_below_titles_and_comments(tmp_path: Path, text: str, line: int) -> None:
    file = opened(tmp_path, text.encode())
    assert [name for name in file.table.column_names if name] == ["a", "b", "c"]
    assert [file.table[name][0].as_py().strip() for name in "abc"] == ["1", "2", "3"]
    assert file.format is not None
    assert file.format.header_line == line


def test_a_name_may_hold_a_line_break(tmp_path: Path) -> None:
    table = opened(tmp_path, b'a,"25 Delta\nRR"\n1,2\n').table
    assert table.to_pydict() == {"a": ["1"], "25 Delta\nRR": ["2"]}


def test_decimal_commas_do_not_separate(tmp_path: Path) -> None:
    """Though they would make the same number of columns."""
    table = opened(tmp_path, b"k;t;vol\n0,1;0,2;0,3\n0,2;0,2;0,4\n").table
    assert table.to_pydict() == {"k": ["0,1", "0,2"], "t": ["0,2", "0,2"], "vol": ["0,3", "0,4"]}


def test_cells_that_stand_for_nothing_are_null(tmp_path: Path) -> None:
    cells = ["-", "--", "None", "n/a", "N/A", "NaN", "#N/A", "null", "NULL", "", "#VALUE!"]
    content = "a,b\n" + "".join(f"1,{cell}\n" for cell in cells)
    assert opened(tmp_path, content.encode()).table["b"].null_count == len(cells)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"date,strike\n1,2,3\n1,2,3\n", "line 1 has 2 cells, but most lines below it have 3"),
        (
            b"a,b,c\n1,2,3\n4,5\n6,7,8\n9\n",
            r"must have 3 cells .* row 2 has 2 \('4,5'\), row 4 has 1 \('9'\)",
        ),
        (b"a,b,c\n1,2,3\n4,5,6\nTotal: 2 rows\n", r"but row 3 has 1 \('Total: 2 rows'\)"),
        (b"a,b|c,d\n1,2|3,4\n", None),
        (b"a|b,c\n1|2,3\n", "comma and bar separate its lines equally well"),
        (b"a,b\n1,\x00\n", "it holds zero bytes"),
        (b"\n \n", "it is empty"),
        (b"\x8d,IV\n1,2\n", "its encoding is none of UTF-8, UTF-16 and windows-1252: save it as"),
    ],
)
def test_what_is_unclear_is_refused(tmp_path: Path, content: bytes, message: str | None) -> None:
    if message is None:  # the separator of more columns
        assert opened(tmp_path, content).table.column_names == ["a", "b|c", "d"]
        return
    with pytest.raises(InputError, match=rf"q\.csv cannot be read as a table: .*{message}"):
        opened(tmp_path, content)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(b"a,b\n1,2\n" * 100)
    for damaged in (content[:-9], content[:20] + b"x" * 20, b"a,b\n1,2\n"):
        with pytest.raises(InputError, match=r"q\.csv\.gz cannot be read as a table"):
            opened(tmp_path, damaged, "q.csv.gz")
