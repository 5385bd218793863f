"""A figure with its standard error."""

import math
from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """A figure and its standard error."""

    value: float
    error: float

    def less(self, other: "Estimate") -> "Estimate":
        """The difference of two independent figures."""
        return Estimate(self.value - other.value, math.hypot(self.error, other.error))


def mean(values: Tensor) -> Estimate:
    """The mean of independent values [n]."""
    return Estimate(values.mean().item(), values.std().item() / math.sqrt(len(values)))


def quantile(values: Tensor, level: float) -> Estimate:
    """A quantile of independent values [n].

    Its error is half the distance of the values whose ranks are a standard deviation of the binomial law apart from it.

    Reference: David, Nagaraja (2003), "Order Statistics", 3rd edition, section 7.1.
    """
    ordered, count = values.sort().values, len(values)
    spread = math.sqrt(level * (1.0 - level) * count)
    low, middle, high = (
        ordered[min(max(math.floor(rank), 0), count - 1)].item()
        for rank in (level * count - spread, level * count, level * count + spread)
    )
    return Estimate(middle, 0.5 * (high - low))
