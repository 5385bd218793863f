"""The normal distribution function and its inverse for arrays, without scipy."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Highest power first; the coefficients of the reference's numerator and denominator.
_NUMERATOR = (
    3.52624965998911e-02,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_DENOMINATOR = (
    8.83883476483184e-02,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)


_quantile = np.frompyfunc(NormalDist().inv_cdf, 1, 1)


def normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """N(x) to 1e-14 absolutely, any shape.

    Reference: Hart (1968), "Computer approximations", algorithm 5666, as in West (2005), "Better approximations to
    cumulative normal functions".
    """
    size = np.minimum(np.abs(x), 40.0)  # N(-40) is less than the smallest positive number
    tail: NDArray[np.float64] = np.exp(-0.5 * size**2) * np.polyval(_NUMERATOR, size) / np.polyval(_DENOMINATOR, size)
    return np.where(x > 0.0, 1.0 - tail, tail)


def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """N^-1(p) to full precision, any shape.

    Raises:
        ValueError: a probability is not inside (0, 1).

    Reference: Wichura (1988), "Algorithm AS 241: The percentage points of the normal distribution".
    """
    return np.asarray(_quantile(p), np.float64)
