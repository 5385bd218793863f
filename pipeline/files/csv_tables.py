"""Tables of numbers as CSV; needs the standard library only, as the commands on surfaces do."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.files.atomic import new_file


def csv_columns(text: str, among: Collection[str] | None = None) -> dict[str, list[float]]:
    """The columns of a table of numbers with a header, perhaps only those ``among`` some; an empty cell is NaN."""
    return numbers_of(csv_rows(text), among)


def numbers_of(rows: Sequence[Mapping[str, str]], among: Collection[str] | None = None) -> dict[str, list[float]]:
    """The same of rows that are read."""
    names = [name for name in (rows[0] if rows else ()) if among is None or name in among]
    return {name: [float(row[name] or "nan") for row in rows] for name in names}


def csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a table with a header, by the names of the columns."""
    return list(csv.DictReader(io.StringIO(text)))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with new_file(path) as stream:
        stream.write(text.getvalue().encode())
