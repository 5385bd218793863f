"""Variance between tenors: local cubics of vol^2 at equal node, in a coordinate of the tenor.

The cubics are linear in the variances and read four tenors at most: the slope at a tenor is that of the parabola
through it and its two neighbours. In the coordinate s / (1 + s), s = sqrt(tenor in years), the variance of short tenors
changes evenly, and that of long tenors tends to its limit.

Reference: de Boor (1978), "A practical guide to splines", chapter IV (cubic Bessel interpolation).
"""

import numpy as np
from numpy.typing import NDArray

from vae.surface.spline import Spline, interpolation_matrices

Array = NDArray[np.float64]


def coordinate(tenor: Array) -> Array:
    """s / (1 + s) of tenors in years, where s = sqrt(tenor), any shape."""
    root = np.sqrt(tenor)
    return root / (1.0 + root)


def tenor_weights(tenors: Array, at: Array) -> Array:
    """Variances at tenors ``at`` are weights @ variances at ``tenors``; NaN outside of these.

    Args:
        tenors: years, increasing, [tenor].
        at: years, [point].

    Returns:
        [point, tenor].

    >>> tenor_weights(np.array([0.25, 1.0]), np.array([0.25, 0.5625, 2.0])).round(3)
    array([[1.   , 0.   ],
           [0.429, 0.571],
           [  nan,   nan]])
    """
    return interpolation_matrices(coordinate(tenors), coordinate(at), Spline.local).value
