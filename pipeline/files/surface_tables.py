"""Surfaces as files for other programs and back: a row for each point, or one array as npy. Never imports torch."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files.atomic import new_file
from pipeline.files.csv_tables import csv_rows, numbers_of, write_csv
from pipeline.files.npy_file import read_npy
from vae.surface.grid import Grid
from vae.surface.surfaces import path_columns, point_columns

if TYPE_CHECKING:
    from vae.motion import Scenarios

_NEEDED = ("tenor_years", "log_moneyness", "iv")
_SURFACE = "surface"  # a column that one surface alone may lack
_DELTA = "call_delta"  # a column more, for a grid in deltas
_TYPES = {
    _SURFACE: pa.int64(),
    "tenor_years": pa.float64(),
    "log_moneyness": pa.float64(),
    _DELTA: pa.float64(),
    "iv": pa.float32(),
}
_OF_QUOTES = {"date", "snapshot", "market", "weight", "bid", "ask"}  # columns that a surface may have beside its own
_TELL_APART = ("date", "snapshot", "market")  # of these, columns that tell surfaces apart
_SAME_NODE = 1e-6  # files are written with eight digits, and k is divided by the root of short tenors


def write_surfaces(path: Path, blocks: Iterable[NDArray[np.float32]], grid: Grid, *, count: int) -> None:
    """Write blocks [batch, tenor, node] that make up ``count`` surfaces, one at a time.

    Parquet has one row a point: surface, tenor_years, log_moneyness, iv and, for a grid in deltas, call_delta; npy is
    the float32 array [count, tenor, node].

    Raises:
        InputError: the file ends in neither .parquet nor .npy, or the path cannot be written.
    """
    if path.suffix == ".parquet":
        _write_parquet(path, blocks, grid)
    elif path.suffix == ".npy":
        write_npy(path, blocks, (count, *grid.shape))
    else:
        raise InputError(f"{path} must end in .parquet or .npy")


def read_surfaces(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """Surfaces iv [surface, tenor, node] and their grid from Parquet or CSV with a row for each point.

    Rows may be in any order; an iv that is null or NaN is missing. Without a column ``surface`` all points are of one.
    The nodes are call deltas where there is such a column, log-moneyness where that is the same at each tenor, and else
    log-moneyness / sqrt(tenor).

    Raises:
        InputError: the file is missing, no table, lacks a column, or its surfaces do not lie on one such grid.
    """
    return _surfaces(path, _read_columns(path))


def _surfaces(path: Path, columns: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], Grid]:
    """The surfaces of columns, and their grid."""
    columns = _in_order(columns)
    surface, tenor, iv = (columns[name] for name in (_SURFACE, "tenor_years", "iv"))
    place = _DELTA if _DELTA in columns else "log_moneyness"
    points = _first_run(surface)
    if len(surface) % points or not _same_in_each_surface(surface, tenor, columns[place], points):
        raise InputError(f"{path} has surfaces with different points; each needs the same tenors and {place}")
    try:
        grid = _grid(tenor[:points], columns[place][:points], place)
    except ValueError as error:
        raise InputError(f"{path} has no grid: {error}") from error
    return iv.reshape(-1, *grid.shape), grid


def surfaces_of_table(path: Path, grid: Grid | None = None) -> tuple[NDArray[np.float32], Grid] | None:
    """The surfaces of a file, and their grid; None where its columns are not those of surfaces.

    With columns of quotes beside them it must hold the points of one surface; else it holds quotes, and is None too.

    Args:
        path: the file.
        grid: on which a surface lies that has columns of quotes beside it; None for any.

    Raises:
        InputError: the file cannot be read, or has the columns of surfaces, which do not lie on one grid.
    """
    if path.suffix not in (".parquet", ".csv"):
        return None
    names = _names(path)
    if _SURFACE not in names:
        if not set(_NEEDED) <= names:
            return None
        if names & _OF_QUOTES:
            return _one_surface(path, grid)
    return read_surfaces(path)


def numbers_surfaces(path: Path) -> bool:
    """Whether a file is an array, or a table with the number of each surface, which quotes do not have.

    Raises:
        InputError: the file cannot be read.
    """
    return path.suffix == ".npy" or (path.suffix in (".parquet", ".csv") and _SURFACE in _names(path))


def write_completion(
    path: Path, grid: Grid, iv: NDArray[np.floating], std: NDArray[np.floating], half_width: float
) -> None:
    """Write one surface [tenor, node] as CSV that ``read_surfaces`` reads, with its uncertainty.

    Columns: tenor_years, log_moneyness, call_delta for a grid in deltas, iv, std, and the ends of the 90 % interval,
    which is ``half_width`` standard deviations wide on each side.
    """
    points = point_columns(iv, grid)
    more = {"std": std, "low_90": iv - half_width * std, "high_90": iv + half_width * std}
    points |= {name: values.ravel() for name, values in more.items()}
    rows = zip(*(values.tolist() for values in points.values()), strict=True)
    write_csv(path, tuple(points), ([f"{value:.8g}" for value in row] for row in rows))


def read_on_grid(path: Path, grid: Grid) -> NDArray[np.floating]:
    """Surfaces [surface, tenor, node] of a known grid from Parquet, CSV or npy.

    Raises:
        InputError: the file cannot be read as surfaces, or these lie on another grid.
    """
    if path.suffix == ".npy":
        return read_array(path, grid)
    iv, found = read_surfaces(path)
    check_grid(path, found, grid)
    return iv


def check_grid(path: Path, found: Grid, grid: Grid) -> None:
    """Raise InputError unless the points of the grid that was found in a file are those of the model's."""
    in_deltas = grid.convention == "delta"
    same = found.shape == grid.shape and (found.convention == "delta") == in_deltas
    if not (same and all(map(_are_near, *(_places(each, in_deltas=in_deltas) for each in (found, grid))))):
        tenors, nodes = grid.shape
        raise InputError(
            f"{path} has surfaces on another grid than the model's {tenors} tenors x {nodes} nodes ({grid.convention} "
            f"{grid.nodes[0]:g} to {grid.nodes[-1]:g})"
        )


def _places(grid: Grid, *, in_deltas: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tenors, and the deltas of the nodes or the log-moneyness of the points."""
    return grid.tenors, grid.nodes if in_deltas else grid.log_moneyness


def _are_near(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return np.allclose(one, other, rtol=0.0, atol=_SAME_NODE)


def read_array(path: Path, grid: Grid) -> NDArray[np.floating]:
    """Surfaces [surface, tenor, node] of a known grid from npy.

    Raises:
        InputError: the file is missing, is no npy, or holds something else.
    """
    tenors, nodes = grid.shape
    return read_npy(path, "f", grid.shape, f"vols [surface, {tenors} tenors, {nodes} nodes]")


def _read_columns(path: Path, texts: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The columns by name, call_delta where there is one, and those of ``texts`` as they stand."""
    try:
        columns = _read_csv(path, texts) if path.suffix == ".csv" else _read_parquet(path, texts)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"{path} is not a table of surfaces: {str(error).splitlines()[0]}") from error
    if not len(columns["iv"]):
        raise InputError(f"{path} has no rows")
    return {_SURFACE: np.zeros(len(columns["iv"]), np.int64)} | columns


def _read_parquet(path: Path, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    file = pq.ParquetFile(path)
    _check_names(path, file.schema_arrow.names)
    table = file.read(columns=[name for name in (*_TYPES, *texts) if name in file.schema_arrow.names])
    found = {name: table[name].cast(kind).to_numpy() for name, kind in _TYPES.items() if name in table.column_names}
    return found | {name: np.array(table[name].to_pylist(), object) for name in texts if name in table.column_names}


def _read_csv(path: Path, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    rows = csv_rows(path.read_text("utf-8-sig"))
    columns = numbers_of(rows, _TYPES)
    _check_names(path, columns)
    found = {name: pa.array(columns[name]).cast(kind).to_numpy() for name, kind in _TYPES.items() if name in columns}
    return found | {name: np.array([row[name] for row in rows], object) for name in texts if rows and name in rows[0]}


def _check_names(path: Path, present: Iterable[str]) -> None:
    missing = [name for name in _NEEDED if name not in present]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; needed: {', '.join(_NEEDED)}")


def _names(path: Path) -> set[str]:
    """The names of the columns of a file; those of surfaces where it is damaged, so that their reader says so."""
    try:
        if path.suffix == ".parquet":
            return set(pq.read_schema(path).names)
        with path.open(encoding="utf-8-sig") as stream:
            return set(next(csv.reader(stream), ()))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, UnicodeDecodeError, csv.Error):
        return set(_NEEDED)


def _one_surface(path: Path, grid: Grid | None) -> tuple[NDArray[np.float32], Grid] | None:
    """The surface of a file with all points of a grid, of one date and market; None of another file."""
    try:
        columns = _read_columns(path, _TELL_APART)
        apart = [set(columns.pop(name)) for name in _TELL_APART if name in columns]
        iv, found = _surfaces(path, columns)
        check_grid(path, found, grid or found)
    except InputError:
        return None
    return (iv, found) if all(len(values) <= 1 for values in apart) else None


def _in_order(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns with their rows ordered by surface, tenor and place."""
    place = _DELTA if _DELTA in columns else "log_moneyness"
    order = np.lexsort((columns[place], columns["tenor_years"], columns[_SURFACE]))
    return {name: values[order] for name, values in columns.items()}


def _first_run(values: NDArray[Any]) -> int:
    """How many values at the start are equal."""
    changes = np.flatnonzero(values != values[0])
    return int(changes[0]) if len(changes) else len(values)


def _same_in_each_surface(surface: NDArray[Any], tenor: NDArray[Any], place: NDArray[Any], points: int) -> bool:
    """Whether every ``points`` rows are one surface more, at the tenors and places of the first."""
    surface, tenor, place = (column.reshape(-1, points) for column in (surface, tenor, place))
    one_each = (surface == surface[:, :1]).all() and len(np.unique(surface[:, 0])) == len(surface)
    return bool(one_each and (tenor == tenor[0]).all() and (place == place[0]).all())


def _grid(tenor: NDArray[np.float64], k: NDArray[np.float64], place: str) -> Grid:
    """The grid of a surface's points, given by tenor and log-moneyness or, where that is the place, delta; [point]."""
    nodes = _first_run(tenor)
    if len(tenor) % nodes or not (tenor.reshape(-1, nodes) == tenor[::nodes, None]).all():
        raise ValueError("its tenors have different numbers of points")
    tenor, k = tenor.reshape(-1, nodes), k.reshape(-1, nodes)
    if (k == k[0]).all():
        return Grid(tenor[:, 0], k[0], "delta" if place == _DELTA else "log_moneyness")
    if place == _DELTA:
        raise ValueError(f"{_DELTA} is not the same at each tenor")
    scaled = k / np.sqrt(tenor)
    if np.allclose(scaled, scaled[0], rtol=0.0, atol=_SAME_NODE):
        return Grid(tenor[:, 0], scaled[0], "sqrt_time")
    raise ValueError("neither log_moneyness nor log_moneyness / sqrt(tenor_years) is the same at each tenor")


def _write_parquet(path: Path, blocks: Iterable[NDArray[np.float32]], grid: Grid) -> None:
    in_deltas = grid.convention == "delta"
    names = [name for name in _TYPES if in_deltas or name != _DELTA]
    schema = pa.schema([pa.field(name, _TYPES[name], nullable=False) for name in names])
    first = 0
    with new_file(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for block in blocks:
            surfaces = np.arange(first, first + len(block))[:, None, None]
            writer.write_table(pa.table(point_columns(block, grid, surface=surfaces), schema=schema))
            first += len(block)


def write_scenarios(path: Path, blocks: "Iterable[Scenarios]", grid: Grid) -> int:
    """Write paths as Parquet with one row a point: scenario, date, log_return, arbitrage_free; the rest as surfaces.

    Returns:
        Number of surfaces with static arbitrage.

    Raises:
        InputError: the path cannot be written.
    """
    names = [name for name in _TYPES if name != _SURFACE and (grid.convention == "delta" or name != _DELTA)]
    own = {"scenario": pa.int64(), "date": pa.date32(), "log_return": pa.float32(), "arbitrage_free": pa.bool_()}
    fields = own | {name: _TYPES[name] for name in names}
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields.items()])
    first = lacking = 0
    with new_file(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for block in blocks:
            free = block.arbitrage_free(grid)
            columns = path_columns(block.iv, block.log_return, free, block.dates, grid, first=first)
            writer.write_table(pa.table(columns, schema=schema))
            first += len(block.iv)
            lacking += int((~free).sum())
    return lacking


def write_npy(path: Path, blocks: Iterable[NDArray[np.float32]], shape: tuple[int, ...]) -> None:
    """Write blocks that make up a float32 array of this shape, one at a time."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with new_file(path) as stream:
        npy.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(block.astype("<f4").tobytes())
