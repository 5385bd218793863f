"""Arrays in JSON text: read with a check of their shape before any of their numbers, and written in pieces.

Python reads nested lists one by one, which takes seconds for a few megabytes of short ones. So the brackets are
compared with those of the expected shape, as bytes, and the numbers are read as flat lists.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

Array = NDArray[Any]

_PIECE = 65_536  # numbers that are written at a time, because Python runs nothing else meanwhile ...
_BYTES = 262_144  # ... and bytes that are read at a time
_NO_BRACKETS = bytes(set(range(256)) - set(b"[],"))
_BLANK = bytes.maketrans(b"[]", b"  ")
_LISTS: dict[str, msgspec.json.Decoder[Any]] = {
    "f": msgspec.json.Decoder(list[float | None]),
    "i": msgspec.json.Decoder(list[int]),
    "u": msgspec.json.Decoder(list[int]),
    "b": msgspec.json.Decoder(list[bool]),
}


class ShapeError(ValueError):
    """The text is an array of another shape, or none."""


class KindError(ValueError):
    """The text holds something else than numbers of the type, or than null where these are floats."""


class RangeError(ValueError):
    """An integer is out of the range of its type."""


def read(text: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], *, may_be_flat: bool) -> Array:
    """The array of this shape and type that valid JSON describes; null is NaN.

    Args:
        text: valid JSON.
        shape: of the array; no axis is empty.
        dtype: floats, integers or booleans. A number beyond the floats of the type becomes infinite.
        may_be_flat: whether one list of all numbers will do.

    Raises:
        ShapeError: it is of another shape.
        KindError: it holds anything else.
        RangeError: an integer is out of the range of the type.
    """
    count = math.prod(shape)
    if count_numbers(text) != count:  # first, as the brackets of the expected shape may fill the memory
        raise ShapeError
    brackets = text.translate(None, _NO_BRACKETS)
    if brackets != _brackets(shape) and not (may_be_flat and brackets == _brackets((count,))):
        raise ShapeError
    with np.errstate(over="ignore"):
        found = np.concatenate([*_pieces(text.translate(_BLANK), dtype)]).astype(dtype, copy=False)
    if found.size != count:  # an empty list has the brackets of one number
        raise ShapeError
    return found.reshape(shape)


def _pieces(text: bytes, dtype: np.dtype[Any]) -> Iterator[Array]:
    """The numbers of a text, which are separated by commas, some at a time."""
    start = 0
    while start < len(text):
        end = text.find(b",", start + _BYTES)
        end = len(text) if end == -1 else end
        try:
            numbers = _LISTS[dtype.kind].decode(b"[%b]" % text[start:end])
        except msgspec.DecodeError as error:
            raise KindError from error
        if dtype.kind in "iu" and any(not np.iinfo(dtype).min <= n <= np.iinfo(dtype).max for n in numbers):
            raise RangeError
        yield np.array(numbers, np.float64 if dtype.kind == "f" else dtype)
        start = end + 1


def count_numbers(text: bytes) -> int:
    """How many numbers an array in JSON has, if no list in it is empty."""
    return text.count(b",") + 1


def in_pieces(array: Array) -> Array | orjson.Fragment:
    """An array as orjson should write it: one of many numbers is text already, written piece by piece."""
    if array.size <= _PIECE:
        return array
    step = max(1, _PIECE * len(array) // array.size)
    pieces = (orjson.dumps(array[i : i + step], option=orjson.OPT_SERIALIZE_NUMPY) for i in range(0, len(array), step))
    return orjson.Fragment(b"[%b]" % b",".join(piece[1:-1] for piece in pieces))


def _brackets(shape: tuple[int, ...]) -> bytes:
    """Brackets and commas of an array of this shape."""
    text = b""
    for length in reversed(shape):
        text = b"[%b]" % b",".join([text] * length)
    return text
