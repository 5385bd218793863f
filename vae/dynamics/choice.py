"""The law of motion that would have forecast the past best: what its volatilities follow, how fast its shocks age.

The volatilities of a market move on their own, and decayed means of squared innovations show them. Those of a model
whose variance is its own state are a function of the surface, and decayed means err by chance. They follow the surface
where that would have forecast the second half of the past significantly better, by elasticities of the first half.

For each half-life the law of each date forecasts the next one. A market whose dependence changes asks for few, new
shocks; a law that stays for all.

The log score is that of the mean move of the points and of the return, whose density is that of a kernel around each
shock, with the tails of Student's t: under normal kernels one wild date in a thousand decides.

References: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477);
Diebold, Mariano (1995), "Comparing predictive accuracy", Journal of Business and Economic Statistics 13(3).
"""

import math

import numpy as np

from vae.dynamics.fit import History, Walk, walk
from vae.dynamics.law import Array, Form, deviation, shares, to_points

HALF_LIVES = (60.0, 125.0, 250.0, 500.0, np.inf)  # 60 dates are worth 170 shocks: fewer show no tail
_FIRST = 100  # date that is forecast
_DATES = 500  # that are forecast, at most
_FREEDOM = 4.0  # degrees of freedom of the kernels
_SIGNIFICANT = 2.0  # standard errors of the mean difference of log scores
_DIRECTIONS = 2  # of surfaces, which deviations follow: one factor bends, and the second direction shows how far
_ITERATIONS, _LARGEST = 50, 20.0  # of the regression, and the largest square in it, in units of the one expected
_PACE = 0.5  # share of a step of the regression that is taken, so that large squares do not throw it about


def chosen_walk(history: History, form: Form) -> Walk:
    """The walk through a history by the best law of a form; by the form itself where its shocks do not age.

    Raises:
        ValueError: as ``walk``.
    """
    walked = walk(history, form)
    if form.half_life == np.inf:
        return walked
    if surface_forecasts_better(history, walked):
        walked = walk(history, form._replace(decays=(1.0,)), elasticities(history))
    return walked._replace(form=walked.form._replace(half_life=best_half_life(walked)))


def surface_forecasts_better(history: History, walked: Walk) -> bool:
    """Whether deviations that follow the surface forecast the second half of a history better than those of a walk."""
    form, first = walked.form, len(history.days) // 2
    if first <= _FIRST:
        return False
    past = history._replace(
        coordinates=history.coordinates[:first],
        days=history.days[:first],
        log_price=None if history.log_price is None else history.log_price[:first],
    )
    other = walk(history, form._replace(decays=(1.0,)), elasticities(past))
    dates = _dates(first, len(other.shocks))
    gain = _log_scores(other, form.half_life, dates) - _log_scores(walked, form.half_life, dates)
    return bool(gain.mean() > _SIGNIFICANT * gain.std(ddof=1) / math.sqrt(len(gain)))


def elasticities(history: History) -> Array:
    """Slopes of the log deviation of each point's moves in the coordinates, [R, P].

    A gamma regression of squared moves on the first principal components of the coordinates, with a logarithmic link,
    by iterated least squares.

    Reference: McCullagh, Nelder (1989), "Generalized Linear Models", chapter 8.
    """
    squares = np.square(to_points(history.basis, history.moves))
    squares = squares / np.maximum(squares.mean(axis=0), np.finfo(float).tiny)
    apart = history.coordinates[:-1] - history.coordinates[:-1].mean(axis=0)
    directions = np.linalg.svd(apart, full_matrices=False)[2][:_DIRECTIONS].T
    regressors = np.concatenate([np.ones((len(apart), 1)), apart @ directions], axis=1)
    inverse = np.linalg.pinv(regressors)
    found = np.zeros((regressors.shape[1], squares.shape[1]))
    for _ in range(_ITERATIONS):
        errors = squares * np.exp(-regressors @ found) - 1.0
        found += _PACE * inverse @ np.minimum(errors, _LARGEST)
    elasticity: Array = directions @ (0.5 * found[1:])
    return elasticity


def best_half_life(walked: Walk) -> float:
    """The half-life with the highest mean log score over the dates of a walk; no ageing where these are too few."""
    last = len(walked.shocks)
    if last <= _FIRST:
        return np.inf
    dates = _dates(_FIRST, last)
    return max(HALF_LIVES, key=lambda half_life: float(_log_scores(walked, half_life, dates).sum()))


def _dates(first: int, last: int) -> range:
    """Dates from the first one, before the last one, at equal distances."""
    return range(first, last, -(-(last - first) // _DATES))


def _log_scores(walked: Walk, half_life: float, dates: range) -> Array:
    """Log scores of the steps from some dates, [date]."""
    aged = walked._replace(form=walked.form._replace(half_life=half_life))
    points = len(walked.basis)
    scores = []
    for date in dates:
        law, spread = aged.law(date), deviation(walked.states.variances[date])
        both = np.concatenate([law.shocks, walked.shocks[date : date + 1]]) * spread
        moves = np.concatenate([both[:, :points].mean(axis=1, keepdims=True), both[:, points:]], axis=1)
        scores.append(log_density(moves[:-1], shares(len(law.shocks), float(law.ageing[0])), moves[-1]))
    return np.array(scores)


def log_density(moves: Array, weights: Array, seen: Array) -> float:
    """Of a move [M], by kernels of Scott's width around moves [shock, M] with weights, nats.

    Reference: Scott (1992), "Multivariate Density Estimation", section 6.3.
    """
    count = len(seen)
    constant = math.lgamma(0.5 * (_FREEDOM + count)) - math.lgamma(0.5 * _FREEDOM)
    constant -= 0.5 * count * math.log(_FREEDOM * math.pi)
    covariance = np.atleast_2d(np.cov(moves.T, aweights=weights)) * (weights @ weights) ** (2.0 / (count + 4.0))
    lower = np.linalg.cholesky(covariance)
    distances = np.square(np.linalg.solve(lower, (moves - seen).T)).sum(axis=0)
    kernels = (1.0 + distances / _FREEDOM) ** (-0.5 * (_FREEDOM + count))
    return float(constant + np.log(weights @ kernels) - np.log(np.diag(lower)).sum())
