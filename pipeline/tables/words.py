"""Words of the field: kinds of options and of exercise, true and false."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.tables.cell_errors import CellError, cells

Words = tuple[tuple[str, ...], ...]  # groups of words of one meaning, in small letters; the first says the meaning

OPTION_TYPES: Words = (
    ("call", "c", "calls", "ce", "call option", "call options"),
    ("put", "p", "puts", "pe", "put option", "put options"),
)
EXERCISES: Words = (("european", "e", "eu", "eur", "euro"), ("american", "a", "am", "amer", "us"))
_FLAGS: Words = (("false", "f", "no", "n", "0"), ("true", "t", "yes", "y", "1"))


def indices(column: pa.Array, words: Words) -> NDArray[np.float64]:
    """The group of each word of a column of text, in any case, NaN where it is null, [row].

    Raises:
        CellError: a cell is none of the words.
    """
    plain = pc.replace_substring_regex(pc.utf8_lower(column), r"[\s_-]+", " ")
    flat = [(word, float(i)) for i, group in enumerate(words) for word in group]
    place = pc.index_in(plain, pa.array([word for word, _ in flat], plain.type))
    unknown = pc.and_(pc.is_null(place), pc.is_valid(column)).to_numpy(zero_copy_only=False)
    if unknown.any():
        raise CellError(f"holds {cells(column, unknown)}; allowed: {listed(words)}")
    groups = pa.array([group for _, group in flat], pa.float64())
    return np.array(groups.take(place).to_numpy(zero_copy_only=False), np.float64)


def flags(column: pa.Array) -> NDArray[np.float64]:
    """A column of truth values, of text or of numbers 0 and 1 as 1 and 0, 0 where it is null, [row].

    Raises:
        CellError: a cell is none of these.
    """
    if pa.types.is_boolean(column.type):
        return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.float64)  # noqa: FBT003
    if pa.types.is_large_string(column.type):
        return np.nan_to_num(indices(column, _FLAGS))
    numbers = column.cast(pa.float64(), safe=False)
    found = np.array(pc.fill_null(numbers, 0.0).to_numpy(zero_copy_only=False), np.float64)
    wrong = (found != 0.0) & (found != 1.0)
    if wrong.any():
        raise CellError(f"holds {cells(numbers, wrong)}; allowed: true, false, or nothing but 0 and 1")
    return found


def listed(words: Words) -> str:
    """All words, as a message names them."""
    return ", ".join(word for group in words for word in group)
