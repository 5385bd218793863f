"""Static arbitrage of implied-volatility surfaces: its size, its kind and its location.

A surface is free of static arbitrage where call prices per unit of forward fall and are convex in the strike, and rise
with the tenor at equal forward moneyness. Between its nodes, a smile is the spline of its total variance.

Reference: Carr, Madan (2005), "A note on sufficient conditions for no arbitrage"; Gatheral, Jacquier (2014),
arXiv:1204.0646, lemma 2.1 (calendar at equal forward moneyness), equations 2.1 and 2.2 (butterfly).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid
from vae.surface.normal import tail_ratio
from vae.surface.spline import Curve, Spline, refined

Array = NDArray[np.float64]

PRICE_KINDS = ("calendar", "vertical", "butterfly")
SHAPE_KINDS = ("density", "wing")
KINDS = PRICE_KINDS + SHAPE_KINDS

PRICE_TOLERANCE = 1e-6  # of the forward, that a spread earns by rounding
SHAPE_TOLERANCE = 1e-3  # of g and of the wing's slope: vols rounded to single precision move g by 1e-4 or less

_LEAST_PRICE = 1e-6  # of the forward, of an option where g is measured
_STEEPEST_WING = 2.0
_LEAST_VARIANCE = 1e-12  # total variance; a spline may undershoot it, and options are then worth their intrinsic value
_ROWS = 128  # surfaces in a block: the numbers of two smiles stay in the processor's cache


class Violations(NamedTuple):
    """The largest violation of each smile, by kind in the order of ``KINDS``.

    Attributes:
        size: [kind, surface, tenor], 0 where there is no violation. The unit of ``calendar`` (a smile and the next
            longer one), ``vertical`` and ``butterfly`` is the forward: the size is what the trade earns. The size of
            ``density`` is -g, that of ``wing`` the excess of |dw/dk| over 2.
        k: log-moneyness of the largest violation, [kind, surface, tenor]; NaN where there is none.
        usable: [surface]; false where a vol is not positive and finite or, on a grid of deltas, the strikes do not fall
            with the delta. Such a surface counts as a violation of every kind and has no sizes.
    """

    size: Array
    k: Array
    usable: NDArray[np.bool_]

    def largest(self, kind: str) -> Array:
        """Over the tenors, [surface]; infinite where the surface is not usable."""
        return np.where(self.usable, self.size[KINDS.index(kind)].max(axis=-1), np.inf)

    @property
    def profit(self) -> Array:
        """Profit of the best calendar, vertical or butterfly spread, in units of the forward, [surface].

        Infinite where the surface is not usable.
        """
        found: Array = np.max([self.largest(kind) for kind in PRICE_KINDS], axis=0)
        return found


class Summary(NamedTuple):
    """One kind of violation over many surfaces; sizes in the kind's units, over usable surfaces beyond the tolerance.

    Attributes:
        free_rate: share of surfaces within the tolerance.
        mean, largest: of the sizes; 0 where there is none.
        tenor: years, of the largest; None where there is none. Of a calendar spread, the shorter tenor.
        k: log-moneyness of the largest; None where there is none.
        surfaces_by_tenor: how many surfaces are beyond the tolerance at each tenor.
    """

    free_rate: float
    mean: float
    largest: float
    tenor: float | None
    k: float | None
    surfaces_by_tenor: list[int]


def violations(iv: NDArray[np.floating], grid: Grid) -> Violations:
    """Violations of surfaces iv [surface, tenor, node], decimal vols, NaN where there is no quote.

    A complete smile is measured at points five times as dense as its nodes, a smile with missing points only at its
    quotes. A smile of fewer than two quotes is skipped; a smile of two quotes has no butterfly.

    - calendar: a call of the next longer quoted tenor costs less, at a strike inside both smiles. The size is the
      difference of the prices.
    - vertical: a call rises from one strike to a higher one, or falls by more than the strike rises.
    - butterfly: a call costs more than the chord between two calls with lower and higher strikes, at equal numbers of
      points. Spreads of 1, 2, 4, ... points are measured, because a narrow spread earns less the denser the points are.
    - density: Durrleman's function g, which has the sign of the risk-neutral density, is negative. It is measured only
      where the out-of-the-money option is worth at least 1e-6 of the forward. No butterfly can earn more than that
      option costs, and further out the rounding of the vols decides the sign of g.
    - wing: |dw/dk| exceeds 2 at the first or last point. Lee's bound of 2 holds in the limit of far strikes; at finite
      strikes the bound is 4 (Rogers, Tehranchi). So this kind warns about extrapolation and does not prove arbitrage.

    Reference: Gatheral, Jacquier (2014), equation 2.1; Lee (2004), "The moment formula for implied volatility at
    extreme strikes"; Rogers, Tehranchi (2010), "Can the implied volatility surface move by parallel shifts?".

    Total variance 0.045 at half a year and 0.04 at one year is a calendar arbitrage:

    >>> grid = Grid([0.5, 1.0], [-0.2, 0.0, 0.2])
    >>> found = violations(np.array([[[0.3, 0.3, 0.3], [0.2, 0.2, 0.2]]]), grid)
    >>> found.largest("calendar") > 0.0, found.largest("butterfly")
    (array([ True]), array([0.]))
    >>> free_rate(found, tolerance=1e-6)
    0.0
    """
    return join(violation_blocks(iv, grid))


def violation_blocks(iv: NDArray[np.floating], grid: Grid) -> Iterator[Violations]:
    """``violations`` in blocks of consecutive surfaces, ``block_count`` blocks in all."""
    for start in range(0, len(iv), _ROWS):
        yield _violations_of_block(iv[start : start + _ROWS].astype(np.float64), grid)


def block_count(surfaces: int) -> int:
    """Number of blocks that ``violation_blocks`` yields."""
    return -(-surfaces // _ROWS)


def join(blocks: Iterable[Violations]) -> Violations:
    """One result for consecutive blocks of surfaces."""
    size, k, usable = zip(*blocks, strict=True)
    return Violations(np.concatenate(size, axis=1), np.concatenate(k, axis=1), np.concatenate(usable))


def free_rate(found: Violations, *, tolerance: float) -> float:
    """Share of surfaces whose calendar, vertical and butterfly spreads earn at most ``tolerance`` of the forward."""
    return float((found.profit <= tolerance).mean())


def summarise(found: Violations, grid: Grid, *, tolerance: float) -> dict[str, Summary]:
    """Rate, size and location of each kind; ``tolerance`` is that of prices, in units of the forward."""
    return {kind: _summary(found, kind, grid, tolerance if kind in PRICE_KINDS else SHAPE_TOLERANCE) for kind in KINDS}


def call_price(variance: Array, k: Array) -> Array:
    """Black call per unit of forward at total variance w > 0 and log-moneyness k = ln(K/F).

    The price is N(d1) - exp(k) N(d2). As exp(k - d2^2 / 2) = exp(-d1^2 / 2), both tails have that factor.
    """
    total_vol = np.sqrt(variance)
    d1 = 0.5 * total_vol - k / total_vol
    d2 = d1 - total_vol
    tails = np.copysign(tail_ratio(np.abs(d2)), d2)
    tails -= np.copysign(tail_ratio(np.abs(d1)), d1)
    tails *= np.exp(-0.5 * d1 * d1)
    tails += d1 >= 0.0
    tails -= (d2 >= 0.0) * np.exp(k)
    return tails


def durrleman(smile: Curve, k: Array) -> Array:
    """g(k) of total variance w > 0 and its derivatives; the density of ln(K/F) is g exp(-d2^2 / 2) / sqrt(2 pi w).

    Reference: Gatheral, Jacquier (2014), equations 2.1 and 2.2.
    """
    w, slope, curvature = smile
    return (1.0 - 0.5 * k * slope / w) ** 2 - 0.25 * slope**2 * (1.0 / w + 0.25) + 0.5 * curvature


class _Smile(NamedTuple):
    """Smiles of one tenor: splines of total variance, the points k where they are measured, and their values there."""

    tenor: int
    spline: Spline
    k: Array
    curve: Curve


def _violations_of_block(iv: Array, grid: Grid) -> Violations:
    """Violations of a block; surfaces with the same missing points are measured together."""
    shape = (len(KINDS), len(iv), len(grid.tenors))
    found = Violations(np.zeros(shape), np.full(shape, np.nan), np.empty(len(iv), np.bool_))
    quoted_of = ~np.isnan(iv)
    alike: dict[bytes, list[int]] = {}
    for row, quoted in enumerate(quoted_of):
        alike.setdefault(quoted.tobytes(), []).append(row)
    for rows in map(np.array, alike.values()):
        quoted = quoted_of[rows[0]]
        usable = _usable(iv[rows], quoted, grid)
        found.usable[rows] = usable
        if usable.any():
            _measure(found, rows[usable], _smiles(iv[rows[usable]], quoted, grid))
    return found


def _usable(iv: Array, quoted: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Whether vols are positive and finite and, on a grid in deltas, the strikes fall with the delta, [surface]."""
    positive = np.all(((iv > 0.0) & (iv < np.inf)) | ~quoted, axis=(1, 2), keepdims=True)
    if grid.convention != "delta":
        return np.ravel(positive)
    k = grid.log_moneyness_of(np.where(positive, iv, 1.0))
    falls = np.array([np.all(np.diff(k[:, tenor, row]) < 0.0, axis=-1) for tenor, row in enumerate(quoted)])
    return np.ravel(positive) & falls.all(axis=0)


def _smiles(iv: Array, quoted: NDArray[np.bool_], grid: Grid) -> Iterator[_Smile]:
    """Smiles with increasing strikes of the tenors that have at least two quotes."""
    k, variance = grid.log_moneyness_of(iv), iv**2 * grid.tenors[:, None]
    if grid.convention == "delta":
        k, variance, quoted = k[..., ::-1], variance[..., ::-1], quoted[:, ::-1]
    for tenor, row in enumerate(quoted):
        if row.sum() >= 2:
            spline = Spline.through(k[..., tenor, row], variance[:, tenor, row])
            points = refined(spline.x) if row.all() else spline.x
            value, *derivatives = spline.at(points)
            yield _Smile(tenor, spline, points, Curve(np.maximum(value, _LEAST_VARIANCE), *derivatives))


def _measure(found: Violations, rows: NDArray[np.int64], smiles: Iterable[_Smile]) -> None:
    """Write the violations of some surfaces into ``found``; two smiles at a time are in memory."""
    shorter: _Smile | None = None
    for smile in smiles:
        for kind, excess in _within_smile(smile).items():
            _write(found, kind, rows, smile, excess)
        if shorter is not None:
            _write(found, "calendar", rows, shorter, _calendar(shorter, smile))
        shorter = smile


def _write(found: Violations, kind: str, rows: NDArray[np.int64], smile: _Smile, excess: Array) -> None:
    """Write the largest violation of one kind in a smile of some surfaces, of those [surface, point]."""
    worst = excess.argmax(axis=-1)[:, None]
    size = np.take_along_axis(excess, worst, axis=-1)[:, 0]
    k = np.take_along_axis(np.broadcast_to(smile.k, excess.shape), worst, axis=-1)[:, 0]
    found.size[KINDS.index(kind), rows, smile.tenor] = np.maximum(size, 0.0)
    found.k[KINDS.index(kind), rows, smile.tenor] = np.where(size > 0.0, k, np.nan)


def _within_smile(smile: _Smile) -> dict[str, Array]:
    """Violations inside a smile by kind, [surface, point]."""
    strike, price = np.exp(smile.k), call_price(smile.curve.value, smile.k)
    kinds = {"vertical": _vertical(strike, price), "wing": _wing(smile.curve.first)}
    if smile.spline.x.shape[-1] < 3:
        return kinds
    out_of_the_money = price - np.maximum(1.0 - strike, 0.0)
    density = np.where(out_of_the_money >= _LEAST_PRICE, -durrleman(smile.curve, smile.k), 0.0)
    return kinds | {"butterfly": _butterfly(strike, price), "density": density}


def _calendar(short: _Smile, long: _Smile) -> Array:
    """By how much calls of the longer tenor cost less, at the points of the shorter one."""
    variance, later = short.curve.value, long.spline.value(short.k)
    falls = later < variance  # false outside the longer smile, where it is NaN
    excess = np.zeros(variance.shape)
    k = np.broadcast_to(short.k, variance.shape)[falls]
    excess[falls] = call_price(variance[falls], k) - call_price(np.maximum(later[falls], _LEAST_VARIANCE), k)
    return excess


def _vertical(strike: Array, price: Array) -> Array:
    """By how much a call costs more than at a lower strike, or a put less."""
    call_rises = price - np.minimum.accumulate(price, axis=-1)
    put = price + strike
    put_falls = np.maximum.accumulate(put, axis=-1) - put
    return np.maximum(call_rises, put_falls)


def _butterfly(strike: Array, price: Array) -> Array:
    """By how much a call costs more than the chord between two others; the largest over all widths of the spread."""
    excess = np.zeros(price.shape)
    points = price.shape[-1]
    reach = 1
    while 2 * reach < points:
        low, mid, high = slice(0, points - 2 * reach), slice(reach, points - reach), slice(2 * reach, points)
        weight = (strike[..., high] - strike[..., mid]) / (strike[..., high] - strike[..., low])
        chord = weight * price[..., low] + (1.0 - weight) * price[..., high]
        np.maximum(excess[..., mid], price[..., mid] - chord, out=excess[..., mid])
        reach *= 2
    return excess


def _wing(slope: Array) -> Array:
    """The excess over Lee's bound at both ends."""
    excess = np.zeros(slope.shape)
    excess[..., [0, -1]] = np.abs(slope[..., [0, -1]]) - _STEEPEST_WING
    return excess


def _summary(found: Violations, kind: str, grid: Grid, tolerance: float) -> Summary:
    size, k = found.size[KINDS.index(kind)], found.k[KINDS.index(kind)]
    largest = found.largest(kind)
    free = largest <= tolerance
    violators = largest[~free & found.usable]
    mean, tenor, k_of_largest = 0.0, None, None
    if len(violators):
        mean = float(violators.mean())
        row, column = np.unravel_index(size.argmax(), size.shape)
        tenor, k_of_largest = float(grid.tenors[column]), float(k[row, column])
    return Summary(
        free_rate=float(free.mean()),
        mean=mean,
        largest=float(violators.max(initial=0.0)),
        tenor=tenor,
        k=k_of_largest,
        surfaces_by_tenor=(size > tolerance).sum(axis=0).tolist(),
    )
