"""Surfaces between their points: cubic splines of total variance along each smile, local cubics between tenors.

The smile at a tenor that the grid does not have has at each node the variance of ``vae.surface.term_structure``. Where
total variance would not rise all the way from one tenor to the next, the surface is too rough for that: there it is
read on the line between both tenors' total variances at equal log-moneyness k, which adds no calendar arbitrage. Beyond
the end of the shorter smile, which a smile between them exceeds, total variance rises as much as it does at that end.
Nothing is extrapolated: a point that the surface does not enclose is NaN.

Reference: Gatheral, Jacquier (2014), arXiv:1204.0646, lemma 2.1 (calendar at equal forward moneyness).
"""

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.spline import read, refined
from vae.surface.term_structure import tenor_weights

Array = NDArray[np.float64]
Smile = tuple[Array, Array]  # log-moneyness of the nodes and total variance there

_LEAST_VARIANCE = 1e-12  # vol^2: a cubic may undershoot zero
_PARTS = 8  # of an interval between tenors, from each of which to the next total variance must rise
_ROUNDING = 1e-12  # of total variance


def smile(iv: NDArray[np.floating], grid: Grid, tenor: float) -> Smile:
    """The nodes of a smile of surfaces iv [*batch, tenor, node] at a tenor inside the grid.

    Returns:
        Increasing log-moneyness, [node] or on a grid in deltas [*batch, node], and total variance, [*batch, node].
    """
    k, total = _smiles(iv, grid, np.array([tenor]))
    return k[..., 0, :], total[..., 0, :]


def _smiles(iv: NDArray[np.floating], grid: Grid, tenors: Array) -> Smile:
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
        self._smiles: dict[float, Smile] = {}
        self._rising: dict[int, NDArray[np.bool_]] = {}

    def smile(self, tenor: float) -> Smile:
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
        rough = np.broadcast_to(~self._rises_before(later), cubic.shape[:-1])
        if rough.any():
            short, long = tenors[later - 1 : later + 1].tolist()
            first, last = ((_rows(x, rough), _rows(total, rough)) for x, total in map(self.smile, (short, long)))
            line = _on_a_line(first, last, (tenor - short) / (long - short), _rows(k, rough))
            cubic[rough] = np.where(np.isnan(cubic[rough]), np.nan, line)
        return cubic

    def _rises_before(self, later: int) -> NDArray[np.bool_]:
        """Whether total variance rises all the way to this tenor of the grid from the one before, [*batch]."""
        if later not in self._rising:
            short, long = self._grid.tenors[later - 1 : later + 1].tolist()
            self._rising[later] = _rises(self._iv, self._grid, np.linspace(short, long, _PARTS + 1))
        return self._rising[later]


def _rows(values: Array, chosen: NDArray[np.bool_]) -> Array:
    """Values [*batch, point] of chosen surfaces, [surface, point]; values of all surfaces alike, [point], stay."""
    return values if values.ndim == 1 else np.broadcast_to(values, (*chosen.shape, values.shape[-1]))[chosen]


def _on_a_line(short: Smile, long: Smile, share: float, k: Array) -> Array:
    """Total variance at log-moneyness k on the line from a smile to a longer one, [*batch, point].

    Beyond the end of one smile, what the other one changes from there is added to the line at that end. So the line
    meets no gap there, and rises with the tenor as it does at the end.

    Args:
        short: the smile that the line comes from.
        long: the smile that it goes to.
        share: of the way.
        k: [*batch, point].
    """
    (low, high), (long_low, long_high) = _ends(short), _ends(long)
    shared = np.clip(k, np.maximum(low, long_low), np.minimum(high, long_high))
    first, last = read(*short, shared), read(*long, shared)
    line: Array = first + share * (last - first)
    if (shared == k).all():
        return line
    return line + (_kept(short, k) - first) + (_kept(long, k) - last)


def _kept(smile: Smile, k: Array) -> Array:
    """Total variance of a smile at log-moneyness k, beyond its nodes that of its end, [*batch, point]."""
    return read(*smile, np.clip(k, *_ends(smile)))


def _ends(smile: Smile) -> tuple[Array, Array]:
    """The lowest and the highest log-moneyness of a smile, each [*batch, 1]."""
    k, _ = smile
    return k[..., :1], k[..., -1:]


def _rises(iv: NDArray[np.floating], grid: Grid, tenors: Array) -> NDArray[np.bool_]:
    """Whether cubic total variance rises through these tenors, where arbitrage of the first is measured, [*batch]."""
    k, total = _smiles(iv, grid, tenors)
    variances = read(k, total, refined(k[..., :1, :]))
    # comparisons with NaN, beyond the reach of a smile, are False
    falls = variances[..., 1:, :] < variances[..., :-1, :] - _ROUNDING
    return np.asarray(~falls.any(axis=(-2, -1)))
