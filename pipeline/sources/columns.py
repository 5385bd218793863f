"""Columns of a user's Parquet or CSV file as float64 arrays: numbers, days, instants, flags and words."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError

Array = NDArray[np.float64]
Kind = Literal["number", "day", "instant", "flag"] | tuple[str, ...]  # a tuple: the words that a column may hold

_LARGEST_BLOCK = 2**31 - 1
_LARGEST, _SMALLEST = 1e50, 1e-50  # larger counts as infinite, smaller as 0, so that no product overflows
_LAST_DAY = 2_932_896  # 9999-12-31, in days since 1970-01-01
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LOCAL_TIMES = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]
_EPOCH = dt.datetime(1970, 1, 1)
_DATES = "allowed: ISO dates (2023-02-15), yyyymmdd, or a column of dates"


class Wanted(NamedTuple):
    """A column of a file, and the kind of its values."""

    column: str
    kind: Kind


class Texts(NamedTuple):
    """A column as text.

    Attributes:
        index: into ``values``, of each row; NaN where the row is empty, [row].
        values: distinct texts, sorted.
    """

    index: Array
    values: tuple[str, ...]


def read(path: Path, wanted: Mapping[str, Wanted]) -> dict[str, Array]:
    """Columns of a file by the caller's names, each float64 [row] as the method of ``Columns`` for its kind says.

    Raises:
        InputError: the file is missing, empty or damaged, or a column is missing or of another kind.
    """
    return Columns.read(path).found(wanted)


class Columns:
    """The columns of a file. A column that holds another kind of value than asked is an error that names it.

    Raises:
        InputError: the file is missing, empty, or neither Parquet nor CSV as its name says.
    """

    def __init__(self, path: Path, table: pa.Table) -> None:
        self.path, self.names, self._table = path, table.column_names, table
        if not table.num_rows:
            raise InputError(f"{path} has no rows")

    @classmethod
    def read(cls, path: Path) -> Self:
        """All columns of a file whose name ends in .parquet or .csv."""
        if path.suffix not in (".parquet", ".csv"):
            raise InputError(f"{path} must end in .parquet or .csv")
        try:
            return cls(path, _parquet(path) if path.suffix == ".parquet" else _csv(path))
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist") from error
        except (pa.ArrowException, ValueError) as error:  # a ValueError: names that are not UTF-8
            kind = path.suffix.removeprefix(".")
            raise InputError(f"{path} is not a {kind} file, or is damaged: {_line(error)}") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or _line(error)}") from error

    def found(self, wanted: Mapping[str, Wanted]) -> dict[str, Array]:
        """Columns by the caller's names, each [row]."""
        return {name: self.values(column, kind) for name, (column, kind) in wanted.items()}

    def values(self, name: str, kind: Kind) -> Array:
        """A column by its kind, [row]."""
        if isinstance(kind, tuple):
            return self.words(name, kind)
        reading = {"number": self.numbers, "day": self.days, "instant": self.instants, "flag": self.flags}[kind]
        return reading(name)

    def numbers(self, name: str) -> Array:
        """A column of numbers, NaN where it is empty or infinite, [row]."""
        column = self._column(name, empty=pa.float64())
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise self._fault(name, f"holds {_kind(column)}, but must hold numbers")
        numbers = _plain(column.cast(pa.float64(), safe=False))
        numbers[np.abs(numbers) > _LARGEST] = np.nan
        numbers[np.abs(numbers) < _SMALLEST] = 0.0
        return numbers

    def instants(self, name: str) -> Array:
        """A column of dates or times as days since 1970-01-01, NaN where it is empty, [row]."""
        column = self._column(name, empty=pa.float64())
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return self._from_digits(name, self.numbers(name))
        if pa.types.is_large_string(kind):
            return self._from_text(name, column)
        if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
            raise self._fault(name, f"holds {kind}, but must hold dates; {_DATES}")
        try:
            local = pc.local_timestamp(column) if pa.types.is_timestamp(kind) and kind.tz else column
            microseconds = local.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            days = _plain(microseconds.cast(pa.float64(), safe=False)) / 86_400e6
        except pa.ArrowInvalid as error:
            raise self._fault(name, f"cannot be read as dates: {_line(error)}") from error
        if (np.abs(days) > _LAST_DAY).any():
            raise self._fault(name, f"holds dates beyond the year 9999; {_DATES}")
        return days

    def days(self, name: str) -> Array:
        """A column of dates or times as whole days since 1970-01-01, NaN where it is empty, [row]."""
        return np.floor(self.instants(name))

    def flags(self, name: str) -> Array:
        """A column of true and false as 1 and 0, 0 where it is empty, [row]."""
        column = self._column(name, empty=pa.bool_())
        if not pa.types.is_boolean(column.type):
            raise self._fault(name, f"holds {column.type}, but must hold true and false")
        return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.float64)  # noqa: FBT003

    def words(self, name: str, allowed: tuple[str, ...]) -> Array:
        """A column of the words ``allowed``, in any case, as indices into them, NaN where it is empty, [row]."""
        column = self._column(name, empty=pa.large_string())
        if not pa.types.is_large_string(column.type):
            raise self._fault(name, f"holds {column.type}, but must hold words; allowed: {', '.join(allowed)}")
        lower = pc.utf8_lower(column)
        index = pc.index_in(lower, pa.array(allowed, lower.type))
        unknown = column.filter(pc.and_(pc.is_null(index), pc.is_valid(lower)))
        if len(unknown):
            raise self._fault(name, f"holds {unknown[0].as_py()!r}; allowed: {', '.join(allowed)}")
        return _plain(index.cast(pa.float64()))

    def texts(self, name: str) -> Texts:
        """A column of any kind as text."""
        column = self._column(name, empty=pa.large_string()).cast(pa.large_string())
        values = tuple(sorted(pc.unique(column.drop_null()).to_pylist()))
        index = pc.index_in(column, pa.array(values, pa.large_string()), skip_nulls=True)
        return Texts(_plain(index.cast(pa.float64())), values)

    def _column(self, name: str, *, empty: pa.DataType) -> pa.Array:
        """A column in one piece, without dictionary; a column without any value gets the type ``empty``.

        Text is trimmed; text without characters counts as empty.
        """
        count = self.names.count(name)
        if count != 1:
            what = "has no column" if not count else f"has {count} columns"
            raise InputError(f"{self.path} {what} {name}; its columns: {', '.join(self.names)}")
        column = self._table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if any(is_text(column.type) for is_text in _TEXTS):
            text = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
            column = pc.replace_with_mask(text, pc.equal(text, ""), pa.scalar(None, text.type))
        return column.cast(empty) if pa.types.is_null(column.type) else column

    def _from_text(self, name: str, column: pa.Array) -> Array:
        """Days since 1970-01-01 of dates written as text."""
        unique = pc.unique(column)
        days = [np.nan if (text := value.as_py()) is None else self._from_one_text(name, text) for value in unique]
        index = pc.index_in(column, unique).to_numpy(zero_copy_only=False)
        result: Array = np.array(days, np.float64)[index]
        return result

    def _from_one_text(self, name: str, text: str) -> float:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError as error:
            raise self._fault(name, f"holds {text!r}, which is not a date; {_DATES}") from error
        return (moment.replace(tzinfo=None) - _EPOCH) / dt.timedelta(days=1)

    def _from_digits(self, name: str, numbers: Array) -> Array:
        """Days since 1970-01-01 of numbers yyyymmdd."""
        known = np.isfinite(numbers)
        digits = np.clip(numbers[known], 0.0, 1e8).astype(np.int64)
        years, months, days = digits // 10_000, digits // 100 % 100, digits % 100
        month = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
        date = month.astype("datetime64[D]") + (days - 1)
        right = (digits == numbers[known]) & (years > 1900) & (years < 2300)
        right &= (months >= 1) & (months <= 12) & (date.astype("datetime64[M]") == month)
        if not right.all():
            raise self._fault(name, f"holds {numbers[known][~right][0]:.12g}, which is not a date; {_DATES}")
        result = np.full(len(numbers), np.nan)
        result[known] = date.astype(np.int64)
        return result

    def _fault(self, name: str, what: str) -> InputError:
        return InputError(f"{self.path}: column {name} {what}")


def _parquet(path: Path) -> pa.Table:
    with path.open("rb") as stream:
        return pq.ParquetFile(stream).read()


def _csv(path: Path) -> pa.Table:
    # A time with an offset stays text, so that its date is local, as in Parquet; Arrow would take the date in UTC.
    convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=_LOCAL_TIMES)
    # One block, so that Arrow infers the type of a column from all rows and not from the first megabyte.
    read = pyarrow.csv.ReadOptions(block_size=min(path.stat().st_size + 1, _LARGEST_BLOCK))
    with path.open("rb") as stream:
        return pyarrow.csv.read_csv(stream, read_options=read, convert_options=convert)


def _plain(column: pa.Array) -> Array:
    """A float64 column as an array, NaN where it is empty."""
    return np.array(column.to_numpy(zero_copy_only=False), np.float64)


def _kind(column: pa.Array) -> str:
    """The type of a column, for text with the first value that is not a number."""
    if not pa.types.is_large_string(column.type):
        return str(column.type)
    try:
        column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        return f"text ({_line(error)})"
    return "text"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
