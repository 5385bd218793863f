"""Whether the losses of past days agree with the risk that was stated for them.

Reference: Kupiec (1995), "Techniques for verifying the accuracy of risk measurement models"; Christoffersen (1998),
"Evaluating interval forecasts"; Acerbi, Szekely (2014), "Backtesting expected shortfall", section 2.2; Basel Committee
(1996), "Supervisory framework for the use of backtesting".
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Exceedances = NDArray[np.bool_]

_AMBER, _RED = 0.95, 0.9999  # Basel's zones: probability of at most so many exceedances under a right model


def kupiec(exceedances: Exceedances, level: float) -> float:
    """p-value that the share of exceedances [day] is 1 - level; its likelihood ratio is chi-square with 1 degree.

    >>> round(kupiec(np.arange(255) < 6, 0.99), 4)
    0.0646
    """
    count, over = len(exceedances), int(exceedances.sum())
    ratio = 2.0 * (_log_likelihood(over, count, over / count) - _log_likelihood(over, count, 1.0 - level))
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2.0))


def independence(exceedances: Exceedances) -> float:
    """p-value that exceedances tell nothing of the next day; Christoffersen's ratio is chi-square with 1 degree."""
    before, after = exceedances[:-1], exceedances[1:]
    ratio = -2.0 * _log_likelihood(int(after.sum()), len(after), float(after.mean()))
    for state in (False, True):
        days = after[before == state]
        if len(days):
            ratio += 2.0 * _log_likelihood(int(days.sum()), len(days), float(days.mean()))
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2.0))


def shortfall(losses: Array, stated: Array, scenarios: Array, level: float, *, seed: int) -> tuple[float, float]:
    """Acerbi and Szekely's second statistic of the expected shortfall, and its p-value against losses that are larger.

    The statistic is 0 on average under a right model and negative where losses exceed what was stated. Its law under
    that model comes from days that are drawn from the scenarios.

    Args:
        losses: of each day, [day].
        stated: value at risk and expected shortfall of each day, [2, day].
        scenarios: losses that were thought possible, [day, scenario].
        level: of both measures.
        seed: of the drawn days.
    """
    at_risk, expected = stated
    tail = len(losses) * (1.0 - level)

    def statistic(loss: Array) -> Array:
        excess: Array = np.where(loss > at_risk, loss / expected, 0.0)
        return 1.0 - np.asarray(excess.sum(-1)) / tail

    chosen = np.random.default_rng(seed).integers(scenarios.shape[1], size=(1000, len(losses)))
    drawn = statistic(np.take_along_axis(scenarios, chosen.T, axis=1).T)
    found = float(statistic(losses))
    return found, (1.0 + float(np.sum(drawn <= found))) / (1.0 + len(drawn))


def traffic_light(exceedances: Exceedances, level: float) -> str:
    """Basel's zone of a number of exceedances: green, amber or red.

    >>> [traffic_light(np.arange(250) < over, 0.99) for over in (4, 5, 9, 10)]
    ['green', 'amber', 'amber', 'red']
    """
    as_many = _binomial_cdf(int(exceedances.sum()), len(exceedances), 1.0 - level)
    return "red" if as_many >= _RED else "amber" if as_many >= _AMBER else "green"


def _log_likelihood(over: int, count: int, share: float) -> float:
    """Log probability of these days, each over with probability ``share``; 0 log 0 is 0."""
    return sum(days * math.log(each) for days, each in ((over, share), (count - over, 1.0 - share)) if days)


def _binomial_cdf(over: int, count: int, share: float) -> float:
    """Probability of at most so many of ``count`` days."""
    return sum(math.comb(count, i) * share**i * (1.0 - share) ** (count - i) for i in range(over + 1))
