"""Units of the figures."""

import numpy as np
from numpy.typing import NDArray

BASIS_POINTS = 1e4  # in 1: a vol of 0.2 is 2000 bp
Z90 = 1.6448536269514722  # two-sided 90 % of the normal law


def rmse_bp(
    approximation: NDArray[np.float64], truth: NDArray[np.float64], axes: tuple[int, ...]
) -> NDArray[np.float64]:
    """Root mean square error over ``axes``, in basis points of vol; missing points, NaN, are left out."""
    result: NDArray[np.float64] = BASIS_POINTS * np.sqrt(np.nanmean((approximation - truth) ** 2, axis=axes))
    return result
