"""Surfaces from the ragged quotes of one day: forwards by parity, implied vols, interpolation onto a grid.

Total variance w = vol^2 tenor is interpolated along k = ln(K/F) by monotone cubics. Between expiries the variance vol^2
at equal k is the local cubic of ``vae.surface.term_structure``, held between the total variances of both, so that no
calendar arbitrage is added.
Nothing is extrapolated: a point outside of the quotes is NaN. A point that is quoted keeps its quote.

Reference: Fritsch, Carlson (1980), "Monotone piecewise cubic interpolation", SIAM J. Numer. Anal. 17(2); Gatheral,
Jacquier (2014), arXiv:1204.0646, lemma 2.1 (calendar at equal k).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from vae.pricing.implied_vol import implied_total_vol
from vae.pricing.monotone_cubic import MonotoneCubics
from vae.surface.grid import Grid
from vae.surface.term_structure import coordinate

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_SAME_TENOR = 1e-5  # years, five minutes: settings are written with few digits
_SAME_NODE = 1e-9
_NEAREST_PAIRS = 40
_CHUNK = 1000  # expiries at a time: bounds the memory
FEWEST_PAIRS = 4  # for a discount factor of their own
_LARGEST_RATIO = 4.0  # of the median slope to the discount factor that is known
_ROUNDING = 1e-12  # of a price: what it has above its intrinsic value is lost in this
_MOST_STEPS, _ROOT = 60, 1e-12  # of the search for the strike of a delta, and the excess of d1 at which it ends


class Parity(NamedTuple):
    """Forwards of expiries and discount factors to them, [expiry]."""

    forward: Array
    discount: Array


class Smile(NamedTuple):
    """Quotes of one expiry: tenor in years, increasing k = ln(K/F) and Black vols, both [quote]."""

    tenor: float
    k: Array
    vol: Array


def parity(expiry: Index, strikes: Array, difference: Array, *, discount: Array) -> Parity:
    """Forwards and discount factors from C - P = D (F - K), by medians, so that a single bad quote does no harm.

    The pairs nearest the money are used. D is the median slope between them where an expiry has at least four, and
    ``discount`` where it has fewer. Both are NaN where that slope is not within a factor of 4 of ``discount``: then
    prices and strikes do not belong together.

    Args:
        expiry: of each pair, 0, 1, ..., in any order, [pair].
        strikes: of the pairs, distinct in an expiry, [pair].
        difference: price of the call less that of the put, [pair].
        discount: of each expiry, the discount factor to use where it has fewer than four pairs, [expiry].

    Returns:
        NaN for an expiry without a pair.

    Reference: Theil (1950), "A rank-invariant method of linear and polynomial regression analysis".
    """
    order = np.lexsort((np.abs(difference), expiry))
    count = np.bincount(expiry, minlength=len(discount))
    first = np.cumsum(count) - count
    used = np.minimum(count, _NEAREST_PAIRS)
    found = np.full((2, len(discount)), np.nan)
    for pairs in np.unique(used[used > 0]).tolist():  # expiries with as many pairs are one array
        for own in _chunks(np.flatnonzero(used == pairs), _CHUNK):
            pair = order[first[own, None] + np.arange(pairs)]
            found[:, own] = _parity(strikes[pair], difference[pair], discount[own])
    return Parity(*found)


def _parity(x: Array, y: Array, discount: Array) -> Parity:
    """Forwards and discount factors of expiries with as many pairs, at strikes x and with C - P = y, [expiry, pair]."""
    if x.shape[1] >= FEWEST_PAIRS:
        i, j = np.triu_indices(x.shape[1], 1)
        slope = -np.median((y[:, i] - y[:, j]) / (x[:, i] - x[:, j]), axis=1)
        ratio = slope / discount
        discount = np.where((ratio > 1.0 / _LARGEST_RATIO) & (ratio < _LARGEST_RATIO), slope, np.nan)
    return Parity(np.median(x + y / discount[:, None], axis=1), discount)


def _chunks(places: Index, size: int) -> list[Index]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def implied_vols(k: Array, price: Array, tenor: Array, *, call: NDArray[np.bool_]) -> Array:
    """Black vols of undiscounted prices per unit of forward; NaN where a price is not inside the no-arbitrage bounds.

    Args:
        k: ln(K/F), [quote].
        price: of the call or put; one in the money is turned into the other by parity, [quote].
        tenor: years, positive, [quote].
        call: which quotes are calls, [quote].
    """
    intrinsic = np.where(call, 1.0, -1.0) * -np.expm1(k)
    otm = price - np.maximum(intrinsic, 0.0)
    otm = np.where(otm > _ROUNDING * price, otm, np.nan)
    vols: Array = implied_total_vol(k, otm) / np.sqrt(tenor)
    return vols


def smile(tenor: float, k: Array, vol: Array, weight: Array) -> Smile:
    """A smile of quotes in any order; quotes at the same k become one, with their weighted mean vol."""
    if (np.diff(k) > _SAME_NODE).all():
        return Smile(tenor, k, vol)
    order = np.lexsort((vol, k))
    k, vol, weight = k[order], vol[order], weight[order]
    group = np.cumsum(np.diff(k, prepend=k[:1]) > _SAME_NODE)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    if len(first) == len(k):
        return Smile(tenor, k, vol)
    mean = np.bincount(group, weight * vol) / np.bincount(group, weight)
    single = np.bincount(group) == 1
    return Smile(tenor, k[first], np.where(single, vol[first], mean))


def surface(smiles: Sequence[Smile], grid: Grid) -> Array:
    """The vols [tenor, node] on a grid, NaN where the quotes of the day do not reach.

    A point is reached where an expiry at or before its tenor and one at or after it quote strikes on both sides of its
    k; of several the nearest are used. A smile of one quote serves only a point that coincides with it.

    Args:
        smiles: one for each expiry, of increasing tenor.
        grid: of any convention; with deltas a point's k solves k = w/2 - sqrt(w) d1.
    """
    vols = np.full(grid.shape, np.nan)
    places = np.broadcast_to(grid.nodes, grid.shape) if grid.convention == "delta" else grid.log_moneyness
    for i, tenor in enumerate(grid.tenors.tolist()):
        for quoted in smiles:
            if abs(quoted.tenor - tenor) <= _SAME_TENOR:
                _pass_through(vols[i], quoted, places[i], in_deltas=grid.convention == "delta")
    curves = [s for s in smiles if len(s.k) > 1]
    if curves and np.isnan(vols).any():
        expiries, tenors = _Expiries(curves), grid.tenors[:, None]
        k = _at_deltas(expiries, tenors, grid.d1) if grid.convention == "delta" else places
        read = np.sqrt(expiries.total_variance(tenors, k) / tenors)
        vols = np.where(np.isnan(vols), read, vols)
    return vols


class _Expiries:
    """Total variance of the expiries of a day along k, NaN outside the quotes of each."""

    def __init__(self, smiles: Sequence[Smile]) -> None:
        self.k = [smile.k for smile in smiles]
        self.tenors = np.array([smile.tenor for smile in smiles])
        self._curves = MonotoneCubics(self.k, [smile.vol**2 * smile.tenor for smile in smiles])

    def total_variance(self, tenors: Array, k: Array) -> Array:
        """At tenors [tenor, 1] and k [tenor, point], between the nearest expiries that reach k."""
        variance = self._curves.at(k, within=_SAME_NODE) / self.tenors[:, None, None]
        known = ~np.isnan(variance)
        earlier = known & (self.tenors[:, None, None] <= tenors + _SAME_TENOR)
        later = known & (self.tenors[:, None, None] >= tenors - _SAME_TENOR)
        number = np.arange(len(self.tenors))[:, None, None]
        i, j = _last(earlier), later.argmax(0)
        before, after = earlier & (number < i), later & (number > j)
        places = [  # of up to four expiries: coordinates and variances, NaN where there is none
            (np.where(there, coordinate(self.tenors[index]), np.nan), np.take_along_axis(variance, index[None], 0)[0])
            for index, there in ((_last(before), before.any(0)), (i, True), (j, True), (after.argmax(0), after.any(0)))
        ]
        read = _local_cubic(coordinate(tenors), places)
        # where one expiry is the grid's tenor as nearly as settings are written, its vols are kept
        total = np.where(i >= j, places[1][1], read) * tenors
        ends = [vol_squared * self.tenors[index] for (_, vol_squared), index in ((places[1], i), (places[2], j))]
        held = np.where(i >= j, total, np.clip(total, np.minimum(*ends), np.maximum(*ends)))
        return np.where(earlier.any(0) & later.any(0), held, np.nan)


def _last(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The last of the first axis that is chosen."""
    index: NDArray[np.int64] = len(chosen) - 1 - chosen[::-1].argmax(0)
    return index


def _local_cubic(at: Array, places: Sequence[tuple[Array, Array]]) -> Array:
    """``Spline.local`` between the second and the third of four points, of which the outer ones may be missing.

    Args:
        at: places where it is read.
        places: coordinates and values of the points; the coordinate of a missing one is NaN.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = places
    with np.errstate(divide="ignore", invalid="ignore"):
        width = x2 - x1
        chord = (y2 - y1) / width
        first = ((y1 - y0) / (x1 - x0) * width + chord * (x1 - x0)) / (x2 - x0)
        last = ((y3 - y2) / (x3 - x2) * width + chord * (x3 - x2)) / (x3 - x1)
        first, last = (
            np.where(np.isnan(own), np.where(np.isnan(other), chord, 2.0 * chord - other), own)
            for own, other in ((first, last), (last, first))
        )
        step = at - x1
        square, cube = (3.0 * chord - 2.0 * first - last) / width, (first + last - 2.0 * chord) / width**2
    value: Array = y1 + step * (first + step * (square + step * cube))
    return value


def _at_deltas(expiries: _Expiries, tenors: Array, d1: Array) -> Array:
    """k where a call has the delta N(d1), [tenor, node], between quoted strikes; NaN where there is none."""

    def d1_at(k: Array) -> Array:
        w = expiries.total_variance(tenors, k)
        return (0.5 * w - k) / np.sqrt(w)

    knots = np.unique(np.concatenate(expiries.k))
    at_knots = d1_at(np.broadcast_to(knots, (len(tenors), len(knots))))[:, None]
    # d1 falls along k; comparisons with NaN, where a knot is not reached, are False
    between = (at_knots[..., :-1] >= d1[:, None]) & (at_knots[..., 1:] <= d1[:, None])
    first = np.where(between, np.abs(knots[:-1]), np.inf).argmin(-1)  # of several, the one nearest the money
    k = _root(lambda k: d1_at(k) - d1, knots[first], knots[first + 1])
    return np.where(between.any(-1) & (np.abs(d1_at(k) - d1) <= _SAME_NODE), k, np.nan)


def _root(falling: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where falling functions are 0 between ``low`` and ``high``, any shape: regula falsi with the Illinois rule.

    Reference: Dowell, Jarratt (1971), "A modified regula falsi method for computing the root of an equation".
    """
    above, below = falling(low), falling(high)
    rose = fell = np.zeros(low.shape, bool)
    for _ in range(_MOST_STEPS):
        span = above - below
        k = low + (high - low) * np.divide(above, span, out=np.zeros_like(span), where=span != 0.0)
        excess = falling(k)
        right = excess >= 0.0
        above, below = (
            np.where(right, excess, np.where(fell, 0.5 * above, above)),
            np.where(right, np.where(rose, 0.5 * below, below), excess),
        )
        low, high, rose, fell = np.where(right, k, low), np.where(right, high, k), right, ~right
        if not (np.abs(excess) > _ROOT).any():
            break
    return k


def _pass_through(row: Array, quoted: Smile, places: Array, *, in_deltas: bool) -> None:
    """Copy quotes that coincide with the places of one tenor, call deltas or k, into the row of that tenor."""
    coordinates = quoted.k
    if in_deltas:
        total_vol = quoted.vol * np.sqrt(quoted.tenor)
        coordinates = ndtr(0.5 * total_vol - quoted.k / total_vol)
    node, quote = np.nonzero(np.abs(places[:, None] - coordinates) <= _SAME_NODE)
    row[node] = quoted.vol[quote]
