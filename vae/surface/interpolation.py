"""Surfaces between their points: cubic splines of total variance along each smile, local cubics between tenors.

The smile at a tenor that the grid does not have has at each node the variance of ``vae.surface.term_structure``. Where
that would leave the range between the total variances of the next shorter and the next longer tenor at equal
log-moneyness k, it is held at the end of that range, so that reading adds no calendar arbitrage to that of the grid's
tenors. Nothing is extrapolated: a point that the surface does not enclose is NaN.

Reference: Gatheral, Jacquier (2014), arXiv:1204.0646, lemma 2.1 (calendar at equal forward moneyness).
"""

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.spline import Spline
from vae.surface.term_structure import tenor_weights

Array = NDArray[np.float64]

_LEAST_VARIANCE = 1e-12  # vol^2: a cubic may undershoot zero


def smile(iv: NDArray[np.floating], grid: Grid, tenor: float) -> Spline:
    """Splines of total variance along increasing k, of surfaces iv [*batch, tenor, node] at a tenor inside the grid."""
    weights = tenor_weights(grid.tenors, np.array([tenor]))[0]
    read = np.flatnonzero(weights)  # a missing vol at another tenor does not matter
    squared = iv[..., read, :].astype(np.float64) ** 2
    variance = np.maximum(np.einsum("t,...tn->...n", weights[read], squared), _LEAST_VARIANCE)
    k = grid.log_moneyness_at(tenor, np.sqrt(variance))
    total = variance * tenor
    if grid.convention == "delta":
        k, total = k[..., ::-1], total[..., ::-1]
    return Spline.through(k, total)


def total_variance(iv: NDArray[np.floating], grid: Grid, tenor: float, k: Array) -> Array:
    """Total variance at one tenor and log-moneyness k; NaN where the surface does not enclose the point.

    Args:
        iv: surfaces, [*batch, tenor, node].
        grid: of the surfaces.
        tenor: years.
        k: log-moneyness, [*batch, point].
    """
    tenors = grid.tenors
    if not tenors[0] <= tenor <= tenors[-1]:
        return np.full(np.broadcast_shapes(iv[..., 0, :1].shape, k.shape), np.nan)
    read = smile(iv, grid, tenor).at(k).value
    later = int(np.searchsorted(tenors, tenor))
    if tenors[later] == tenor:
        return read
    shorter, longer = (smile(iv, grid, float(tenors[i])).at(k).value for i in (later - 1, later))
    shorter, longer = np.where(np.isnan(shorter), -np.inf, shorter), np.where(np.isnan(longer), np.inf, longer)
    return np.clip(read, np.minimum(shorter, longer), np.maximum(shorter, longer))
