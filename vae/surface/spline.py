"""Piecewise cubics for batches of curves, with two derivatives, and their interpolation matrices.

Smiles are not-a-knot splines, and term structures are local cubics. Nothing is extrapolated: outside the knots a curve
is NaN.

Reference: de Boor (1978), "A practical guide to splines", chapter IV.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REFINEMENT = 5  # parts of each interval between knots, in ``refined``


class Curve(NamedTuple):
    """Values and first two derivatives at points, [*batch, point]; NaN outside the knots."""

    value: Array
    first: Array
    second: Array


class Spline(NamedTuple):
    """Piecewise cubics through the values ``y`` at the increasing knots ``x``.

    Attributes:
        x: knots, [*batch, knot].
        y: values, [*batch, knot].
        slope: first derivative at the knots, [*batch, knot].

    >>> parabola = Spline.through(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 4.0]))
    >>> value, first, second = parabola.at(np.array([1.5, 3.0]))
    >>> value, first, second
    (array([2.25,  nan]), array([ 3., nan]), array([ 2., nan]))
    """

    x: Array
    y: Array
    slope: Array

    @classmethod
    def through(cls, x: Array, y: Array) -> "Spline":
        """The not-a-knot splines; a parabola through three points, a line through two."""
        return cls(x, y, _solved(_slope_matrix(x), _slope_targets(x, y)))

    @classmethod
    def local(cls, x: Array, y: Array) -> "Spline":
        """Cubics whose slope at a knot is that of the parabola through it and its neighbours; a line through two knots.

        A change of one value moves the curve in the two intervals on each side of it, and no further.
        """
        h = np.diff(x)
        chord = np.diff(y) / h
        if x.shape[-1] == 2:
            return cls(x, y, np.repeat(chord, 2, axis=-1))
        total = h[..., :-1] + h[..., 1:]
        inner = (h[..., 1:] * chord[..., :-1] + h[..., :-1] * chord[..., 1:]) / total
        first, last = (2.0 * chord[..., i, None] - inner[..., i, None] for i in (0, -1))
        return cls(x, y, np.concatenate((first, inner, last), axis=-1))

    def at(self, points: Array) -> Curve:
        """The splines at points [*batch, point], any of whose leading axes may be 1 or absent."""
        t, value, slope, b, c = self._cubics(points)
        return Curve(value + t * (slope + t * (b + t * c)), slope + t * (2.0 * b + 3.0 * t * c), 2.0 * b + 6.0 * t * c)

    def value(self, points: Array) -> Array:
        """As ``at``, without the derivatives."""
        t, value, slope, b, c = self._cubics(points)
        return value + t * (slope + t * (b + t * c))

    def _cubics(self, points: Array) -> tuple[Array, ...]:
        """The distances of points from the knots on their left, NaN outside, and the coefficients of the cubics."""
        left = _interval(self.x, points)
        h = np.diff(self.x)
        chord = np.diff(self.y) / h
        first, last = self.slope[..., :-1], self.slope[..., 1:]
        b, c = (3.0 * chord - 2.0 * first - last) / h, (first + last - 2.0 * chord) / h**2
        inside = (points >= self.x[..., :1]) & (points <= self.x[..., -1:])
        t = np.where(inside, points - _taken(self.x, left), np.nan)
        return t, *(_taken(part, left) for part in np.broadcast_arrays(self.y[..., :-1], first, b, c))


def interpolation_matrices(
    knots: Array, points: Array, curve: Callable[[Array, Array], Spline] = Spline.through
) -> Curve:
    """Curves as linear maps: ``matrices.value @ y`` is the curve of y at ``points``; the same for both derivatives.

    Args:
        knots: increasing, [knot].
        points: [point].
        curve: ``Spline.through`` or ``Spline.local``.

    Returns:
        Three matrices [point, knot], NaN in the rows of points outside the knots.

    >>> interpolation_matrices(np.array([0.0, 1.0]), np.array([0.25])).value
    array([[0.75, 0.25]])
    """
    identity = np.eye(len(knots))
    return Curve(*(part.T for part in curve(np.broadcast_to(knots, identity.shape), identity).at(points)))


def read(x: Array, y: Array, points: Array) -> Array:
    """Values of the not-a-knot splines through y [*batch, knot] at ``points``; x and points may lack leading axes.

    Curves on the same knots are read at the same points by one product of matrices.
    """
    if x.ndim != points.ndim or (y.ndim == x.ndim > 1):
        return Spline.through(x, y).value(points)
    matrices = Spline.through(x[..., None, :], np.eye(x.shape[-1])).value(points[..., None, :])  # [*same, knot, point]
    curves = np.moveaxis(y.reshape(-1, *x.shape), 0, -2)
    return np.moveaxis(curves @ matrices, -2, 0).reshape(*y.shape[:-1], -1)


def cubic_weights(knots: Array, curve: Callable[[Array, Array], Spline] = Spline.through) -> Array:
    """The weight of each knot's value in the curve, as a cubic in the distance from the left knot of an interval.

    Returns:
        Coefficients of the powers 0 to 3, [interval, power, knot].

    >>> cubic_weights(np.array([0.0, 2.0]))[0, :2]
    array([[ 1. ,  0. ],
           [-0.5,  0.5]])
    """
    left, width = knots[:-1], np.diff(knots)[:, None]
    value, slope, curvature = interpolation_matrices(knots, left, curve)
    third = (interpolation_matrices(knots, left + 0.5 * width[:, 0], curve).second - curvature) / (3.0 * width)
    return np.stack((value, slope, 0.5 * curvature, third), axis=1)


def refined(knots: Array) -> Array:
    """Knots [*batch, knot] with the points that divide each interval between them into ``REFINEMENT`` equal parts.

    Arbitrage of a smile is measured at these points.

    >>> refined(np.array([0.0, 1.0]))
    array([0. , 0.2, 0.4, 0.6, 0.8, 1. ])
    """
    parts = knots[..., :-1, None] + np.diff(knots)[..., None] * (np.arange(REFINEMENT) / REFINEMENT)
    return np.concatenate((parts.reshape(*knots.shape[:-1], -1), knots[..., -1:]), axis=-1)


def _interval(x: Array, points: Array) -> NDArray[np.int64]:
    """The interval between knots x [*batch, knot] of each point [*batch, point]; outside, the first or the last one."""
    if x.ndim == 1:
        return np.searchsorted(x[1:-1], points, side="right")
    found: NDArray[np.int64] = (points[..., :, None] >= x[..., None, 1:-1]).sum(-1)
    return found


def _taken(values: Array, index: NDArray[np.int64]) -> Array:
    """The values [*batch, n] at an index along their last axis, [point] or [*batch, point]; leading axes broadcast."""
    if index.ndim == 1:
        found: Array = values.take(index, axis=-1)
    else:
        *batch, count = values.shape
        found = values.take(np.arange(math.prod(batch)).reshape(*batch, 1) * count + index)
    return found


def _solved(matrix: Array, target: Array) -> Array:
    """Solutions of systems [*knots, n, n] with targets [*batch, *knots, n], all targets of a system at once."""
    batch = target.ndim + 1 - matrix.ndim
    columns = np.moveaxis(target.reshape(-1, *target.shape[batch:]), 0, -1)
    solution = np.asarray(np.linalg.solve(matrix, columns), np.float64)
    return np.moveaxis(solution, -1, 0).reshape(target.shape)


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
