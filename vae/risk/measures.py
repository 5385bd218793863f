"""Value at risk and expected shortfall of samples of the P&L, with standard errors.

Reference: Hyndman, Fan (1996), "Sample quantiles in statistical packages", definition 1; Chen (2008), "Nonparametric
estimation of expected shortfall", theorem 1.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDING = 1e-9  # of a number of scenarios times a level


class Risk(NamedTuple):
    """Losses at a confidence level: positive numbers are losses.

    Attributes:
        value_at_risk: the loss that is not exceeded with that probability.
        value_at_risk_se: its standard error.
        expected_shortfall: the mean of the losses from there on.
        expected_shortfall_se: its standard error.
    """

    value_at_risk: float
    value_at_risk_se: float
    expected_shortfall: float
    expected_shortfall_se: float


def risk(pnl: Array, level: float) -> Risk:
    """The risk of P&L [scenario] at a level such as 0.99.

    The standard error of the value at risk is half the distance of the two order statistics that lie a standard
    deviation of the binomial law away from it.

    Raises:
        ValueError: the level is not inside (0, 1), or fewer than one loss is expected beyond it.

    >>> risk(np.arange(-100.0, 0.0), 0.9).value_at_risk
    90.0
    """
    count = len(pnl)
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level is {level:g}; allowed: between 0 and 1")
    if count * (1.0 - level) < 1.0 - _ROUNDING:
        raise ValueError(f"a level of {level:g} needs at least {math.ceil(1.0 / (1.0 - level))} scenarios, not {count}")
    losses = np.sort(-pnl)
    at = _rank(count, level)
    spread = math.sqrt(count * level * (1.0 - level))
    low, high = (losses[min(max(round(at + sign * spread), 0), count - 1)] for sign in (-1, 1))
    tail = losses[at:]
    shortfall = float(tail.mean())
    variance = float(tail.var()) + level * (shortfall - float(losses[at])) ** 2
    return Risk(float(losses[at]), 0.5 * float(high - low), shortfall, math.sqrt(variance / (count * (1.0 - level))))


def _rank(count: int, level: float) -> int:
    """The place of the quantile among sorted numbers: the first whose share of those up to it reaches the level."""
    return math.ceil(count * level - _ROUNDING) - 1
