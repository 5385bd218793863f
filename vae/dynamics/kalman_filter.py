"""The law of motion as an iterated Kalman filter: from all quotes so far to a law of the surface.

The law forecasts coordinates with a covariance. That Gaussian is the prior of the next quotes, and their posterior is
what is known then. It is linearised anew at the posterior, as vols at quotes are not linear in log vols.

A point without quotes moves on as a random walk, so that less and less is known of it. What the quotes of one date say
with the static law of surfaces does not age, but its errors are those of the last date: the two beliefs are not
independent, and by how much is not known. Their covariance intersection is right whatever it is. It is what a
completion shows. The filter itself goes on without the static law, whose errors would stay in it.

The law knows whole steps. A part of one has its share of the mean and of the covariance that the step had at its
start. At its end moves become recent ones, and variances follow the surface: so parts without quotes add up to the
step, wherever it is cut.

References: Bell, Cathey (1993), "The iterated Kalman filter update as a Gauss-Newton method", IEEE Transactions on
Automatic Control 38(2); Julier, Uhlmann (1997), "A non-divergent estimation algorithm in the presence of unknown
correlations", Proceedings of the American Control Conference.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vae.dynamics.law import (
    WEEK,
    Array,
    Law,
    LawState,
    followed,
    forecast,
    remembered,
    shares,
    to_coordinates,
    to_points,
)

_LINEARISATIONS = 3
_LEAST_VARIANCE = 1e-12  # smallest squared vol at a quote; a spline may undershoot zero
_KNOWN_RETURN = 1e6  # precision, in standard deviations, of a return that is given
_STALE = 2.5  # sum of variances, in units of the other belief's, from which the past does not count
_SHARES = np.linspace(0.0, 1.0, 101)  # of one belief in an intersection, among which the best is taken


class Known(NamedTuple):
    """The law of the surface at some time, given the quotes so far.

    Attributes:
        state: of the law, its coordinates those that are most likely, without leading axes.
        covariance: of the coordinates, without the noise of quotes, [R, R].
        moved: move of coordinates and return in the step that has begun, which is not among the recent moves, [C].
    """

    state: LawState
    covariance: Array
    moved: Array = np.zeros(())


class Belief(NamedTuple):
    """A normal law of coordinates: its mean [R] and covariance [R, R]."""

    mean: Array
    covariance: Array


class LogQuotes(NamedTuple):
    """Quotes as functions of the surface. The squared vol at a quote is weights @ (vols of the points squared).

    Attributes:
        log_vol: [quote].
        precision: of the noise of log vols, 0 for a quote that is not used, [quote].
        weights: [quote, D].
    """

    log_vol: Array
    precision: Array
    weights: Array


class TimeStep(NamedTuple):
    """A step of time.

    Attributes:
        week: how many of each day of the week pass, Monday first, [7]; a part of a day counts as such.
        days: its length in steps of the law, above 0 to 1.
        ends: whether it ends at the end of a step of the law.
    """

    week: Array
    days: float
    ends: bool = True


class Filtered(NamedTuple):
    """The outcome of a step of the filter.

    Attributes:
        known: by the quotes and the law of motion.
        misfit: chi-square of the quotes under the forecast, with as many degrees of freedom as quotes are used.
    """

    known: Known
    misfit: float


def compact(law: Law) -> Law:
    """The law with as many shocks as points, which have the same second moments: all that a filter reads.

    >>> shocks = np.array([[3.0], [4.0]])
    >>> law = Law(np.eye(1), np.zeros((1, 2)), np.zeros((1, 7)), np.array([0.9]), np.array([0.5]), shocks)
    >>> compact(law).shocks ** 2  # the newer one is drawn twice as often
    array([[13.66666667]])
    """
    moments, axes = np.linalg.eigh(_second_moments(law, law.shocks))
    root = np.sqrt(np.maximum(moments, 0.0) * len(moments))
    return law._replace(shocks=root[:, None] * axes.T, ageing=np.ones(1))


def waited(law: Law, known: Known, steps: Iterable[TimeStep]) -> Known:
    """The law of the surface after steps without quotes."""
    for step in steps:
        (state, covariance, moved), rank = known, len(known.covariance)
        mean, moving = _move(law, state, step)
        recent, moved, whole = _closed(state.recent, moved + mean, step)
        variances = state.variances * followed(law.elasticity, whole)
        after = LawState(state.coordinates + mean[:rank], recent, variances)
        known = Known(after, _symmetric(covariance + moving[:rank, :rank]), moved)
    return known


def filtered(
    law: Law, known: Known, step: TimeStep, quotes: LogQuotes, center: Array, log_return: float = np.nan
) -> Filtered:
    """The law of the surface after a step and the quotes at its end.

    Args:
        law: of motion.
        known: before.
        step: from there to the quotes.
        quotes: of one time.
        center: log vols of the points are this and basis @ coordinates, [D].
        log_return: of the underlying in the step; NaN where it is not known or the law has none.
    """
    state, rank = known.state, law.basis.shape[1]
    mean, moving = _move(law, state, step)
    before = moving.copy()
    before[:rank, :rank] += known.covariance
    start: Array = mean + np.concatenate([state.coordinates, np.zeros(len(mean) - rank)])
    prior = _inverse(before)
    at, spread, misfit = _posterior(law, quotes, center, prior, start, log_return)
    gain = moving @ prior
    innovation = gain @ (at - start)
    left = moving - gain @ (before - spread) @ gain.T
    recent, moved, whole = _closed(state.recent, known.moved + mean + innovation, step)
    revision = at[:rank] - state.coordinates - (mean + innovation)[:rank]
    variances = _variances(law, state.variances, step.days, innovation, left, moving)
    risen = followed(law.elasticity, whole[:rank] + revision)
    after = LawState(at[:rank], recent, variances * risen)
    return Filtered(Known(after, _symmetric(spread[:rank, :rank]), moved), misfit)


def doubted(law: Law, state: LawState, covariances: Sequence[Array], error: Array) -> list[Array] | None:
    """Covariances of the coordinates with the doubt that quotes leave which the surface misses.

    The law of surfaces does not hold what these quotes say, and how it differs elsewhere is not known. The surface is
    taken to be as uncertain as after the part of a day whose moves are as large as the misses. None where a day's moves
    are smaller: it is no surface to go on from.

    Args:
        law: of motion.
        state: before the quotes, which do not say by themselves how far a day moves surfaces.
        covariances: of what is known of the coordinates after them, [R, R] each.
        error: root mean square of the misses beyond the noise of quotes, relative to the vol of each point, [D].
    """
    rank = law.basis.shape[1]
    moving = _move(law, state, TimeStep(np.zeros(WEEK), 1.0))[1][:rank, :rank]
    missed, moved = float(np.square(error).mean()), float(((law.basis @ moving) * law.basis).sum(axis=1).mean())
    if missed > moved:
        return None
    return [_symmetric(covariance + (missed / moved if missed else 0.0) * moving) for covariance in covariances]


def intersection(past: Belief, alone: Belief, noise: float) -> Belief:
    """The covariance intersection of the past and of quotes alone, whose errors depend on each other in an unknown way.

    Its precision is a weighted mean of theirs, with the weights that make the sum of variances least: never more than
    that of the surer one. Where they disagree, at least one is surer than it should be, and an intersection may be
    worse than both; then the surer one alone counts. They disagree where their squared distance, in units of the sum of
    their covariances, is more than the number of coordinates. A past that is much less sure than the quotes does not
    count at all: what it is still sure of is what the quotes say too.

    Args:
        past: what is known by the law of motion and all quotes; with the noise its covariance is positive definite.
        alone: what the newest quotes say with the static law of surfaces; likewise.
        noise: variance of independent noise of points, with which beliefs are compared. Without it a belief that leaves
            some direction no variance would count as infinitely sure.
    """
    identity = noise * np.eye(len(past.mean))
    lower = np.linalg.cholesky(alone.covariance + identity)
    inverse = np.linalg.inv(lower)
    ratios, axes = np.linalg.eigh(inverse @ (past.covariance + identity) @ inverse.T)
    apart = axes.T @ (inverse @ (past.mean - alone.mean))
    if past.covariance.trace() > _STALE * alone.covariance.trace():
        return alone
    if (np.square(apart) / (ratios + 1.0)).sum() > len(apart):
        return min(past, alone, key=lambda belief: float(belief.covariance.trace()))
    back = lower @ axes  # along its columns both beliefs are independent, and the variance of the second is 1
    precisions = _SHARES[:, None] / ratios + (1.0 - _SHARES[:, None])
    best = int((np.square(back).sum(axis=0) / precisions).sum(axis=1).argmin())
    share, precision = _SHARES[best], precisions[best]
    mean = alone.mean + back @ (share / (ratios * precision) * apart)
    return Belief(mean, _symmetric((back / precision) @ back.T - identity))


def root(covariance: Array) -> Array:
    """The symmetric root of a covariance [R, R]. Unlike other roots it is unique, so the same on all machines.

    >>> root(np.array([[4.0, 0.0], [0.0, 0.0]]))
    array([[2., 0.],
           [0., 0.]])
    """
    variances, axes = np.linalg.eigh(covariance)
    found: Array = (axes * np.sqrt(np.maximum(variances, 0.0))) @ axes.T
    return found


def at_quotes(law: Law, mean: Array, covariance: Array, quotes: LogQuotes, center: Array) -> tuple[Array, Array]:
    """Vols at quotes of a surface with this law of its coordinates, and deviations of their logs, both [quote]."""
    log_vols, slopes = _linear(law, quotes.weights, center, mean)
    return np.exp(log_vols), np.sqrt(np.maximum(((slopes @ covariance) * slopes).sum(axis=1), 0.0))


def _linear(law: Law, weights: Array, center: Array, coordinates: Array) -> tuple[Array, Array]:
    """Log vols at quotes [quote] of a surface with these coordinates [R], and their derivatives, [quote, R]."""
    squares = np.exp(2.0 * (center + law.basis @ coordinates))
    found = np.maximum(weights @ squares, _LEAST_VARIANCE)
    return 0.5 * np.log(found), (weights * squares) @ law.basis / found[:, None]


def _move(law: Law, state: LawState, step: TimeStep) -> tuple[Array, Array]:
    """Mean [C] and covariance [C, C] of the move of coordinates and return in a step."""
    daily = forecast(law, state, np.zeros_like(step.week))
    rows = to_coordinates(law.basis, daily.deviation * law.shocks)
    return step.days * daily.mean + law.calendar @ step.week, step.days * _second_moments(law, rows)


def _closed(recent: Array, moved: Array, step: TimeStep) -> tuple[Array, Array, Array]:
    """Recent moves, the move in the step that has begun, and in the one that has ended, all [C], after a move."""
    none = np.zeros_like(moved)
    return (remembered(recent, moved), none, moved) if step.ends else (recent, moved, none)


def _second_moments(law: Law, rows: Array) -> Array:
    """Of rows that go with the shocks, [shock, C], as often as these are drawn, [C, C]."""
    found: Array = (rows.T * shares(len(rows), float(law.ageing[0]))) @ rows
    return found


def _posterior(
    law: Law, quotes: LogQuotes, center: Array, prior: Array, start: Array, log_return: float
) -> tuple[Array, Array, float]:
    """Mean [C] and covariance [C, C] of coordinates and return given quotes, and the misfit of these.

    ``prior`` is the precision of coordinates and return about ``start``.
    """
    rank, used = law.basis.shape[1], quotes.precision > 0.0
    weights, at, spread, misfit = quotes.weights[used], start, prior, 0.0
    for _ in range(_LINEARISATIONS):
        log_vols, slopes = _linear(law, weights, center, at[:rank])
        error = quotes.log_vol[used] - log_vols + slopes @ (at - start)[:rank]
        slopes = np.pad(slopes, ((0, 0), (0, len(start) - rank)))
        precision = quotes.precision[used]
        if not np.isnan(log_return):
            slopes = np.concatenate([slopes, np.eye(len(start))[rank:]])
            error = np.concatenate([error, log_return - start[rank:]])
            precision = np.concatenate([precision, np.full(len(start) - rank, _KNOWN_RETURN**2)])
        weighted = slopes.T * precision
        spread = _inverse(prior + weighted @ slopes)
        pull = weighted @ error
        at, misfit = start + spread @ pull, float(precision @ np.square(error) - pull @ spread @ pull)
    return at, spread, misfit


def _variances(law: Law, variances: Array, days: float, innovation: Array, left: Array, moving: Array) -> Array:
    """Variances of points after an innovation of which some is known.

    Where nothing is known of a point its variance stays; where all is, it learns from the square of the innovation.

    Args:
        law: of motion.
        variances: before, [decay, P].
        days: length of the step.
        innovation: its mean, [C].
        left: its covariance, [C, C].
        moving: its covariance before, [C, C].
    """
    unknown = np.clip(_of_points(law, left) / np.maximum(_of_points(law, moving), np.finfo(float).tiny), 0.0, 1.0)
    square = np.square(to_points(law.basis, innovation)) / days + unknown * variances
    kept = law.decays[:, None] ** days
    found: Array = kept * variances + (1.0 - kept) * square
    return found


def _of_points(law: Law, covariance: Array) -> Array:
    """Variances of points [P] of a covariance of coordinates and return, [C, C]."""
    found: Array = np.diag(to_points(law.basis, to_points(law.basis, covariance).T))
    return found


def _inverse(matrix: Array) -> Array:
    return np.linalg.inv(matrix).astype(np.float64, copy=False)


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)
