"""The error of reading a surface between its points, learned from surfaces by leaving points out.

A tenor (or a node) is left out and read from the others. How the error falls with the gap is learned too, by leaving
out two neighbours; it gives the error in the gaps that are left between the points of the grid.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.surface import term_structure
from vae.surface.grid import Grid
from vae.surface.spline import Spline, interpolation_matrices
from vae.surface.units import Z90

Array = NDArray[np.float64]

_INTERVAL = 0.9  # share of the errors within Z90 standard deviations
_UNKNOWN_ORDER = 1.0  # with too few points to leave out two
_LEAST_ORDER, _LARGEST_ORDER = 0.5, 3.0  # of a random walk between two points, and of a cubic with parabolic slopes


class ReadingError(NamedTuple):
    """Standard deviation of the vols read in the middle between two points, decimal.

    Attributes:
        tenor: between two tenors at a node, [tenor - 1, node].
        node: between two nodes at a tenor, [tenor, node - 1].
    """

    tenor: Array
    node: Array

    @classmethod
    def none(cls, grid: Grid) -> "ReadingError":
        """No error."""
        tenors, nodes = grid.shape
        return cls(np.zeros((tenors - 1, nodes)), np.zeros((tenors, nodes - 1)))


def reading_error(iv: NDArray[np.floating], grid: Grid) -> ReadingError:
    """Errors of reading surfaces like iv [surface, tenor, node], NaN where missing.

    They are such that the 90 % interval of a normal error holds nine of ten errors. An axis of two points has no point
    to leave out: there the error is that of a random walk from one to the other.
    """
    variance = iv.astype(np.float64) ** 2
    along_nodes = _middle_errors(variance, grid.nodes, Spline.through)
    along_tenors = _middle_errors(variance.swapaxes(1, 2), term_structure.coordinate(grid.tenors), Spline.local)
    return ReadingError(along_tenors.T, along_nodes)


def _middle_errors(variance: Array, knots: Array, curve: Callable[[Array, Array], Spline]) -> Array:
    """Errors of vols in the middle between two knots, [other, knot - 1], of variances [surface, other, knot]."""
    count = len(knots)
    if count < 3:
        return 0.5 * _scale(np.diff(np.sqrt(variance))[..., 0])[:, None]
    gaps = np.array([knots[i + 1] - knots[i - 1] for i in range(1, count - 1)])
    errors = np.stack([_left_out(variance, knots, i, (i,), curve) for i in range(1, count - 1)], axis=-1)
    order = _order(variance, knots, errors, curve)
    found = np.empty((variance.shape[1], count - 1))
    for interval, width in enumerate(np.diff(knots)):
        own = [i for i in (interval - 1, interval) if 0 <= i < count - 2]  # the gaps that contain the interval
        scaled = errors[:, own] * (width / gaps[own]) ** order
        found[:, interval] = np.sqrt(np.mean(scaled**2, axis=1))
    return found


def _order(variance: Array, knots: Array, errors: Array, curve: Callable[[Array, Array], Spline]) -> float:
    """The power of the width of a gap with which the error grows; ``errors`` [other, knot - 2] are of single gaps."""
    found = []
    for i in range(1, len(knots) - 2):
        for other, (start, stop) in ((i, (i - 1, i + 1)), (i + 1, (i, i + 2))):
            wide = _left_out(variance, knots, other, (i, i + 1), curve)
            ratio = np.log((knots[i + 2] - knots[i - 1]) / (knots[stop] - knots[start]))
            with np.errstate(divide="ignore", invalid="ignore"):
                found.append(np.log(wide / errors[:, other - 1]) / ratio)
    known = np.concatenate(found) if len(knots) > 4 else np.empty(0)
    known = known[np.isfinite(known)]
    return float(np.clip(np.median(known), _LEAST_ORDER, _LARGEST_ORDER)) if len(known) else _UNKNOWN_ORDER


def _left_out(
    variance: Array, knots: Array, at: int, left_out: tuple[int, ...], curve: Callable[[Array, Array], Spline]
) -> Array:
    """Errors of vols at a knot that is read without some knots, in the middle of their gap, [other]."""
    kept = np.setdiff1d(np.arange(len(knots)), left_out)
    weights = interpolation_matrices(knots[kept], knots[at : at + 1], curve).value[0]
    read = np.sqrt(np.maximum(variance[..., kept] @ weights, 0.0))
    error = read - np.sqrt(variance[..., at])
    start, stop = knots[min(left_out) - 1], knots[max(left_out) + 1]
    share = (knots[at] - start) / (stop - start)
    middle: Array = _scale(error) / (4.0 * share * (1.0 - share))
    return middle


def _scale(error: Array) -> Array:
    """The standard deviation of errors [surface, other], NaN where missing; where all are, that of the others."""
    known = ~np.isnan(error).all(0)
    found = np.zeros(error.shape[1])
    found[known] = np.nanquantile(np.abs(error[:, known]), _INTERVAL, axis=0) / Z90
    found[~known] = found[known].mean() if known.any() else 0.0
    return found
