"""Tables in files of text: encoding, separator and header are found in the file, all cells stay text."""

import codecs
import csv
import io
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from pipeline.tables import header
from pipeline.tables.header import Header

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MISSING = (
    *("", "-", "--", "#N/A", "#N/A N/A", "#NA", "N/A", "n/a", "NA", "NaN", "nan", "NAN", "-NaN", "-nan"),
    *("NULL", "null", "None", "none", "NONE", "Null", "#DIV/0!", "#NUM!", "#REF!", "#VALUE!"),
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE, _SAMPLE_ROWS = 2**20, 500  # characters and rows in which separator and header are looked for
_BLOCK = 2**24  # bytes that Arrow reads at a time
_SHOWN = 3  # rows named in a message


class TextFormat(NamedTuple):
    """The format of a file of text.

    Attributes:
        encoding: utf-8, utf-16-le, utf-16-be or windows-1252.
        separator: of cells, one of ``SEPARATORS``.
        header_line: of the column names, counted from 1.
        decimal_mark: of its numbers, where these show one.
    """

    encoding: str
    separator: str
    header_line: int
    decimal_mark: str | None = None

    def __str__(self) -> str:
        found = [f"separated by {SEPARATORS[self.separator]}"]
        if self.decimal_mark is not None:
            found.append(f"decimal mark {self.decimal_mark!r}")
        if self.encoding != "utf-8":
            found.append(self.encoding)
        if self.header_line > 1:
            found.append(f"names in line {self.header_line}")
        return ", ".join(found)


def read(content: bytes) -> tuple[pa.Table, TextFormat]:
    """The table of a file's content, all columns text, null where a cell is empty or one of ``MISSING``.

    Raises:
        ValueError: the content is no text, no separator makes columns of it, or a row is longer or shorter than others.
    """
    content, encoding = _as_utf8(content)
    separator, names, lines = _layout(content)
    start = sum(len(line.encode()) for line in lines)
    return _rows(pa.py_buffer(content).slice(start), names, separator), TextFormat(encoding, separator, len(lines))


def _as_utf8(content: bytes) -> tuple[bytes, str]:
    """The content in UTF-8 without byte order mark, and the encoding it had."""
    marked = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), None)
    if marked is not None:
        content, encoding = content[len(marked[0]) :], marked[1]
    else:  # Latin letters in UTF-16 have a zero byte each
        encoding = "utf-16-le" if 2 * content[1:200:2].count(0) > len(content[1:200:2]) else "utf-8"
    if encoding != "utf-8" or not _is_utf8(content):
        encoding = "windows-1252" if encoding == "utf-8" else encoding
        try:
            content = content.decode(encoding).encode()
        except UnicodeDecodeError as error:
            raise ValueError("its encoding is none of UTF-8, UTF-16 and windows-1252: save it as UTF-8") from error
    if b"\0" in content:
        raise ValueError("it holds zero bytes, as no text does")
    return content, encoding


def _is_utf8(content: bytes) -> bool:
    """Whether the content is UTF-8, looked at in blocks, so that a large file is not held twice."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(content), _BLOCK):
            decoder.decode(content[start : start + _BLOCK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _layout(content: bytes) -> tuple[str, list[str], list[str]]:
    """Separator, names of the columns, and the lines down to these.

    The separator is the one that leaves the fewest lines above the names; of several the one with most columns.
    """
    text = content[:_SAMPLE].decode(errors="ignore")
    lines = list(io.StringIO(text, newline=""))
    lines = lines[: len(lines) - 1] if len(content) > _SAMPLE and len(lines) > 1 else lines
    if not text.strip():
        raise ValueError("it is empty")
    found: dict[str, tuple[Header, list[int]]] = {}
    faults = []
    for separator, name in SEPARATORS.items():
        rows, ends = _sample(lines, separator)
        if max(map(len, rows)) < 2:
            continue
        try:
            found[separator] = header.find(rows), ends
        except ValueError as error:
            faults.append(f"with the {name} as separator {error}")
    found = {separator: own for separator, own in found.items() if len(own[0].names) > 1}
    if not found:
        names = ", ".join(SEPARATORS.values())
        raise ValueError("; ".join(faults) or f"none of {names} separates its lines into columns")
    ranks = {separator: (own.row, -len(own.names)) for separator, (own, _) in found.items()}
    best, *others = sorted(ranks, key=lambda separator: ranks[separator])
    if others and ranks[others[0]] == ranks[best]:
        raise ValueError(f"{SEPARATORS[best]} and {SEPARATORS[others[0]]} separate its lines equally well")
    own, ends = found[best]
    return best, own.names, lines[: ends[own.row]]


def _sample(lines: list[str], separator: str) -> tuple[list[list[str]], list[int]]:
    """The first rows, and the number of lines down to the end of each; a cell in quotation marks may hold several."""
    reader = csv.reader(lines, delimiter=separator)
    rows, ends = [], []
    try:
        for row in reader:
            rows.append(row)
            ends.append(reader.line_num)
            if len(rows) == _SAMPLE_ROWS:
                break
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return rows, ends


def _rows(body: pa.Buffer, names: list[str], separator: str) -> pa.Table:
    """The rows below the header; empty rows and comments among them are left out."""
    wrong: list[str] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        if row.text.strip(f" {separator}") and not row.text.lstrip().startswith("#"):
            wrong.append(f"row {row.number} has {row.actual_columns} ({row.text[:60]!r})")
        return "skip"

    places = [str(i) for i in range(len(names))]  # Arrow would take two columns of one name for one
    if not body.size:
        return pa.table([pa.array([], pa.string()) for _ in names], names=names)
    table = pyarrow.csv.read_csv(
        pa.BufferReader(body),
        read_options=pyarrow.csv.ReadOptions(column_names=places, block_size=_BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=separator, invalid_row_handler=skip, newlines_in_values=b'"' in _head(body)
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=True, null_values=list(MISSING)
        ),
    )
    if wrong:
        raise ValueError(_ragged(wrong, len(names)))
    return table.rename_columns(names)


def _head(body: pa.Buffer) -> bytes:
    return bytes(body.slice(0, min(body.size, _SAMPLE)))


def _ragged(wrong: list[str], width: int) -> str:
    more = f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
    return f"rows must have {width} cells as the names have, but {', '.join(wrong[:_SHOWN])}{more}"
