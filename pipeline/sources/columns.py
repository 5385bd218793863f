"""Columns of a user's file as float64 arrays: numbers, days, instants, tenors, flags and words."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError, listed
from pipeline.tables import dates, numbers, table_file, tenors, text_file, words
from pipeline.tables.cell_errors import CellError
from pipeline.tables.numbers import Mark
from pipeline.tables.table_file import TableFile
from pipeline.tables.text_file import TextFormat
from pipeline.tables.words import Words

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Kind = Literal["number", "day", "instant", "offset", "tenor", "flag", "name"] | Words

_LARGEST, _SMALLEST = 1e50, 1e-50  # larger counts as infinite, smaller as 0, so that no product overflows
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_NUMBERED = re.compile(r"(.+)\[([1-9][0-9]?)\]")  # the first to 99th column of a name
_FRACTION = r"^[-+]?[0-9]*[.,][0-9]+$"
_MOST_FAULTS = 10  # lines of a message about a file
_MOST_NAMES = 40  # columns that a message lists


class Wanted(NamedTuple):
    """A column of a file, and how its cells are read.

    Attributes:
        column: its name in the file.
        kind: of its values.
        date_format: how its dates are written, as ``datetime.strptime`` has it; None where that shows.
        percent: whether its numbers are percent, so that they may have the sign.
    """

    column: str
    kind: Kind
    date_format: str | None = None
    percent: bool = False


def read(
    path: Path, wanted: Mapping[str, Wanted], *, sheet: str | None = None, decimal_mark: Mark | None = None
) -> dict[str, Array]:
    """Columns of a file by the caller's names, each float64 [row] as the method of ``Columns`` for its kind says.

    Args:
        path: the file.
        wanted: what to read.
        sheet: of a workbook; None for its only one.
        decimal_mark: of numbers written as text; None where they show it.

    Raises:
        InputError: the file is missing, empty or damaged, or columns are missing or of another kind: a line for each.
    """
    return Columns.read(path, sheet=sheet, decimal_mark=decimal_mark).found(wanted)


class Texts(NamedTuple):
    """A column as text.

    Attributes:
        code: index into ``values`` of each row; NaN where the row is empty, [row].
        values: distinct texts, sorted.
    """

    code: Array
    values: tuple[str, ...]


class ColumnError(InputError):
    """A column that is missing, or whose cells cannot be read as they must be.

    Attributes:
        what: the message without the file.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}{'' if what.startswith('has') else ':'} {what}")
        self.what = what


class Columns:
    """The columns of a file. A column that holds another kind of value than asked is an error that names it.

    Attributes:
        path: the file.
        names: of its columns, without blanks around them.

    Raises:
        InputError: the file has no rows.
    """

    def __init__(
        self, path: Path, file: TableFile, decimal_mark: Mark | None = None, *, takes_unclear: bool = False
    ) -> None:
        self.path = path
        self.names = [table_file.plain_name(name) for name in file.table.column_names]
        self._table, self._format, self._given_mark = file.table, file.format, decimal_mark
        self._in_percent, self._takes_unclear, self._excel = file.percent, takes_unclear, file.excel
        self._unclear: dict[str, str] = {}
        self._unclear_rows = np.zeros(file.table.num_rows, bool)
        if not file.table.num_rows:
            raise InputError(f"{path} has no rows")

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        sheet: str | None = None,
        decimal_mark: Mark | None = None,
        takes_unclear: bool = False,
    ) -> Self:
        """All columns of a file of text (its separator and header are found), a workbook or a Parquet file.

        Args:
            path: the file.
            sheet: of a workbook; None for its only one.
            decimal_mark: of numbers written as text; None where they show it.
            takes_unclear: whether the caller settles the numbers of ``unclear``; else those with a comma are refused.
        """
        return cls(path, table_file.read(path, sheet), decimal_mark, takes_unclear=takes_unclear)

    def __contains__(self, name: str) -> bool:
        return bool(self._places(name))

    @property
    def distinct_names(self) -> list[str]:
        """A name for each column, in order; of two named IV they are ``IV[1]`` and ``IV[2]``."""
        seen: Counter[str] = Counter()
        several = {name for name, count in Counter(self.names).items() if count > 1}
        found = []
        for name in self.names:
            seen[name] += 1
            found.append(f"{name}[{seen[name]}]" if name in several else name)
        return found

    def lack(self, *names: str) -> str:
        """A message on columns that the file has not, with those that it has."""
        found = f" ({self.format})" if self.format is not None else ""
        own = listed(self.names, most=_MOST_NAMES)
        return f"has no column {', '.join(names)}; its columns{found}: {own}"

    @property
    def format(self) -> TextFormat | None:
        """Encoding, separator and decimal mark of a file of text, as far as they are clear; None for other files."""
        mark = None if self.unclear else self.decimal_mark
        return None if self._format is None else self._format._replace(decimal_mark=mark)

    @property
    def decimal_mark(self) -> Mark | None:
        """The decimal mark of numbers written as text: as given, else as the columns show it.

        Where none shows one and commas separate the cells of a file, it is the point.
        """
        if self._given_mark is not None:
            return self._given_mark
        if len(self._shown_marks) == 1:
            return next(iter(self._shown_marks))
        separated = self._format is not None and self._format.separator == ","
        return "." if separated and not self._shown_marks else None

    @property
    def unclear(self) -> list[str]:
        """Faults of the columns that were read as numbers, and whose marks could be decimals or thousands.

        Commas separate the cells of the file, and no other number shows its mark: they were read as thousands.
        """
        return list(self._unclear.values())

    @property
    def unclear_rows(self) -> NDArray[np.bool_]:
        """Where a cell of these columns has such a mark, [row]."""
        return self._unclear_rows

    @cached_property
    def _shown_marks(self) -> set[Mark]:
        """The decimal marks without which the first cells of the columns cannot be read."""
        columns = (self._at(place, numbers.HEAD) for place in range(len(self.names)))
        return {mark for column in columns if pa.types.is_large_string(column.type) for mark in numbers.marks(column)}

    def found(self, wanted: Mapping[str, Wanted]) -> dict[str, Array]:
        """Columns by the caller's names, each [row].

        Raises:
            InputError: columns are missing or of another kind: a line for each.
        """
        missing = dict.fromkeys(one.column for one in wanted.values() if one.column not in self)
        found, faults = {}, [self.lack(*missing)] if missing else []
        for name, one in wanted.items():
            if one.column in missing:
                continue
            try:
                found[name] = self.values(one)
            except ColumnError as fault:
                faults.append(fault.what)
        if faults:
            raise _together(self.path, list(dict.fromkeys(faults)))
        return found

    def values(self, wanted: Wanted) -> Array:
        """A column by its kind, [row]."""
        name, kind = wanted.column, wanted.kind
        if isinstance(kind, tuple):
            return self.words(name, kind)
        if kind == "number":
            return self.numbers(name, percent=wanted.percent)
        if kind in ("day", "instant"):
            instants = self.instants(name, date_format=wanted.date_format)
            return np.floor(instants) if kind == "day" else instants
        if kind == "offset":
            return self.offsets(name, date_format=wanted.date_format)
        if kind == "name":
            return self.texts(name).code
        return self.tenors(name) if kind == "tenor" else self.flags(name)

    def numbers(self, name: str, *, percent: bool = False) -> Array:
        """A column of numbers, NaN where it is empty or infinite, [row].

        Numbers written as text are read by the decimal mark that their column shows, else by that of the file.
        """
        column = self._column(name, empty=pa.float64())
        kind = column.type
        with self._naming(name):
            if pa.types.is_large_string(kind):
                found = self._written(name, column, percent=percent)
            elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
                found = _plain(column.cast(pa.float64(), safe=False))
            else:
                raise CellError(f"holds {kind}, but must hold numbers")
        found[np.abs(found) > _LARGEST] = np.nan
        found[np.abs(found) < _SMALLEST] = 0.0
        return found

    def instants(self, name: str, *, date_format: str | None = None) -> Array:
        """A column of dates or times as days since 1970-01-01, NaN where it is empty, [row]."""
        column = self._column(name, empty=pa.float64())
        kind = column.type
        with self._naming(name):
            if pa.types.is_large_string(kind):
                return dates.of_text(column, date_format, excel=self._excel)
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                return dates.of_numbers(self.numbers(name), date_format, excel=self._excel)
            if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
                return dates.of_times(column)
            raise CellError(f"holds {kind}, but must hold dates; {dates.ALLOWED}")

    def date_forms(self, name: str) -> list[str]:
        """The forms by which all cells of a column are dates, where none shows; see ``dates.forms_of_text``."""
        column = self._column(name, empty=pa.float64())
        if pa.types.is_large_string(column.type):
            return dates.forms_of_text(column, excel=self._excel)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return dates.forms_of_numbers(self.numbers(name), excel=self._excel)
        return []

    def offsets(self, name: str, *, date_format: str | None = None) -> Array:
        """Days by which the clocks of a column of times are ahead of UTC, NaN where a cell does not say it, [row]."""
        column = self._column(name, empty=pa.float64())
        with self._naming(name):
            if pa.types.is_large_string(column.type):
                return dates.offsets_of_text(column, date_format)
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                return dates.offsets_of_numbers(self.numbers(name))
            return dates.offsets_of_times(column)

    def tenors(self, name: str) -> Array:
        """A column of labels of tenors (1W, 3M) in years, NaN where it is empty, [row]."""
        with self._naming(name):
            return tenors.years(self._text(name, "labels of tenors"))

    def flags(self, name: str) -> Array:
        """A column of true and false as 1 and 0, 0 where it is empty, [row]."""
        with self._naming(name):
            return words.flags(self._column(name, empty=pa.bool_()))

    def words(self, name: str, allowed: Words) -> Array:
        """A column of words as indices of their groups in ``allowed``, NaN where it is empty, [row]."""
        with self._naming(name):
            return words.indices(self._text(name, f"words; allowed: {words.listed(allowed)}"), allowed)

    def is_measured(self, name: str) -> bool:
        """Whether a column holds numbers with fractions, which name nothing."""
        column = self._column(name, empty=pa.float64())
        if pa.types.is_large_string(column.type):
            return bool(pc.any(pc.match_substring_regex(column, _FRACTION)).as_py())
        return bool(pa.types.is_floating(column.type) or pa.types.is_decimal(column.type))

    def in_percent(self, name: str) -> bool:
        """Whether Excel shows the numbers of a column in percent, so that 1.2 is 120 %."""
        return self._place(name) in self._in_percent

    def has_percent_signs(self, name: str) -> bool:
        """Whether cells of a column are written with a percent sign."""
        column = self._column(name, empty=pa.float64())
        return pa.types.is_large_string(column.type) and bool(pc.any(pc.ends_with(column, "%")).as_py())

    def texts(self, name: str) -> Texts:
        """A column of any kind as text."""
        with self._naming(name):
            column = self._column(name, empty=pa.large_string()).cast(pa.large_string())
        values = tuple(sorted(pc.unique(column.drop_null()).to_pylist()))
        code = pc.index_in(column, pa.array(values, pa.large_string()), skip_nulls=True)
        return Texts(_plain(code.cast(pa.float64())), values)

    def _written(self, name: str, column: pa.Array, *, percent: bool) -> Array:
        """Numbers written as text."""
        try:
            return numbers.read(column, self._given_mark, percent=percent)
        except numbers.UnclearMarkError as fault:
            if self.decimal_mark is None:
                raise
            if not self._shown_marks:
                self._take_unclear(name, column, fault)
        return numbers.read(column, self.decimal_mark, percent=percent)

    def _take_unclear(self, name: str, column: pa.Array, fault: CellError) -> None:
        """Note a column of numbers of which none shows its mark.

        Raises:
            CellError: the caller does not settle them, and a comma stands in one; points are decimal in such a file.
        """
        if not self._takes_unclear and pc.any(pc.match_substring(column, ",")).as_py():
            raise CellError(f"{str(fault).partition('?')[0]}? Write it without separators of thousands") from fault
        self._unclear[name] = f"column {name} {fault}"
        marked = pc.fill_null(pc.match_substring_regex(column, "[.,]"), False)  # noqa: FBT003
        self._unclear_rows |= marked.to_numpy(zero_copy_only=False)

    def _text(self, name: str, what: str) -> pa.Array:
        column = self._column(name, empty=pa.large_string())
        if not pa.types.is_large_string(column.type):
            raise CellError(f"holds {column.type}, but must hold {what}")
        return column

    def _column(self, name: str, *, empty: pa.DataType) -> pa.Array:
        """A column by its name; a column without any value gets the type ``empty``."""
        column = self._at(self._place(name))
        none = pa.types.is_null(column.type) or column.null_count == len(column)
        return pa.nulls(len(column), empty) if none else column

    def _place(self, name: str) -> int:
        """The place of a column by its name.

        Raises:
            ColumnError: there is none, or more than one.
        """
        places = self._places(name)
        if len(places) == 1:
            return places[0]
        several = f"has {len(places)} columns {name}; name one as {name}[1] to {name}[{len(places)}]"
        raise ColumnError(self.path, several if places else self.lack(name))

    def _places(self, name: str) -> list[int]:
        """Columns of a name; in another case where none has it as it is written; ``IV[2]`` is the second of name IV."""
        name = table_file.plain_name(name)
        places = [i for i, other in enumerate(self.names) if other == name]
        places = places or [i for i, other in enumerate(self.names) if other.casefold() == name.casefold()]
        numbered = _NUMBERED.fullmatch(name)
        if places or numbered is None:
            return places
        return self._places(numbered[1])[int(numbered[2]) - 1 : int(numbered[2])]

    def _at(self, place: int, rows: int | None = None) -> pa.Array:
        """A column, or its first rows, in one piece, without dictionary.

        Text has no blanks around it, and is null where it stands for none.
        """
        column = self._table.column(place).slice(0, rows).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if any(is_text(column.type) for is_text in _TEXTS):
            try:
                text = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
            except pa.ArrowInvalid as error:
                raise ColumnError(self.path, f"column {self.names[place]} is no text in UTF-8: {error}") from error
            missing = pc.or_(pc.is_in(text, pa.array(text_file.MISSING, text.type)), pc.starts_with(text, "#N/A"))
            column = pc.if_else(missing, pa.scalar(None, text.type), text)
        return column

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Add file and column to a fault of cells, and say what a column holds that Arrow does not turn into others."""
        try:
            yield
        except CellError as fault:
            raise ColumnError(self.path, f"column {name} {fault}") from fault
        except pa.ArrowException as error:
            kind = self._table.column(self._place(name)).type
            raise ColumnError(self.path, f"column {name} holds {kind}, which is not read: {error}") from error


def _plain(column: pa.Array) -> Array:
    """A float64 column as an array, NaN where it is empty."""
    return np.array(column.to_numpy(zero_copy_only=False), np.float64)


def _together(path: Path, faults: list[str]) -> InputError:
    """The faults of a file, in one line where there is one."""
    if len(faults) == 1:
        return ColumnError(path, faults[0])
    more = [f"and {len(faults) - _MOST_FAULTS:,} more"] if len(faults) > _MOST_FAULTS else []
    return InputError(f"{path} has {len(faults)} faults:", *faults[:_MOST_FAULTS], *more)
