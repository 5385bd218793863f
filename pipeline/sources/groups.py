"""Groups of rows, and their medians."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def labels(*keys: NDArray[np.float64] | NDArray[np.int64]) -> Index:
    """The group 0, 1, ... of each row by equal keys [row], in the order of the keys.

    >>> labels(np.array([5.0, 5.0, 2.0]), np.array([1, 0, 0]))
    array([2, 1, 0])
    """
    order = np.lexsort(keys[::-1])
    start = np.zeros(len(order), bool)
    for key in keys:
        start[1:] |= np.diff(key[order]) != 0
    label = np.empty(len(order), np.int64)
    label[order] = np.cumsum(start)
    return label


def medians(group: Index, values: Array) -> Array:
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
