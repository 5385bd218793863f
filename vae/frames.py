"""Quotes and surfaces in frames of pandas, polars or pyarrow, which are read without importing any of them."""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.surfaces import of_points


class QuoteColumns(NamedTuple):
    """The columns of quotes, each [quote], in the order of the arguments of ``SurfaceModel.complete``."""

    iv: NDArray[Any]
    tenor: NDArray[Any]
    log_moneyness: NDArray[Any] | None
    call_delta: NDArray[Any] | None
    weight: NDArray[Any] | None


def columns_of(frame: object) -> dict[str, NDArray[Any]] | None:
    """The columns of a frame of pandas, polars or pyarrow that has a column iv, by name; None for anything else.

    Raises:
        ValueError: a column holds something else than numbers.
    """
    names: Any = getattr(frame, "column_names", getattr(frame, "columns", ()))  # of pyarrow, or of the others
    if "iv" not in list(names):
        return None
    columns: dict[str, NDArray[Any]] = {}
    for name in names:
        try:
            values = np.asarray(frame[name])  # type: ignore[index]
            columns[str(name)] = values if values.dtype.kind in "iu" else values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the column {name!r} must hold numbers: {error}") from error
    return columns


def quotes_of(frame: object, beside: Iterable[object]) -> QuoteColumns | None:
    """The quotes of a frame with a row each; None for anything else.

    Its columns are iv, tenor_years, log_moneyness or call_delta, and perhaps weight.

    Raises:
        ValueError: the frame lacks a column or has another one, or coordinates are given ``beside`` it.
    """
    columns = columns_of(frame)
    if columns is None:
        return None
    if any(one is not None for one in beside):
        raise ValueError("a frame of quotes has its coordinates and weights in its own columns")
    _check_columns(columns, ("iv", "tenor_years"), ("iv", "tenor_years", "log_moneyness", "call_delta", "weight"))
    return QuoteColumns(
        columns["iv"],
        columns["tenor_years"],
        columns.get("log_moneyness"),
        columns.get("call_delta"),
        columns.get("weight"),
    )


def surfaces_of(frame: object, grid: Grid) -> NDArray[np.float32] | None:
    """The surfaces [surface, tenor, node] of a frame with a row for each point; None for anything else.

    Raises:
        ValueError: the frame lacks a column or has another one, or its points are not those of the grid.
    """
    columns = columns_of(frame)
    if columns is None:
        return None
    coordinate = "call_delta" if grid.convention == "delta" else "log_moneyness"
    needed = ("iv", "tenor_years", coordinate)
    _check_columns(columns, needed, ("surface", "tenor_years", "log_moneyness", "call_delta", "iv"))
    return of_points(columns, grid)[0]


def _check_columns(columns: Collection[str], needed: Collection[str], allowed: Collection[str]) -> None:
    """Raise ValueError unless columns are among those that are allowed, and have those that are needed."""
    for name in sorted(set(columns) - set(allowed)):
        raise ValueError(f"the column {name!r} is not read here; allowed: {', '.join(allowed)}")
    for name in needed:
        if name not in columns:
            raise ValueError(f"there is no column {name!r}; needed: {', '.join(needed)}")
