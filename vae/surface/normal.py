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
_BLOCK = 4096  # numbers at a time: they stay in the processor's first cache
_LARGEST = 40.0  # N(-40) is less than the smallest positive number


def normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """N(x) to 1e-14 absolutely, any shape."""
    size = np.abs(x)
    tail = np.exp(-0.5 * np.minimum(size, _LARGEST) ** 2) * tail_ratio(size)
    return np.where(x > 0.0, 1.0 - tail, tail)


def tail_ratio(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """N(-x) exp(x^2 / 2) of x >= 0, any shape; beyond 40 that of 40, as N(-x) is 0 there.

    Reference: Hart (1968), "Computer approximations", algorithm 5666, as in West (2005), "Better approximations to
    cumulative normal functions".
    """
    x = np.minimum(size, _LARGEST)
    found, flat = np.empty(x.shape), np.ravel(x)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        found.ravel()[start : start + _BLOCK] = _polynomial(_NUMERATOR, part) / _polynomial(_DENOMINATOR, part)
    return found


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value at x by Horner's rule, highest power first."""
    first, second, *rest = coefficients
    value = first * x
    value += second
    for coefficient in rest:
        value *= x
        value += coefficient
    return value


def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """N^-1(p) to full precision, any shape.

    Raises:
        ValueError: a probability is not inside (0, 1).

    Reference: Wichura (1988), "Algorithm AS 241: The percentage points of the normal distribution".
    """
    return np.asarray(_quantile(p), np.float64)
