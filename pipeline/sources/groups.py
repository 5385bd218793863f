"""Statistics of groups of rows."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def medians(group: NDArray[np.int64], values: Array) -> Array:
    """The median of each group's values that are not NaN, NaN of a group without any, [group].

    Args:
        group: 0, 1, ... of each row, [row].
        values: [row].

    >>> medians(np.array([0, 0, 1, 1, 1]), np.array([1.0, 2.0, 5.0, np.nan, 7.0]))
    array([1.5, 6. ])
    """
    groups = group.max(initial=-1) + 1
    known = ~np.isnan(values)
    ordered = values[known][np.lexsort((values[known], group[known]))]
    if not len(ordered):
        return np.full(groups, np.nan)
    count = np.bincount(group[known], minlength=groups)
    first = np.minimum(np.cumsum(count) - count, len(ordered) - 1)
    low, high = first + np.maximum(count - 1, 0) // 2, np.minimum(first + count // 2, len(ordered) - 1)
    return np.where(count > 0, 0.5 * (ordered[low] + ordered[high]), np.nan)
