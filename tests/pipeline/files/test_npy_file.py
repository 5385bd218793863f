"""npy files whose header is not what the file holds."""

from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from pipeline.errors import InputError
from pipeline.files.npy_file import read_npy


def with_header(path: Path, shape: tuple[int, ...], content: bytes) -> Path:
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.write(content)
    return path


@pytest.mark.parametrize("count", [2, 10**9, 10**10, 10**18, 10**30, -1])
def test_a_header_of_more_surfaces_than_the_file_holds_is_refused_in_a_line(tmp_path: Path, count: int) -> None:
    path = with_header(tmp_path / "a.npy", (count, 2, 3), np.zeros(6, np.float32).tobytes())
    with pytest.raises(InputError, match=r"a\.npy (is not a npy file, or not a whole one|must hold an array of vols)$"):
        read_npy(path, "f", (2, 3), "vols")


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_whole(tmp_path: Path, order: str) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=(5, 2, 3)), np.float32, order=order)
    np.save(tmp_path / "a.npy", values)
    found = read_npy(tmp_path / "a.npy", "f", (2, 3), "vols")
    np.testing.assert_array_equal(found, values)
    found[0] = 1.0  # no view of the file
