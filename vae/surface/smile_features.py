"""Named features of a surface as linear functions of its vols; they can be conditioning variables of samples.

- ``atm_level``: the at-the-money vol at the middle tenor.
- ``skew``: the slope of the vol there, by log-moneyness; on a grid in deltas the vol at delta 0.75 less that at 0.25.
- ``term_slope``: the at-the-money vol at the longest tenor less that at the shortest.

Between nodes the vols are interpolated by splines.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.spline import Curve, interpolation_matrices

ATM_LEVEL = "atm_level"
FEATURES = (ATM_LEVEL, "skew", "term_slope")

Array = NDArray[np.float64]

_ATM_DELTA, _PUT_DELTA, _CALL_DELTA = 0.5, 0.75, 0.25


def functionals(names: tuple[str, ...], grid: Grid) -> Array:
    """Weights of the vols of a surface in each feature, [feature, tenor, node].

    Raises:
        ValueError: a name is unknown, or the nodes do not enclose a point that a feature needs.
    """
    return np.stack([_functional(name, grid) for name in names])


def at_the_money(grid: Grid, tenor: int) -> Array:
    """Weights of the vols of a surface in its at-the-money vol at a tenor, by its place, [tenor, node].

    Raises:
        ValueError: the nodes do not enclose the money.
    """
    weights = np.zeros(grid.shape)
    weights[tenor] = _level(grid, tenor)
    if not np.isfinite(weights).all():
        raise ValueError(f"the money is beyond the nodes of the grid, {grid.nodes[0]:g} to {grid.nodes[-1]:g}")
    return weights


def money_is_inside(grid: Grid) -> bool:
    """Whether the nodes of all tenors enclose the money."""
    money = _ATM_DELTA if grid.convention == "delta" else 0.0
    return bool(grid.nodes[0] <= money <= grid.nodes[-1])


def skew_at_the_money(iv: NDArray[np.floating], grid: Grid) -> Array:
    """Slope of the vol by log-moneyness at the money of surfaces iv [*batch, tenor, node], [*batch, tenor].

    On a grid in deltas the money is at delta 0.5, and k = s^2 / 2 - s N^-1(delta) of the total vol s.

    >>> grid = Grid([0.25, 1.0], [-0.2, 0.0, 0.2], "log_moneyness")
    >>> skew_at_the_money(0.2 - 0.3 * grid.log_moneyness, grid).round(6)
    array([-0.3, -0.3])
    """
    in_deltas = grid.convention == "delta"
    nodes, money = (grid.nodes, _ATM_DELTA) if in_deltas else (grid.log_moneyness, 0.0)
    read = [_weights_at(each, money) for each in np.broadcast_to(nodes, grid.shape)]
    slope: Array = (iv * np.stack([curve.first for curve in read])).sum(axis=-1)
    if not in_deltas:
        return slope
    root = np.sqrt(grid.tenors)
    total = root * (iv * np.stack([curve.value for curve in read])).sum(axis=-1)
    found: Array = slope / (total * (root * slope - math.sqrt(2.0 * math.pi)))
    return found


def _functional(name: str, grid: Grid) -> Array:
    weights = np.zeros(grid.shape)
    middle = len(grid.tenors) // 2
    if name == ATM_LEVEL:
        weights[middle] = _level(grid, middle)
    elif name == "skew":
        weights[middle] = _slope(grid, middle)
    elif name == "term_slope":
        weights[-1], weights[0] = _level(grid, len(grid.tenors) - 1), -_level(grid, 0)
    else:
        raise ValueError(f"{name!r} is not a feature; allowed: {', '.join(FEATURES)}")
    if not np.isfinite(weights).all():
        raise ValueError(f"{name} is beyond the nodes of the grid, {grid.nodes[0]:g} to {grid.nodes[-1]:g}")
    return weights


def _level(grid: Grid, tenor: int) -> Array:
    """Weights of the nodes in the at-the-money vol, [node]."""
    if grid.convention == "delta":
        return _weights_at(grid.nodes, _ATM_DELTA).value
    return _weights_at(grid.log_moneyness[tenor], 0.0).value


def _slope(grid: Grid, tenor: int) -> Array:
    if grid.convention == "delta":
        return _weights_at(grid.nodes, _PUT_DELTA).value - _weights_at(grid.nodes, _CALL_DELTA).value
    return _weights_at(grid.log_moneyness[tenor], 0.0).first


def _weights_at(knots: Array, point: float) -> Curve:
    """Weights of the values at knots in a spline's value and derivatives at a point, [knot]; NaN outside the knots."""
    return Curve(*(part[0] for part in interpolation_matrices(knots, np.array([point]))))
