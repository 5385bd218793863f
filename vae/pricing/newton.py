"""Newton's method for a batch of small systems of equations."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_MOST_STEPS = 100
_SMALLEST_SHARE = 1e-3  # of a step: where less than this helps, there is no root nearby
_BUMP = 1e-6


def roots(error_of: Callable[[Array, Index], Array], start: Array, *, tolerance: float) -> Array:
    """x [system, unknown] where the errors vanish, NaN for systems without a root near their start.

    The step of a system is halved until it lessens the largest error. Derivatives are differences, so that unknowns
    should be of order 1.

    Args:
        error_of: errors [n, unknown] at x [n, unknown], for the n systems of an index; NaN where x makes no sense.
        start: [system, unknown].
        tolerance: largest absolute error of a root.

    Reference: Dennis, Schnabel (1983), "Numerical methods for unconstrained optimization and nonlinear equations",
    chapter 6.
    """
    x, share = start.copy(), np.ones((len(start), 1))
    error = error_of(x, np.arange(len(x)))
    bumps = _BUMP * np.eye(x.shape[1])
    for _ in range(_MOST_STEPS):
        row = np.flatnonzero((np.abs(error) > tolerance).any(axis=1) & (share[:, 0] > _SMALLEST_SHARE))
        if not len(row):
            break
        jacobian = np.stack([(error_of(x[row] + bump, row) - error[row]) / _BUMP for bump in bumps], axis=-1)
        trial = x[row] - share[row] * _solved(jacobian, error[row])
        trial_error = error_of(trial, row)
        better = np.abs(trial_error).max(axis=1, keepdims=True) < np.abs(error[row]).max(axis=1, keepdims=True)
        x[row], error[row] = np.where(better, trial, x[row]), np.where(better, trial_error, error[row])
        share[row] = np.where(better, 1.0, 0.5 * share[row])
    return np.where((np.abs(error) <= tolerance).all(axis=1, keepdims=True), x, np.nan)


def _solved(matrix: Array, right: Array) -> Array:
    """The solutions [n, unknown] of linear systems, NaN where the matrix is singular or not finite."""
    usable = np.isfinite(matrix).all(axis=(1, 2)) & (np.linalg.det(np.nan_to_num(matrix)) != 0.0)
    result = np.full_like(right, np.nan)
    result[usable] = np.linalg.solve(matrix[usable], right[usable][..., None])[..., 0]
    return result
