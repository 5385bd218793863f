"""How fast the shocks of a law of motion age: by the half-life that would have forecast the past best.

For each half-life the law of each date forecasts the next one. Its log score is that of the mean move of the points and
of the return, whose density is that of a kernel around each shock, with the tails of Student's t: under normal kernels
one wild date in a thousand decides. A market whose dependence changes asks for few, new shocks; a law that stays for
all.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

import numpy as np

from vae.dynamics.fit import Walk
from vae.dynamics.law import Array, deviation, shares

HALF_LIVES = (60.0, 125.0, 250.0, 500.0, np.inf)  # 60 dates are worth 170 shocks: fewer show no tail
_FIRST = 100  # date that is forecast
_DATES = 500  # that are forecast, at most
_FREEDOM = 4.0  # degrees of freedom of the kernels


def best_half_life(walked: Walk) -> float:
    """The half-life with the highest mean log score over the dates of a walk; no ageing where these are too few."""
    last = len(walked.shocks)
    if last <= _FIRST:
        return np.inf
    dates = range(_FIRST, last, -(-(last - _FIRST) // _DATES))
    return max(HALF_LIVES, key=lambda half_life: _score(walked, half_life, dates))


def _score(walked: Walk, half_life: float, dates: range) -> float:
    """Sum of the log scores of the steps from some dates."""
    aged = walked._replace(form=walked.form._replace(half_life=half_life))
    points = len(walked.basis)
    total = 0.0
    for date in dates:
        law, spread = aged.law(date), deviation(walked.states.variances[date])
        both = np.concatenate([law.shocks, walked.shocks[date : date + 1]]) * spread
        moves = np.concatenate([both[:, :points].mean(axis=1, keepdims=True), both[:, points:]], axis=1)
        total += _log_density(moves[:-1], shares(len(law.shocks), float(law.ageing[0])), moves[-1])
    return total


def _log_density(moves: Array, weights: Array, seen: Array) -> float:
    """Of a move [M], by kernels of Scott's width around moves [shock, M] with weights, up to a constant."""
    count = len(seen)
    covariance = np.atleast_2d(np.cov(moves.T, aweights=weights)) * (weights @ weights) ** (2.0 / (count + 4.0))
    lower = np.linalg.cholesky(covariance)
    distances = np.square(np.linalg.solve(lower, (moves - seen).T)).sum(axis=0)
    kernels = (1.0 + distances / _FREEDOM) ** (-0.5 * (_FREEDOM + count))
    return float(np.log(weights @ kernels) - np.log(np.diag(lower)).sum())
