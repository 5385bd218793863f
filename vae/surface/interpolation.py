"""Surfaces between their points: cubic splines of total variance along each smile, local cubics between tenors.

The smile at a tenor that the grid does not have has at each node the variance of ``vae.surface.term_structure``. Where
total variance would not rise all the way from one tenor to the next, the surface is too rough for that: there it is
read on the line between both tenors' total variances at equal log-moneyness k, which adds no calendar arbitrage.
Nothing is extrapolated: a point that the surface does not enclose is NaN.

Reference: Gatheral, Jacquier (2014), arXiv:1204.0646, lemma 2.1 (calendar at equal forward moneyness).
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.spline import read, refined
from vae.surface.term_structure import tenor_weights

Array = NDArray[np.float64]

_LEAST_VARIANCE = 1e-12  # vol^2: a cubic may undershoot zero
_PARTS = 8  # of an interval between tenors, from each of which to the next total variance must rise
_ROUNDING = 1e-12  # of total variance


def smile(iv: NDArray[np.floating], grid: Grid, tenor: float) -> tuple[Array, Array]:
    """The nodes of a smile of surfaces iv [*batch, tenor, node] at a tenor inside the grid.

    Returns:
        Increasing log-moneyness, [node] or on a grid in deltas [*batch, node], and total variance, [*batch, node].
    """
    weights = tenor_weights(grid.tenors, np.array([tenor]))[0]
    used = np.flatnonzero(weights)  # a missing vol at another tenor does not matter
    squared = iv[..., used, :].astype(np.float64) ** 2
    variance = np.maximum(np.einsum("t,...tn->...n", weights[used], squared), _LEAST_VARIANCE)
    k = grid.log_moneyness_at(tenor, np.sqrt(variance))
    total = variance * tenor
    return (k[..., ::-1], total[..., ::-1]) if grid.convention == "delta" else (k, total)


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
    cubic = read(*smile(iv, grid, tenor), k)
    later = int(np.searchsorted(tenors, tenor))
    if tenors[later] == tenor:
        return cubic
    short, long = tenors[later - 1 : later + 1].tolist()
    smooth = _rises(iv, grid, np.linspace(short, long, _PARTS + 1))
    if smooth.all():
        return cubic
    first, last = (read(*smile(iv, grid, end), k) for end in (short, long))
    line = first + (tenor - short) / (long - short) * (last - first)
    return np.where(smooth[..., None] | np.isnan(line), cubic, line)


def _rises(iv: NDArray[np.floating], grid: Grid, tenors: Array) -> NDArray[np.bool_]:
    """Whether cubic total variance rises through these tenors, where arbitrage of the first is measured, [*batch]."""
    smiles = [smile(iv, grid, tenor) for tenor in tenors.tolist()]
    k = refined(smiles[0][0])
    variances = (read(*one, k) for one in smiles)
    # comparisons with NaN, beyond the reach of a smile, are False
    falls = [(after < before - _ROUNDING).any(axis=-1) for before, after in pairwise(variances)]
    return np.asarray(~np.any(falls, axis=0))
