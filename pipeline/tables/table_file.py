"""A file of a user as an Arrow table, by the ending of its name."""

import datetime as dt
import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import dates, text_file, workbook
from pipeline.tables.text_file import TextFormat

_TEXTS = (".csv", ".tsv", ".txt")
SUFFIXES = (*_TEXTS, *(f"{suffix}.gz" for suffix in _TEXTS), ".xlsx", ".parquet")


class TableFile(NamedTuple):
    """A table and what was found about its file.

    Attributes:
        table: of typed columns from Parquet and Excel, of text from files of text.
        format: of a file of text, else None.
        percent: places of the columns that Excel shows in percent.
        excel: the day from which Excel counts days in it, in days since 1970-01-01.
    """

    table: pa.Table
    format: TextFormat | None
    percent: frozenset[int] = frozenset()
    excel: int = dates.EXCEL


def read(path: Path, sheet: str | None = None) -> TableFile:
    """All columns of a file whose name ends in one of ``SUFFIXES``, in any case.

    Args:
        path: the file.
        sheet: of a workbook; None for its only one.

    Raises:
        InputError: the file is missing, damaged, or of another format.
    """
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"{path} must end in {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            with path.open("rb") as stream:
                return TableFile(pq.ParquetFile(stream).read(), None)
        content = path.read_bytes()
        if suffix == ".xlsx":
            found = workbook.read(content, sheet)
            return TableFile(found.table, None, found.percent, (found.first_day - dt.date(1970, 1, 1)).days)
        return TableFile(*text_file.read(gzip.decompress(content) if suffix.endswith(".gz") else content))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (pa.ArrowException, ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = "is not a parquet file, or is damaged" if suffix == ".parquet" else "cannot be read as a table"
        raise InputError(f"{path} {what}: {_line(error)}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or _line(error)}") from error


def plain_name(name: str) -> str:
    """A name of a column without blanks around it, and with single ones inside."""
    return " ".join(name.split())


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
