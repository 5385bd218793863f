"""Static arbitrage of implied-volatility surfaces: calendar, vertical and butterfly spreads, in units of the forward.

A surface is free of static arbitrage where call prices per unit of forward fall and are convex in the strike and
rise with the tenor at equal forward moneyness.

Reference: Carr, Madan (2005), "A note on sufficient conditions for no arbitrage"; Gatheral, Jacquier (2014),
arXiv:1204.0646, lemma 2.1 (calendar at equal forward moneyness).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

from vae.grid import Grid

Array = NDArray[np.float64]


class Violations(NamedTuple):
    """Largest violation of each surface, [batch], in units of the forward; 0 where there is none."""

    calendar: Array
    vertical: Array
    butterfly: Array

    @property
    def largest(self) -> Array:
        """Over all three kinds, [batch]."""
        return np.maximum(np.maximum(self.calendar, self.vertical), self.butterfly)


def violations(iv: NDArray[np.floating], grid: Grid) -> Violations:
    """Largest violations of surfaces iv [batch, tenor, node] at the grid's own points.

    Tenors whose nodes differ are compared where the strikes of both reach, the longer one read by a cubic spline
    of its total variance. A vol that is not a positive number counts as an infinite violation.
    """
    vol = iv.astype(np.float64)
    valid: NDArray[np.bool_] = np.all(vol > 0.0, axis=(1, 2))  # NaN > 0 is False
    vol = np.where(valid[:, None, None], vol, 1.0)
    variance = vol**2 * grid.tenors[:, None]
    k = grid.log_moneyness
    kinds = (_calendar(variance, k), _vertical(variance, k), _butterfly(variance, k))
    return Violations(*(np.where(valid, np.maximum(kind, 0.0), np.inf) for kind in kinds))


def free_rate(iv: NDArray[np.floating], grid: Grid, *, tolerance: float) -> float:
    """Share of surfaces iv [batch, tenor, node] whose violations all stay within ``tolerance`` of the forward."""
    return float((violations(iv, grid).largest <= tolerance).mean())


def call_price(variance: Array, k: Array) -> Array:
    """Black call per unit of forward at total variance w > 0 and log-moneyness k."""
    total_vol = np.sqrt(variance)
    d1 = -k / total_vol + 0.5 * total_vol
    price: Array = ndtr(d1) - np.exp(k) * ndtr(d1 - total_vol)
    return price


def _calendar(variance: Array, k: Array) -> Array:
    """How far a call costs less at the next tenor than at this one."""
    worst = np.zeros(len(variance))
    for short, long in zip(range(len(k) - 1), range(1, len(k)), strict=True):
        common = (k[short] >= k[long, 0]) & (k[short] <= k[long, -1])
        at = k[short, common]
        # A cubic spline is linear in its values, so one matrix reads every surface.
        reader = CubicSpline(k[long], np.eye(len(k[long])))(at)
        longer = np.maximum(variance[:, long] @ reader.T, np.finfo(float).tiny)
        gap = call_price(variance[:, short, common], at) - call_price(longer, at)
        worst = np.maximum(worst, gap.max(axis=-1, initial=0.0))
    return worst


def _vertical(variance: Array, k: Array) -> Array:
    """How far a call rises with the strike, or falls by more than the strike rises."""
    fall = -np.diff(call_price(variance, k), axis=-1)
    width = np.diff(np.exp(k), axis=-1)
    worst: Array = np.maximum(-fall, fall - width).max(axis=(1, 2))
    return worst


def _butterfly(variance: Array, k: Array) -> Array:
    """How far a call costs more than the portfolio of its two neighbours that replicates it from above."""
    price, strike = call_price(variance, k), np.exp(k)
    weight = (strike[:, 2:] - strike[:, 1:-1]) / (strike[:, 2:] - strike[:, :-2])
    chord = weight * price[..., :-2] + (1.0 - weight) * price[..., 2:]
    worst: Array = (price[..., 1:-1] - chord).max(axis=(1, 2), initial=0.0)
    return worst
