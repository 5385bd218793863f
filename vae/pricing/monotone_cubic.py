"""Monotone piecewise cubics (PCHIP) through the points of many curves at once.

SciPy's interpolator gives the same values. It reads one curve at a time, at a millisecond each, and a file of quotes
has tens of thousands of smiles.

Reference: Fritsch, Butland (1984), "A method for constructing local monotone piecewise cubic interpolants", SIAM J.
Sci. Stat. Comput. 5(2), for inner points; Moler (2004), "Numerical computing with Matlab", section 3.6, for end points.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class MonotoneCubics:
    """Curves through points (x, y), each of at least two points with increasing x.

    Args:
        x: of each curve, [point].
        y: of each curve, [point].
    """

    def __init__(self, x: Sequence[Array], y: Sequence[Array]) -> None:
        self._x, self._y = np.concatenate(x), np.concatenate(y)
        self._own = x
        self._first = np.cumsum([0, *(len(own) for own in x)])[:-1]
        self._slope = _slopes(self._x, self._y, self._first)

    def at(self, x: Array, *, within: float) -> Array:
        """The curves at points x [*shape], [curve, *shape]; NaN outside a curve by more than ``within``."""
        inside = np.stack([np.clip(x, own[0], own[-1]) for own in self._own])
        places = zip(self._own, inside, self._first, strict=True)
        left = np.stack(
            [first + np.clip(own.searchsorted(at, "right") - 1, 0, len(own) - 2) for own, at, first in places]
        )
        step = self._x[left + 1] - self._x[left]
        t = (inside - self._x[left]) / step
        rise = self._y[left + 1] - self._y[left]
        start, end = step * self._slope[left], step * self._slope[left + 1]
        cubic = self._y[left] + t * (start + t * (3.0 * rise - 2.0 * start - end + t * (start + end - 2.0 * rise)))
        values: Array = np.where(np.abs(x - inside) <= within, cubic, np.nan)
        return values


def _slopes(x: Array, y: Array, first: NDArray[np.int64]) -> Array:
    """The derivative at each point of consecutive curves, [point]."""
    step, rise = np.diff(x), np.diff(y)
    step[first[1:] - 1] = 1.0  # from one curve to the next
    chord = rise / step
    slope = np.zeros(len(x))
    last = np.append(first[1:], len(x)) - 1
    inner = np.ones(len(x), bool)
    inner[first] = inner[last] = False
    (point,) = np.nonzero(inner)
    slope[point] = _harmonic(step[point - 1], step[point], chord[point - 1], chord[point])
    long = last - first > 1
    begin, end = first[long], last[long]
    slope[begin] = _end(step[begin], step[begin + 1], chord[begin], chord[begin + 1])
    slope[end] = _end(step[end - 1], step[end - 2], chord[end - 1], chord[end - 2])
    slope[first[~long]] = slope[last[~long]] = chord[first[~long]]
    return slope


def _harmonic(step: Array, next_step: Array, chord: Array, next_chord: Array) -> Array:
    """The weighted harmonic mean of the chords at both sides; 0 where these differ in sign."""
    same = chord * next_chord > 0.0
    one, two = (np.where(same, part, 1.0) for part in (chord, next_chord))
    first, second = 2.0 * next_step + step, next_step + 2.0 * step
    return np.where(same, (first + second) / (first / one + second / two), 0.0)


def _end(step: Array, next_step: Array, chord: Array, next_chord: Array) -> Array:
    """The slope of the parabola through three points at its end, as far as that keeps the shape."""
    slope = ((2.0 * step + next_step) * chord - step * next_chord) / (step + next_step)
    slope = np.where(np.sign(slope) == np.sign(chord), slope, 0.0)
    turns = (np.sign(chord) != np.sign(next_chord)) & (np.abs(slope) > 3.0 * np.abs(chord))
    return np.where(turns, 3.0 * chord, slope)
