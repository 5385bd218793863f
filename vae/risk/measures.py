"""Value at risk and expected shortfall of samples of the P&L, with standard errors.

Scenarios repeat past shocks, so that many of them may have the same loss. If all scenarios near a quantile have one
loss, the computed standard error is 0. That means too few scenarios, and no exact figure: the error is not known.

Reference: Hyndman, Fan (1996), "Sample quantiles in statistical packages", definition 1; Acerbi, Tasche (2002), "On the
coherence of expected shortfall", definition 2.6, for the part of the loss at the quantile; Chen (2008), "Nonparametric
estimation of expected shortfall", theorem 1, for the error.
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
        value_at_risk_se: its standard error; NaN where the losses next to it do not differ, so that it is not known.
        expected_shortfall: the mean of the worst losses, of which there is a share of 1 - level; where that is no whole
            number of scenarios, the next loss counts in part.
        expected_shortfall_se: its standard error; NaN where the losses of that tail do not differ.
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
        ValueError: the level is not inside (0, 1), or fewer than one loss is expected beyond it; see ``knows``.

    >>> risk(np.arange(-100.0, 0.0), 0.9).value_at_risk
    90.0
    """
    count = len(pnl)
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level is {level:g}; allowed: between 0 and 1")
    if not knows(count, level):
        raise ValueError(f"a level of {level:g} needs at least {fewest(level)} scenarios, not {count}")
    losses = np.sort(-pnl)
    at = _rank(count, level)
    spread = math.sqrt(count * level * (1.0 - level))
    low, high = (losses[min(max(round(at + sign * spread), 0), count - 1)] for sign in (-1, 1))
    tail, beyond = losses[at:], count * (1.0 - level)
    weights = np.ones(len(tail))
    weights[0] = max(beyond - len(tail) + 1.0, 0.0)  # the quantile itself counts in part, or not at all
    shortfall = float(weights @ tail / weights.sum())
    variance = float(weights @ (tail - shortfall) ** 2 / weights.sum()) + level * (shortfall - float(losses[at])) ** 2
    errors = 0.5 * float(high - low), math.sqrt(variance / beyond)
    least = _ROUNDING * max(abs(float(losses[0])), abs(float(losses[-1])))
    of_quantile, of_shortfall = (error if error > least else math.nan for error in errors)
    return Risk(float(losses[at]), of_quantile, shortfall, of_shortfall)


def knows(count: float, level: float) -> bool:
    """Whether so many independent scenarios say anything of a level: at least one loss is expected beyond it.

    >>> knows(100, 0.99), knows(100, 0.999)
    (True, False)
    """
    return count * (1.0 - level) >= 1.0 - _ROUNDING


def fewest(level: float) -> int:
    """The least number of scenarios that say anything of a level.

    >>> fewest(0.99), fewest(0.999)
    (100, 1000)
    """
    return math.ceil((1.0 - _ROUNDING) / (1.0 - level))


def _rank(count: int, level: float) -> int:
    """The place of the quantile among sorted numbers: the first whose share of those up to it reaches the level."""
    return math.ceil(count * level - _ROUNDING) - 1
