"""Arrays in JSON: what is read is what Python's own reader finds, and bad text costs no more than its bytes."""

import json
import math
import tracemalloc

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.server import json_arrays
from deploy.server.answers import SampledRow, to_json
from deploy.server.json_arrays import KindError, RangeError, ShapeError

FLOAT, INT, BOOL = np.dtype("<f4"), np.dtype("<i8"), np.dtype(np.bool_)
_shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
_separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", ":")])


@given(shape=_shapes, data=st.data(), separators=_separators, flat=st.booleans())
def test_an_array_is_read_as_by_numpy(
    shape: tuple[int, ...], data: st.DataObject, separators: tuple[str, str], *, flat: bool
) -> None:
    number = st.none() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    numbers = data.draw(st.lists(number, min_size=math.prod(shape), max_size=math.prod(shape)))
    array = np.array(numbers, object).reshape(shape)
    text = json.dumps(numbers if flat else array.tolist(), separators=separators).encode()
    found = json_arrays.read(text, shape, FLOAT, may_be_flat=True)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, array.astype(float).astype(np.float32))
    assert found.dtype == FLOAT


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(value=_json, shape=_shapes)
def test_other_json_is_refused(value: object, shape: tuple[int, ...]) -> None:
    try:
        found = json_arrays.read(json.dumps(value).encode(), shape, FLOAT, may_be_flat=False)
    except (ShapeError, KindError):
        return
    expected = np.array(value, float)
    assert expected.shape == shape
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("text", "dtype", "error"),
    [
        (b"[1,2,3]", FLOAT, ShapeError),
        (b"[[1],2]", FLOAT, ShapeError),
        (b"[1,true]", FLOAT, KindError),
        (b'[1,"2"]', FLOAT, KindError),
        (b'["[,]",2]', FLOAT, ShapeError),
        (b"[1,2.0]", INT, KindError),
        (b"[1,9223372036854775808]", INT, RangeError),
        (b"[0,1]", BOOL, KindError),
        (b"[1e400,1]", FLOAT, KindError),
    ],
)
def test_what_is_no_such_array_is_refused(text: bytes, dtype: np.dtype, error: type[Exception]) -> None:
    with pytest.raises(error):
        json_arrays.read(text, (2,), dtype, may_be_flat=True)


@pytest.mark.parametrize("shape", [(1, 5), (2**31 - 1, 2**31 - 1), (2**22, 1)])
@pytest.mark.parametrize("item", [b"[]", b"[[[1]]]", b"0"])
def test_a_large_text_of_another_shape_takes_no_more_memory_than_itself(item: bytes, shape: tuple[int, ...]) -> None:
    text = b"[%b]" % b",".join([item] * 500_000)
    tracemalloc.start()
    try:
        with pytest.raises(ShapeError):
            json_arrays.read(text, shape, FLOAT, may_be_flat=False)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text)
    finally:
        tracemalloc.stop()


def test_a_long_array_is_written_as_a_short_one_is() -> None:
    values = np.random.default_rng(0).normal(size=(3000, 5, 9)).astype(np.float32)
    values[7, 0, 3] = np.nan
    assert isinstance(json_arrays.in_pieces(values), orjson.Fragment)
    whole = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    assert to_json(SampledRow(1, values)) == b'{"row":1,"iv":%b}' % whole
