"""Surfaces as files for other programs: Parquet in long form, or one array as npy. Never imports torch."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.atomic import new_file
from pipeline.errors import InputError
from vae.grid import Grid

_SCHEMA = pa.schema(
    [
        pa.field("surface", pa.int64(), nullable=False),
        pa.field("tenor_years", pa.float64(), nullable=False),
        pa.field("log_moneyness", pa.float64(), nullable=False),
        pa.field("iv", pa.float32(), nullable=False),
    ]
)


def write_surfaces(path: Path, blocks: Iterable[NDArray[np.float32]], grid: Grid, *, count: int) -> None:
    """Write blocks [batch, tenor, node] that make up ``count`` surfaces, one at a time.

    Parquet has one row a point: surface, tenor_years, log_moneyness, iv; npy is the float32 array [count, tenor, node].

    Raises:
        InputError: the file ends in neither .parquet nor .npy, or the path cannot be written.
    """
    if path.suffix == ".parquet":
        _write_parquet(path, blocks, grid)
    elif path.suffix == ".npy":
        _write_npy(path, blocks, (count, *grid.shape))
    else:
        raise InputError(f"{path} must end in .parquet or .npy")


def _write_parquet(path: Path, blocks: Iterable[NDArray[np.float32]], grid: Grid) -> None:
    points = grid.shape[0] * grid.shape[1]
    tenors = np.repeat(grid.tenors, grid.shape[1])
    log_moneyness = grid.log_moneyness.ravel()
    first = 0
    with new_file(path) as stream, pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
        for block in blocks:
            surfaces = np.arange(first, first + len(block))
            columns = (
                np.repeat(surfaces, points),
                np.tile(tenors, len(block)),
                np.tile(log_moneyness, len(block)),
                block.ravel(),
            )
            writer.write_table(pa.table([pa.array(c) for c in columns], schema=_SCHEMA))
            first += len(block)


def _write_npy(path: Path, blocks: Iterable[NDArray[np.float32]], shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with new_file(path) as stream:
        npy.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(block.astype("<f4").tobytes())
