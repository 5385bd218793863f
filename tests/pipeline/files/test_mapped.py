"""Arrays that are read from their file where they are used."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.errors import InputError
from pipeline.files import formats
from pipeline.files.mapped import mapped_array


def test_a_mapped_array_is_that_of_the_file(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "a.safetensors"
    arrays = {"a": rng.random((3, 2, 5), np.float32), "b": rng.random(7), "none": np.empty((0, 5), np.float32)}
    formats.write_arrays(path, arrays, {"text": "of any length"})
    for name, expected in arrays.items():
        found = mapped_array(path, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_what_is_written_to_a_mapped_array_stays_in_memory(tmp_path: Path) -> None:
    """And it stays readable when another file takes the place of its own."""
    path = tmp_path / "a.safetensors"
    formats.write_arrays(path, {"a": np.zeros(5)})
    found = mapped_array(path, "a")
    found[1] = 1.0
    assert not mapped_array(path, "a").any()
    formats.write_arrays(path, {"a": np.full(5, 2.0)})
    np.testing.assert_array_equal(found, [0.0, 1.0, 0.0, 0.0, 0.0])


def test_an_array_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    """The file has a hole of twice the memory of the machine before its last number."""
    path, count = tmp_path / "a.safetensors", 2 * psutil.virtual_memory().total // 8
    header = json.dumps({"a": {"dtype": "F64", "shape": [count], "data_offsets": [0, 8 * count]}}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.seek(8 * (count - 1), 1)
        stream.write(np.array([0.5]).tobytes())
    found = mapped_array(path, "a")
    assert (len(found), found[0], found[-1]) == (count, 0.0, 0.5)


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"a\.safetensors does not exist"):
        mapped_array(path, "a")
    formats.write_arrays(path, {"a": np.arange(3)})
    with pytest.raises(InputError, match=r"a\.safetensors is damaged or of another format: a holds I64"):
        mapped_array(path, "a")
    with pytest.raises(InputError, match=r"a\.safetensors is damaged or of another format: .*b"):
        mapped_array(path, "b")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.safetensors is damaged or of another format"):
        mapped_array(path, "a")
