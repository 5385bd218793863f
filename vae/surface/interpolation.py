"""Surfaces between their points: cubic splines of total variance along each smile, linear in the tenor.

At equal forward moneyness k, total variance that is linear between two tenors rises wherever it rises from the one to
the other, so that reading between tenors adds no calendar arbitrage. Nothing is read outside the reach of the points:
NaN.

Reference: Gatheral, Jacquier (2014), arXiv:1204.0646, lemma 2.1 and section 5.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.surface.grid import Grid

Array = NDArray[np.float64]

REFINEMENT = 5  # points read for each interval
_MOST_ITERATIONS = 100
_SETTLED = 1e-13


class Curve(NamedTuple):
    """Values and first two derivatives at points, [*batch, point]; NaN outside the knots."""

    value: Array
    first: Array
    second: Array


class Spline(NamedTuple):
    """Cubic splines through ``y`` at the increasing knots ``x``, both [*batch, knot], with their slopes there."""

    x: Array
    y: Array
    slope: Array

    @classmethod
    def through(cls, x: Array, y: Array) -> "Spline":
        """Not-a-knot splines; a parabola through three points, a line through two.

        Reference: de Boor (1978), "A practical guide to splines", chapter IV.
        """
        slope = np.linalg.solve(_slope_matrix(x), _slope_targets(x, y)[..., None])
        return cls(x, y, np.asarray(slope[..., 0], np.float64))

    def at(self, points: Array) -> Curve:
        """The splines at points [*batch, point], any of whose leading axes may be 1 or absent."""
        left = (points[..., :, None] >= self.x[..., None, 1:-1]).sum(-1)
        x0, x1 = _take(self.x, left), _take(self.x, left + 1)
        y0, y1 = _take(self.y, left), _take(self.y, left + 1)
        m0, m1 = _take(self.slope, left), _take(self.slope, left + 1)
        h = x1 - x0
        chord = (y1 - y0) / h
        b, c = (3.0 * chord - 2.0 * m0 - m1) / h, (m0 + m1 - 2.0 * chord) / h**2
        t = points - x0
        inside = (points >= self.x[..., :1]) & (points <= self.x[..., -1:])
        curve = (y0 + t * (m0 + t * (b + t * c)), m0 + t * (2.0 * b + 3.0 * t * c), 2.0 * b + 6.0 * t * c)
        return Curve(*(np.where(inside, part, np.nan) for part in curve))


def readers(knots: Array, points: Array) -> Curve:
    """What values at knots [knot] weigh in the spline through them at points [point], each [point, knot]."""
    identity = np.eye(len(knots))
    curve = Spline.through(np.broadcast_to(knots, identity.shape), identity).at(points)
    return Curve(*(part.T for part in curve))


def refined(knots: Array) -> Array:
    """Points that divide each interval between knots [*batch, knot] into equal parts, the knots among them.

    There splines are looked at for arbitrage.
    """
    parts = knots[..., :-1, None] + np.diff(knots)[..., None] * (np.arange(REFINEMENT) / REFINEMENT)
    return np.concatenate((parts.reshape(*knots.shape[:-1], -1), knots[..., -1:]), axis=-1)


def smiles(iv: NDArray[np.floating], grid: Grid) -> Spline:
    """Total variance along k of surfaces iv [*batch, tenor, node], a spline for each tenor; k increases."""
    k = grid.log_moneyness_of(iv.astype(np.float64))
    variance = iv.astype(np.float64) ** 2 * grid.tenors[:, None]
    if grid.convention == "delta":
        k, variance = k[..., ::-1], variance[..., ::-1]
    return Spline.through(k, variance)


def total_variance(smile: Spline, tenors: Array, tenor: float, k: Array) -> Array:
    """Total variance at one tenor and log-moneyness k [*batch, point]; NaN outside the reach of the surface.

    Args:
        smile: splines of ``smiles``.
        tenors: tenors of the surface, years.
        tenor: where to read, years.
        k: where to read.
    """
    later = int(np.searchsorted(tenors, tenor))
    if later < len(tenors) and tenors[later] == tenor:
        return _slice(smile, later).at(k).value
    shape = np.broadcast_shapes(smile.y[..., 0, :1].shape, k.shape)
    if later in (0, len(tenors)):
        return np.full(shape, np.nan)
    weight = (tenor - tenors[later - 1]) / (tenors[later] - tenors[later - 1])
    first, second = (_slice(smile, i).at(k).value for i in (later - 1, later))
    read: Array = (1.0 - weight) * first + weight * second
    return read


def convert(iv: NDArray[np.floating], source: Grid, target: Grid) -> Array:
    """Surfaces iv [*batch, tenor, node] of one grid on another, float64; NaN where the source does not reach."""
    smile = smiles(iv, source)
    rows = []
    for i, tenor in enumerate(target.tenors.tolist()):
        if target.convention == "delta":
            variance = _at_deltas(smile, source.tenors, tenor, target.d1)
        else:
            variance = total_variance(smile, source.tenors, tenor, target.log_moneyness[i])
        rows.append(np.sqrt(variance / tenor))
    return np.stack(rows, axis=-2)


def _at_deltas(smile: Spline, tenors: Array, tenor: float, d1: Array) -> Array:
    """Total variance where a call has the delta N(d1): the fixed point k = w(k) / 2 - sqrt(w(k)) d1."""
    start = total_variance(smile, tenors, tenor, np.zeros(1))
    variance = start + 0.0 * d1
    for _ in range(_MOST_ITERATIONS):
        following = total_variance(smile, tenors, tenor, 0.5 * variance - np.sqrt(variance) * d1)
        settled = np.abs(following - variance) <= _SETTLED * variance
        variance = following
        if (settled | np.isnan(variance)).all():
            break
    return np.where(settled, variance, np.nan)


def _slice(smile: Spline, tenor: int) -> Spline:
    """The splines of one tenor."""
    return Spline(*(part[..., tenor, :] for part in smile))


def _take(values: Array, index: NDArray[np.int64]) -> Array:
    """Elements of the last axis by index, leading axes broadcast."""
    shape = np.broadcast_shapes(values.shape[:-1], index.shape[:-1])
    values = np.broadcast_to(values, (*shape, values.shape[-1]))
    return np.take_along_axis(values, np.broadcast_to(index, (*shape, index.shape[-1])), axis=-1)


def _slope_matrix(x: Array) -> Array:
    """The system whose solution are the slopes of a not-a-knot spline, [*batch, knot, knot]."""
    knots = x.shape[-1]
    h = np.diff(x)
    matrix = np.zeros((*x.shape, knots))
    inner = np.arange(1, knots - 1)
    matrix[..., inner, inner - 1] = h[..., 1:]
    matrix[..., inner, inner] = 2.0 * (h[..., :-1] + h[..., 1:])
    matrix[..., inner, inner + 1] = h[..., :-1]
    if knots > 3:
        matrix[..., 0, 0], matrix[..., 0, 1] = h[..., 1], h[..., 0] + h[..., 1]
        matrix[..., -1, -1], matrix[..., -1, -2] = h[..., -2], h[..., -1] + h[..., -2]
    elif knots == 3:  # a parabola: the slopes at the ends of an interval average to its chord
        matrix[..., 0, :2] = matrix[..., -1, 1:] = 1.0
    else:
        matrix[..., 0, 0] = matrix[..., 1, 1] = 1.0
    return matrix


def _slope_targets(x: Array, y: Array) -> Array:
    """The right side of the same system, [*batch, knot]."""
    h = np.diff(x)
    chord = np.diff(y) / h
    if x.shape[-1] == 2:
        return np.repeat(chord, 2, axis=-1)
    inner = 3.0 * (h[..., 1:] * chord[..., :-1] + h[..., :-1] * chord[..., 1:])
    if x.shape[-1] == 3:
        return np.concatenate((2.0 * chord[..., :1], inner, 2.0 * chord[..., -1:]), axis=-1)
    first = _end_target(h[..., 0], h[..., 1], chord[..., 0], chord[..., 1])
    last = _end_target(h[..., -1], h[..., -2], chord[..., -1], chord[..., -2])
    return np.concatenate((first[..., None], inner, last[..., None]), axis=-1)


def _end_target(h0: Array, h1: Array, chord0: Array, chord1: Array) -> Array:
    """The condition that the third derivative does not jump at the second knot."""
    target: Array = (h1 * (3.0 * h0 + 2.0 * h1) * chord0 + h0**2 * chord1) / (h0 + h1)
    return target
