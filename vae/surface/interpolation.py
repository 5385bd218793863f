"""Surfaces between their points: cubic splines of total variance along each smile, local cubics between tenors.

The smile at a tenor that the grid does not have has at each node the variance of ``vae.surface.term_structure``. Where
total variance would not rise all the way from one tenor to the next, the surface is too rough for that: there it is
read on the line between both tenors' total variances at equal log-moneyness k, which adds no calendar arbitrage.
Nothing is extrapolated: a point that the surface does not enclose is NaN.

Reference: Gatheral, Jacquier (2014), arXiv:1204.0646, lemma 2.1 (calendar at equal forward moneyness).
"""

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
    k, total = _smiles(iv, grid, np.array([tenor]))
    return k[..., 0, :], total[..., 0, :]


def _smiles(iv: NDArray[np.floating], grid: Grid, tenors: Array) -> tuple[Array, Array]:
    """``smile`` at tenors [time] within one interval of the grid; both results have an axis [time] before the nodes."""
    weights = tenor_weights(grid.tenors, tenors)
    used = np.flatnonzero(weights.any(axis=0))  # a missing vol at another tenor does not matter
    squared = np.moveaxis(iv, -2, 0)[used].astype(np.float64) ** 2
    mixed = weights[:, used] @ squared.reshape(len(used), -1)  # one product for the whole batch
    variance = np.maximum(np.moveaxis(mixed.reshape(-1, *squared.shape[1:]), 0, -2), _LEAST_VARIANCE)
    years = tenors[:, None]
    k, total = grid.log_moneyness_at(years, np.sqrt(variance)), variance * years
    return (k[..., ::-1], total[..., ::-1]) if grid.convention == "delta" else (k, total)


class Interpolation:
    """Surfaces iv [*batch, tenor, node] between their points. What one tenor has taken serves others near it."""

    def __init__(self, iv: NDArray[np.floating], grid: Grid) -> None:
        self._iv, self._grid = iv, grid
        self._smiles: dict[float, tuple[Array, Array]] = {}
        self._rising: dict[int, NDArray[np.bool_]] = {}

    def smile(self, tenor: float) -> tuple[Array, Array]:
        """As the function ``smile``."""
        if tenor not in self._smiles:
            self._smiles[tenor] = smile(self._iv, self._grid, tenor)
        return self._smiles[tenor]

    def total_variance(self, tenor: float, k: Array) -> Array:
        """Total variance at one tenor and log-moneyness k; NaN where the surface does not enclose the point.

        Args:
            tenor: years.
            k: log-moneyness, [*batch, point].
        """
        tenors = self._grid.tenors
        if not tenors[0] <= tenor <= tenors[-1]:
            return np.full(np.broadcast_shapes(self._iv[..., 0, :1].shape, k.shape), np.nan)
        cubic = read(*self.smile(tenor), k)
        later = int(np.searchsorted(tenors, tenor))
        if tenors[later] == tenor:
            return cubic
        smooth = self._rises_before(later)
        if smooth.all():
            return cubic
        short, long = tenors[later - 1 : later + 1].tolist()
        first, last = (read(*self.smile(end), k) for end in (short, long))
        line = first + (tenor - short) / (long - short) * (last - first)
        return np.where(smooth[..., None] | np.isnan(line), cubic, line)

    def _rises_before(self, later: int) -> NDArray[np.bool_]:
        """Whether total variance rises all the way to this tenor of the grid from the one before, [*batch]."""
        if later not in self._rising:
            short, long = self._grid.tenors[later - 1 : later + 1].tolist()
            self._rising[later] = _rises(self._iv, self._grid, np.linspace(short, long, _PARTS + 1))
        return self._rising[later]


def _rises(iv: NDArray[np.floating], grid: Grid, tenors: Array) -> NDArray[np.bool_]:
    """Whether cubic total variance rises through these tenors, where arbitrage of the first is measured, [*batch]."""
    k, total = _smiles(iv, grid, tenors)
    variances = read(k, total, refined(k[..., :1, :]))
    # comparisons with NaN, beyond the reach of a smile, are False
    falls = variances[..., 1:, :] < variances[..., :-1, :] - _ROUNDING
    return np.asarray(~falls.any(axis=(-2, -1)))
