"""Requests and answers in terms of surfaces as tables of Arrow: which columns they have.

Surfaces have one row a point, with the columns of the files that ``volvae sample``, ``scenarios`` and ``complete``
write. Facts that belong to no row, such as seed and warning, are metadata of the table's schema.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deploy.server import answers, tables
from deploy.server.answers import VERSION, to_json
from deploy.server.errors import RefusedError
from deploy.server.tables import Wanted
from vae.bundle_model import Scores
from vae.runtime import Completion, Scenarios
from vae.surface.grid import Grid
from vae.surface.surfaces import of_points, path_columns, point_columns

FACTS = "volvae"  # in the metadata: the rest of an answer, as in JSON

_TENOR, _K, _DELTA, _SURFACE, _IV = "tenor_years", "log_moneyness", "call_delta", "surface", "iv"
_QUOTE_COLUMNS = (
    Wanted(_IV), Wanted(_TENOR), Wanted(_K, needed=False), Wanted(_DELTA, needed=False), Wanted("weight", needed=False)
)  # fmt: skip


def quotes(content: bytes, kind: str, *, most: int) -> dict[str, NDArray[np.float64]]:
    """The quotes of a table with a row each, as ``SurfaceModel.complete`` takes them.

    Raises:
        ProtocolError: it is no such table.
        HTTPException: it has more rows than ``most``.
    """
    found = tables.read(content, kind, _QUOTE_COLUMNS, most_rows=most)
    return {"tenor" if name == _TENOR else name: column for name, column in found.items()}


def surfaces(content: bytes, kind: str, grid: Grid, *, most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Surfaces iv [surface, tenor, node] of a table with a row for each point, in any order, and their numbers.

    An iv that is null or NaN is missing. One surface needs no column ``surface``.

    Raises:
        ProtocolError: it is no such table.
        RefusedError: the surfaces are not of the grid.
        HTTPException: it has more rows than ``most``.
    """
    in_deltas = grid.convention == "delta"
    wanted = [Wanted(_TENOR), Wanted(_K, needed=not in_deltas), Wanted(_IV, gaps=True)]
    wanted += [Wanted(_DELTA)] if in_deltas else []
    found = tables.read(content, kind, [*wanted, Wanted(_SURFACE, needed=False, whole=True)], most_rows=most)
    try:
        return of_points(found, grid)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def sample(iv: NDArray[np.float32], grid: Grid, first: int, facts: Mapping[str, str]) -> pa.RecordBatch:
    """Surfaces [batch, tenor, node]; ``surface`` is their place in the sequence of the seed."""
    number = np.arange(first, first + len(iv))[:, None, None]
    return _batch(point_columns(iv, grid, surface=number), facts)


def paths(found: Scenarios, grid: Grid, first: int, facts: Mapping[str, str]) -> pa.RecordBatch:
    """Paths of surfaces and returns; ``scenario`` is the place of a path in the sequence of the seed."""
    free = found.arbitrage_free(grid)
    return _batch(path_columns(found.iv, found.log_return, free, found.dates, grid, first=first), facts)


def completion(found: Completion, grid: Grid, answer: answers.Completed) -> pa.RecordBatch:
    """The surface with standard deviations, and in each row whether it lies outside of what the model learned.

    All that belongs to no point, the warning among it, is in the metadata as JSON.
    """
    columns = point_columns(found.iv, grid)
    columns |= {"std": found.std.ravel(), "outside": np.full(found.std.size, found.outside)}
    return _batch(columns, _facts(answer, leave_out=("grid", _IV, "std")))


def scores(found: Scores, number: NDArray[np.int64], version: str) -> pa.RecordBatch:
    """A row for each surface, in the order of their numbers; ``error`` is the list of its points, tenor by tenor."""
    columns = {_SURFACE: number, **found._asdict(), "odd": found.odd}
    columns["error"] = found.error.reshape(len(number), -1)
    return _batch(columns, {VERSION: version})


def _facts(answer: answers.Completed, *, leave_out: tuple[str, ...]) -> dict[str, str]:
    """The parts of an answer that belong to no row."""
    rest = {name: part for name, part in msgspec.structs.asdict(answer).items() if name not in leave_out}
    return {VERSION: answer.model_version, FACTS: to_json(rest).decode()}


def _batch(columns: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> pa.RecordBatch:
    arrays = [_array(column) for column in columns.values()]
    return pa.RecordBatch.from_arrays(arrays, list(columns)).replace_schema_metadata(dict(facts))


def _array(column: NDArray[Any]) -> pa.Array:
    """A column; NaN is null, and a row of several numbers is a list."""
    if column.ndim == 1:
        return pa.array(column, from_pandas=True)
    return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel(), from_pandas=True), column.shape[1])
