"""The skew-stickiness ratio by tenor: how the vol at the money moves with the underlying, of data and of scenarios.

It is the slope of the regression of daily changes of the vol at the money, at a fixed tenor, on returns, divided by the
mean skew, the slope of the vol by log-moneyness there. It is 1 where each strike keeps its vol, and 0 where each delta
does; indices have more than 1. Of scenarios the regression is over all paths of all test dates. The skew is that of the
dates before, of both.

Reference: Bergomi (2009), "Smile dynamics IV", Risk, December.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.dynamics.fit import Walk
from vae.surface.grid import Grid
from vae.surface.smile_features import at_the_money, money_is_inside, skew_at_the_money
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

_PATHS = 500  # of a date, spread evenly over the shocks of its law


class Moves(NamedTuple):
    """Vols at the money over the test dates.

    Attributes:
        slope: of their changes by the return, [tenor].
        error: its standard error, where the size of what is left depends on the return (White 1980), [tenor].
    """

    slope: Array
    error: Array


def stickiness_metrics(
    walks: dict[str, Walk], iv: Array, center: Array, grid: Grid, log_price: Array, *, first: int
) -> dict[str, float]:
    """Flat figures by tenor in days: of the data with their standard error, of each law, and of the first to the data.

    There are none where the grid does not enclose the money, and none that are not finite.

    Args:
        walks: through all dates, by laws with a return; the model's own first.
        iv: surfaces without gaps, [date, tenor, node].
        center: log vols of the surface with coordinates of 0, [D].
        grid: of the surfaces.
        log_price: of the underlying, [date].
        first: place of the first test date.
    """
    if not money_is_inside(grid):
        return {}
    weights = np.stack([at_the_money(grid, place).ravel() for place in range(len(grid.tenors))])
    skew = skew_at_the_money(iv[first - 1 : -1], grid).mean(axis=0)
    level = iv.reshape(len(iv), -1) @ weights.T
    seen = _regressed(np.diff(level[first - 1 :], axis=0), np.diff(log_price[first - 1 :]))
    days = [f"{DAYS_PER_YEAR * tenor:.0f}" for tenor in grid.tenors.tolist()]
    slopes = {name: _of_scenarios(each, level, center, weights, first) for name, each in walks.items()}
    with np.errstate(divide="ignore", invalid="ignore"):  # flat smiles have no ratio
        to_data = next(iter(slopes.values())) / seen.slope
        parts = {"data_skew_stickiness": seen.slope / skew, "data_skew_stickiness_se": seen.error / np.abs(skew)}
        parts |= {f"{name}_skew_stickiness": slope / skew for name, slope in slopes.items()}
    figures = {f"{name}_{day}": value for name, part in parts.items() for day, value in zip(days, part, strict=True)}
    ends = {"lowest": to_data.min(), "highest": to_data.max()}
    figures |= {f"scenario_skew_stickiness_to_data_{name}": value for name, value in ends.items()}
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


def _of_scenarios(walked: Walk, level: Array, center: Array, weights: Array, first: int) -> Array:
    """The slope over the paths of all test dates, [tenor], where the vols at the money are ``level`` [date, tenor]."""
    changes, returns = [], []
    for origin in range(first - 1, len(level) - 1):
        found = walked.scenarios(origin, (np.arange(_PATHS)[:, None] + 0.5) / _PATHS)
        iv = np.exp(center + found.coordinates[:, 0] @ walked.basis.T)
        changes.append(iv @ weights.T - level[origin])
        returns.append(found.log_return[:, 0])
    return _regressed(np.concatenate(changes), np.concatenate(returns)).slope


def _regressed(changes: Array, returns: Array) -> Moves:
    """The regression of changes [n, tenor] on returns [n]."""
    apart = returns - returns.mean()
    square = float(apart @ apart)
    slope = apart @ changes / square
    rest = changes - changes.mean(axis=0) - np.multiply.outer(apart, slope)
    return Moves(slope, np.sqrt(np.square(apart[:, None] * rest).sum(axis=0)) / square)
