"""Surfaces with their coordinates: as arrays, as a table, and interpolated inside the grid."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.surface.grid import Grid
from vae.surface.interpolation import Interpolation

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
_SAME_PLACE = 1e-6  # of points, as k is divided by the root of short tenors


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Vols iv [surface, tenor, node] on a grid.

    Raises:
        ValueError: the shapes do not agree.
    """

    iv: NDArray[np.floating]
    grid: Grid

    def __post_init__(self) -> None:
        if self.iv.ndim != 3 or self.iv.shape[1:] != self.grid.shape:
            raise ValueError(
                f"iv has shape {self.iv.shape}; expected (surface, {self.grid.shape[0]}, {self.grid.shape[1]})"
            )

    def __len__(self) -> int:
        return len(self.iv)

    @property
    def tenors(self) -> Array:
        """Years, [tenor]."""
        return self.grid.tenors

    @property
    def log_moneyness(self) -> Array:
        """k = ln(K/F) of every point: [tenor, node], or [surface, tenor, node] on a grid in deltas."""
        return self.grid.log_moneyness_of(self.iv)

    def at(self, log_moneyness: ArrayLike, tenor: ArrayLike) -> Array:
        """Vols [surface, point] at log-moneyness k and tenors in years; NaN outside the domain of the grid.

        Total variance is a cubic spline along k. Between tenors, the variances of a node are a local cubic where that
        adds no calendar arbitrage: see ``vae.surface.interpolation``.

        Args:
            log_moneyness: [point] or one number for all.
            tenor: [point] or one number for all.

        Raises:
            ValueError: the arguments broadcast to more than one axis.

        >>> grid = Grid([0.25, 1.0], [-0.2, 0.0, 0.2])
        >>> Surfaces(np.full((1, 2, 3), 0.2), grid).at([0.0, 0.05, 0.0], [0.25, 0.5, 2.0])
        array([[0.2, 0.2, nan]])
        """
        k, years = np.broadcast_arrays(np.atleast_1d(np.asarray(log_moneyness, float)), np.asarray(tenor, float))
        if k.ndim != 1:
            raise ValueError(f"log_moneyness and tenor broadcast to shape {k.shape}; allowed: one axis")
        found, surfaces = np.full((len(self.iv), len(k)), np.nan), Interpolation(self.iv, self.grid)
        for one in np.unique(years):
            where = years == one
            found[:, where] = surfaces.total_variance(float(one), k[where]) / one
        vols: Array = np.sqrt(found)
        return vols

    def to_pandas(self) -> "pd.DataFrame":
        """A table with one row per point: surface and the columns of ``point_columns``. Needs pandas."""
        import pandas as pd  # noqa: PLC0415 - pandas is optional

        return pd.DataFrame(point_columns(self.iv, self.grid, surface=np.arange(len(self))[:, None, None]))


def of_points(columns: Mapping[str, NDArray[Any]], grid: Grid) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The surfaces iv [surface, tenor, node] of ``point_columns`` in any order, and their numbers [surface].

    Numbers increase. An iv that is NaN is missing. One surface needs no column ``surface``. On a grid of deltas
    call_delta says where a point is, on another one log_moneyness.

    Raises:
        ValueError: a surface lacks a point of the grid, or has another one or one twice.
    """
    place = columns["call_delta" if grid.convention == "delta" else "log_moneyness"]
    number = columns.get("surface", np.zeros(len(place), np.int64))
    order, points = np.lexsort((place, columns["tenor_years"], number)), grid.shape[0] * grid.shape[1]
    if len(order) % points:
        raise ValueError(_not_of(grid))
    parts = (part[order].reshape(-1, *grid.shape) for part in (number, columns["tenor_years"], place, columns["iv"]))
    number, tenor, place, iv = parts
    numbers = number[:, 0, 0]
    nodes = place / np.sqrt(tenor) if grid.convention == "sqrt_time" else place
    if not (
        (number == numbers[:, None, None]).all()
        and (np.diff(numbers) > 0).all()
        and np.allclose(tenor, grid.tenors[:, None], rtol=0.0, atol=_SAME_PLACE)
        and np.allclose(nodes, grid.nodes, rtol=0.0, atol=_SAME_PLACE)
    ):
        raise ValueError(_not_of(grid))
    with np.errstate(over="ignore"):
        return iv.astype(np.float32), numbers


def _not_of(grid: Grid) -> str:
    places = {"delta": "call_delta", "log_moneyness": "log_moneyness", "sqrt_time": "log_moneyness / sqrt(tenor_years)"}
    return (
        f"each surface needs one row for each point of the model's grid of {grid.shape[0]} tenors x {grid.shape[1]} "
        f"nodes ({places[grid.convention]}), whose iv is null where it is missing; `model.grid` and the bundle's "
        f"manifest.json have the grid"
    )


def path_columns(
    iv: NDArray[np.floating],
    log_return: NDArray[np.floating],
    arbitrage_free: NDArray[np.bool_],
    dates: Sequence[dt.date],
    grid: Grid,
    *,
    first: int,
) -> dict[str, NDArray[Any]]:
    """Paths of surfaces as columns: scenario, date, log_return, arbitrage_free, and ``point_columns``.

    Args:
        iv: of the surfaces, [path, date, tenor, node].
        log_return: of the underlying, [path, date].
        arbitrage_free: whether each surface is free of static arbitrage, [path, date].
        dates: of the surfaces.
        grid: of the surfaces.
        first: number of the first path.
    """
    return point_columns(
        iv,
        grid,
        scenario=np.arange(first, first + len(iv))[:, None, None, None],
        date=np.array(dates, "datetime64[D]")[:, None, None],
        log_return=log_return[:, :, None, None],
        arbitrage_free=arbitrage_free[:, :, None, None],
    )


def point_columns(iv: NDArray[np.floating], grid: Grid, **numbers: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Surfaces iv [*batch, tenor, node] as columns with one row per point, each [point].

    The columns are those of ``numbers``, whose arrays broadcast with iv and say what a row belongs to; then
    tenor_years, log_moneyness, call_delta on a grid of deltas, and iv.

    >>> columns = point_columns(np.full((2, 3), 0.2), Grid([0.25, 1.0], [-0.2, 0.0, 0.2]), date=np.array([[7]]))
    >>> {name: column.tolist()[:2] for name, column in columns.items()}
    {'date': [7, 7], 'tenor_years': [0.25, 0.25], 'log_moneyness': [-0.1, 0.0], 'iv': [0.2, 0.2]}
    """
    columns = {**numbers, "tenor_years": grid.tenors[:, None], "log_moneyness": grid.log_moneyness_of(iv)}
    if grid.convention == "delta":
        columns["call_delta"] = grid.nodes
    return {name: np.broadcast_to(column, iv.shape).ravel() for name, column in {**columns, "iv": iv}.items()}
