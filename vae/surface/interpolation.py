"""Surfaces between their points: cubic splines of total variance along each smile, linear between tenors.

Between two tenors, total variance at equal forward moneyness k is a weighted mean of both. Where it rises from the
shorter tenor to the longer one, it rises on the way too, so that interpolation adds no calendar arbitrage. Nothing is
extrapolated: a point that the surface does not enclose is NaN.

Reference: Gatheral, Jacquier (2014), arXiv:1204.0646, lemma 2.1 and section 5.
"""

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.spline import Spline

Array = NDArray[np.float64]


def smiles(iv: NDArray[np.floating], grid: Grid) -> Spline:
    """Splines of total variance along increasing k for each tenor of surfaces iv [*batch, tenor, node]."""
    k = grid.log_moneyness_of(iv.astype(np.float64))
    variance = iv.astype(np.float64) ** 2 * grid.tenors[:, None]
    if grid.convention == "delta":
        k, variance = k[..., ::-1], variance[..., ::-1]
    return Spline.through(k, variance)


def total_variance(smile: Spline, tenors: Array, tenor: float, k: Array) -> Array:
    """Total variance at one tenor and log-moneyness k; NaN where the surface does not enclose the point.

    Args:
        smile: splines of ``smiles``.
        tenors: tenors of the surface in years, [tenor].
        tenor: years.
        k: log-moneyness, [*batch, point].
    """
    later = int(np.searchsorted(tenors, tenor))
    if later < len(tenors) and tenors[later] == tenor:
        return _slice(smile, later).at(k).value
    shape = np.broadcast_shapes(smile.y[..., 0, :1].shape, k.shape)
    if later in (0, len(tenors)):
        return np.full(shape, np.nan)
    weight = (tenor - tenors[later - 1]) / (tenors[later] - tenors[later - 1])
    first, second = (_slice(smile, i).at(k).value for i in (later - 1, later))
    mean: Array = (1.0 - weight) * first + weight * second
    return mean


def _slice(smile: Spline, tenor: int) -> Spline:
    """The splines of one tenor."""
    return Spline(*(part[..., tenor, :] for part in smile))
