"""Numbers written as text: decimal marks, thousands, percent signs."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.tables import tenors
from pipeline.tables.cell_errors import CellError, cells

Mark = Literal[".", ","]
Mask = NDArray[np.bool_]


class UnclearMarkError(CellError):
    """Numbers whose mark can separate decimals or thousands."""


HEAD = 10_000  # cells of a column that usually settle its decimal mark
_DIGITS = r"[0-9]*(\{mark}[0-9]*)?([eE][+-]?[0-9]+)?"
_GROUPS = r"[1-9][0-9]{{0,2}}({thousands}[0-9]{{3}})+(\{mark}[0-9]*)?"
_INDIAN = r"[1-9][0-9]?(,[0-9]{2})+,[0-9]{3}(\.[0-9]*)?"  # groups of two down to the last three
_BLANK, _APOSTROPHE = "[ \u00a0\u202f]", "['\u2019]"


def _pattern(mark: Mark, comma: str, *more: str) -> str:
    """A number with a decimal mark, alone or with thousands in groups of three that one other mark separates."""
    groups = (_GROUPS.format(mark=mark, thousands=thousands) for thousands in (comma, _BLANK, _APOSTROPHE))
    return f"^-?({'|'.join((_DIGITS.format(mark=mark), *groups, *more))})$"


_NUMBER: dict[Mark, str] = {".": _pattern(".", ",", _INDIAN), ",": _pattern(",", r"\.")}
_THOUSANDS: dict[Mark, str] = {".": f",|{_BLANK}|{_APOSTROPHE}", ",": rf"\.|{_BLANK}|{_APOSTROPHE}"}


def marks(column: pa.Array) -> set[Mark]:
    """The decimal marks that cells of a column, among the first ones, cannot be read without."""
    text = _plain(column.slice(0, HEAD))
    dot, comma = _fits(text, "."), _fits(text, ",")
    proofs: tuple[tuple[Mark, Mask], ...] = ((".", dot & ~comma), (",", comma & ~dot))
    return {mark for mark, proof in proofs if proof.any()}


def read(column: pa.Array, mark: Mark | None, *, percent: bool) -> NDArray[np.float64]:
    """The numbers of a column of text, NaN where it is null, [row].

    Args:
        column: text without blanks around it.
        mark: the decimal mark; None where the column itself shows it.
        percent: whether cells may end in a percent sign, which is dropped.

    Raises:
        CellError: a cell is no number, or can be read as two.
    """
    column = _without_percent(column, percent=percent)
    numbers = _without_thousands(column, marks(column) if mark is None else {mark})
    if numbers is not None:
        return numbers
    text = _plain(column)
    return _array(_written_plainly(column, text, mark or _shown_mark(column, text)))


def _without_thousands(column: pa.Array, shown: set[Mark]) -> NDArray[np.float64] | None:
    """The numbers of a column that shows one decimal mark or needs none; None where it may hold others. It is quick."""
    if "," in shown:
        if len(shown) > 1 or _any(column, "[.]"):
            return None
        column = pc.replace_substring(column, ",", ".")
    elif not shown and _any(column, "[.,]"):
        return None
    try:
        _array(column.slice(0, HEAD))  # a cast that fails is slow
        return _array(column)
    except pa.ArrowInvalid:
        return None


def _shown_mark(column: pa.Array, text: pa.Array) -> Mark:
    """The decimal mark that a column shows.

    Raises:
        CellError: a cell is no number, cells show both marks, or none is shown and two readings differ.
    """
    dot, comma = _fits(text, "."), _fits(text, ",")
    known = _true(pc.is_valid(text))
    neither = known & ~dot & ~comma
    if neither.any():
        raise CellError(f"holds {cells(column, neither)}, but must hold numbers{_advice(column)}")
    only_dot, only_comma = dot & ~comma, comma & ~dot
    if only_dot.any() and only_comma.any():
        raise CellError(
            f"holds {cells(column, only_dot)}, with the decimal mark '.', and {cells(column, only_comma)}, with ','"
        )
    unclear = known & _true(pc.match_substring_regex(text, "[.,]"))
    if unclear.any() and not only_dot.any() and not only_comma.any():
        raise UnclearMarkError(
            f"holds {cells(column, unclear)}: thousands or decimals? Set prepare.quotes.decimal_mark to '.' or ','"
        )
    return "," if only_comma.any() else "."


def _written_plainly(column: pa.Array, text: pa.Array, mark: Mark) -> pa.Array:
    """The cells without thousands and with the decimal mark '.'."""
    wrong = _true(pc.is_valid(text)) & ~_fits(text, mark)
    if wrong.any():
        raise CellError(
            f"holds {cells(column, wrong)}, but must hold numbers with the decimal mark {mark!r}{_advice(column)}"
        )
    return pc.replace_substring(pc.replace_substring_regex(text, _THOUSANDS[mark], ""), mark, ".")


def _without_percent(column: pa.Array, *, percent: bool) -> pa.Array:
    signed = _true(pc.ends_with(column, "%"))
    if not signed.any():
        return column
    if not percent:
        raise CellError(
            f"holds {cells(column, signed)}; a percent sign is read where prepare.quotes.vol_unit, rate_unit or "
            "delta_unit says that the column is in percent; elsewhere write 0.25 for 25% in the file"
        )
    bare = ~signed & _true(pc.is_valid(column))
    if bare.any():
        raise CellError(f"holds {cells(column, signed)}, but {cells(column, bare)} without percent sign")
    return pc.utf8_rtrim_whitespace(pc.utf8_slice_codeunits(column, 0, -1))


def _fits(text: pa.Array, mark: Mark) -> Mask:
    """Where cells are numbers with a decimal mark; a null is none."""
    return _true(pc.and_(pc.match_substring_regex(text, _NUMBER[mark]), pc.match_substring_regex(text, "[0-9]")))


def _true(condition: pa.Array) -> Mask:
    """Where a condition is true and not null."""
    return np.asarray(pc.fill_null(condition, False).to_numpy(zero_copy_only=False), bool)  # noqa: FBT003


def _plain(column: pa.Array) -> pa.Array:
    """The cells with ASCII signs, none before positive numbers."""
    return pc.replace_substring_regex(pc.replace_substring(column, "\u2212", "-"), r"^\+([0-9.,])", r"\1")


def _any(column: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, pattern)).as_py())


def _advice(column: pa.Array) -> str:
    if tenors.are_labels(column):
        return "; labels of tenors are read as prepare.quotes.columns.tenor"
    return ""


def _array(column: pa.Array) -> NDArray[np.float64]:
    return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
