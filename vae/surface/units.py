"""Units of the figures."""

import numpy as np
from numpy.typing import NDArray

DAYS_PER_YEAR = 365.0  # ACT/365
BASIS_POINTS = 1e4  # in 1: a vol of 0.2 is 2000 bp


def rmse_bp(
    approximation: NDArray[np.float64], truth: NDArray[np.float64], axes: tuple[int, ...]
) -> NDArray[np.float64]:
    """Root mean square error over ``axes``, in basis points of vol; missing points, NaN, are left out."""
    result: NDArray[np.float64] = BASIS_POINTS * np.sqrt(np.nanmean((approximation - truth) ** 2, axis=axes))
    return result
