"""Units and conventions, each stated once."""

import numpy as np
from numpy.typing import NDArray

BASIS_POINTS = 1e4  # in 1: a vol of 0.2 is 2000 bp
DAYS_PER_YEAR = 365.0  # ACT/365
Z90 = 1.6448536269514727  # N^-1(0.95): a normal variable lies within 90 % of the time, in standard deviations


def rmse_bp(
    approximation: NDArray[np.float64], truth: NDArray[np.float64], axes: tuple[int, ...]
) -> NDArray[np.float64]:
    """Root mean square error over ``axes``, in basis points of vol, without the missing points (NaN).

    >>> round(rmse_bp(np.array([0.2001, 0.1999, np.nan]), np.full(3, 0.2), (0,)), 6)
    np.float64(1.0)
    """
    result: NDArray[np.float64] = BASIS_POINTS * np.sqrt(np.nanmean((approximation - truth) ** 2, axis=axes))
    return result
