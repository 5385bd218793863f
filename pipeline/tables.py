"""Surfaces as files for other programs and back: Parquet in long form, or one array as npy. Never imports torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
_SAME_NODE = 1e-9


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


def read_surfaces(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """Surfaces iv [surface, tenor, node] and their grid from Parquet as ``write_surfaces`` writes it.

    Rows are ordered by surface, tenor and log-moneyness; an iv that is null or NaN is missing. The nodes are
    log-moneyness where that is the same at each tenor, and log-moneyness / sqrt(tenor) where that is.

    Raises:
        InputError: the file is missing, is no Parquet, lacks a column, or its surfaces do not lie on one such grid.
    """
    surface, tenor, k, iv = _read_columns(path)
    points = _first_run(surface)
    if len(surface) % points or not _same_in_each_surface(surface, tenor, k, points):
        raise InputError(f"{path} has surfaces with different points; each needs the same tenors and log-moneyness")
    try:
        grid = _grid(tenor[:points], k[:points])
    except ValueError as error:
        raise InputError(f"{path} has no grid: {error}") from error
    return iv.reshape(-1, *grid.shape), grid


def read_array(path: Path, grid: Grid) -> NDArray[np.floating]:
    """Surfaces [surface, tenor, node] of a known grid from npy.

    Raises:
        InputError: the file is missing, is no npy, or holds something else.
    """
    try:
        iv = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a npy file") from error
    if not isinstance(iv, np.ndarray) or iv.dtype.kind != "f" or iv.shape[1:] != grid.shape or not len(iv):
        raise InputError(f"{path} must hold an array of vols [surface, {grid.shape[0]} tenors, {grid.shape[1]} nodes]")
    return iv


def _read_columns(path: Path) -> list[NDArray[Any]]:
    """The columns of the schema, in its order."""
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in _SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; needed: {', '.join(_SCHEMA.names)}")
        table = file.read(columns=_SCHEMA.names)
        columns = [table[field.name].cast(field.type).to_numpy() for field in _SCHEMA]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a Parquet file of surfaces: {str(error).splitlines()[0]}") from error
    if not table.num_rows:
        raise InputError(f"{path} has no rows")
    return columns


def _first_run(values: NDArray[Any]) -> int:
    """How many values at the start are equal."""
    changes = np.flatnonzero(values != values[0])
    return int(changes[0]) if len(changes) else len(values)


def _same_in_each_surface(surface: NDArray[Any], tenor: NDArray[Any], k: NDArray[Any], points: int) -> bool:
    """Whether every ``points`` rows are one surface more, at the tenors and log-moneyness of the first."""
    surface, tenor, k = (column.reshape(-1, points) for column in (surface, tenor, k))
    one_each = (surface == surface[:, :1]).all() and len(np.unique(surface[:, 0])) == len(surface)
    return bool(one_each and (tenor == tenor[0]).all() and (k == k[0]).all())


def _grid(tenor: NDArray[np.float64], k: NDArray[np.float64]) -> Grid:
    """The grid of a surface's points, given by tenor and log-moneyness, both [point]."""
    nodes = _first_run(tenor)
    if len(tenor) % nodes or not (tenor.reshape(-1, nodes) == tenor[::nodes, None]).all():
        raise ValueError("its tenors have different numbers of points")
    tenor, k = tenor.reshape(-1, nodes), k.reshape(-1, nodes)
    if (k == k[0]).all():
        return Grid(tenor[:, 0], k[0], "log_moneyness")
    scaled = k / np.sqrt(tenor)
    if np.allclose(scaled, scaled[0], rtol=0.0, atol=_SAME_NODE):
        return Grid(tenor[:, 0], scaled[0], "sqrt_time")
    raise ValueError("neither log_moneyness nor log_moneyness / sqrt(tenor_years) is the same at each tenor")


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
