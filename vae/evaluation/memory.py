"""Completion from quotes and the past, beside the quotes alone and beside a Kalman filter of the log vols.

Three ways in which a desk knows the past are told apart: the whole surface of the last date is ``known``; of each date
the same number of other points is quoted (``rotating``); on all dates the ``same`` points are quoted.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.dynamics import kalman_filter
from vae.dynamics.fit import Walk
from vae.dynamics.kalman_filter import Belief, Known, LogQuotes, TimeStep
from vae.surface.units import BASIS_POINTS, Z90

Array = NDArray[np.float64]

_SETS = 3  # of the same points
_NUGGET = 3e-6  # variance of the noise of log vols that the Kalman filter takes


class Completed(NamedTuple):
    """Surfaces completed from the quotes of their dates alone.

    Attributes:
        mean: vols, [date, D].
        std: their standard deviations, [date, D].
        coordinates: in the basis of the model, [date, R].
        covariance: of these, [date, R, R].
    """

    mean: Array
    std: Array
    coordinates: Array
    covariance: Array


Complete = Callable[[Array], Completed]  # of log vols [date, D], NaN where there is no quote


class Filter(NamedTuple):
    """A filter with the law of each date.

    Attributes:
        walked: the law and its states.
        center: log vols of coordinates of 0, [D].
        noise: variance of the noise of log vols.
        intersected: whether its beliefs are intersected with what the quotes say alone.
    """

    walked: Walk
    center: Array
    noise: float
    intersected: bool


def memory_metrics(
    walked: Walk,
    plain: Walk,
    points: Array,
    center: Array,
    complete: Complete,
    *,
    noise: float,
    known: Sequence[int],
    first: int,
    seed: int,
) -> dict[str, float]:
    """Mean absolute errors of vols at hidden points, and the coverage of their 90 % intervals.

    Args:
        walked: the law of motion, by date.
        plain: that of a random walk of the log vols less ``center`` with a constant covariance, the opponent.
        points: log vols, NaN where missing, [date, D].
        center: log vols of coordinates of 0, [D].
        complete: by the quotes alone.
        noise: variance of the noise of log vols.
        known: numbers of quotes of a date; those that leave no point hidden are left out.
        first: the first date that is completed.
        seed: of the choice of points.
    """
    figures: dict[str, float] = {}
    rivals = {
        "memory": Filter(walked, center, noise, intersected=True),
        "kalman": Filter(plain, center, _NUGGET, intersected=False),
    }
    later = points[first:]
    for count in (count for count in known if count < points.shape[1]):
        for way in ("known", "rotating", "same"):
            scores: dict[str, list[Array]] = {}
            for seen in _quoted(later, count, way, np.random.default_rng([seed, count])):
                alone = complete(seen)
                found = {name: _filtered(rival, seen, alone, first, way) for name, rival in rivals.items()}
                for name, (mean, std) in (found | {"static": (alone.mean, alone.std)}).items():
                    scores.setdefault(name, []).append(_scores(mean, std, later, seen))
            for name, parts in scores.items():
                error, inside = np.nanmean(parts, axis=(0, 2))
                figures[f"{name}_{way}_hidden_mae_bp_{count}"] = float(error)
                figures[f"{name}_{way}_coverage_90_{count}"] = float(inside)
    return figures


def _quoted(points: Array, count: int, way: str, random: np.random.Generator) -> Iterator[Array]:
    """Log vols [date, D] of which ``count`` are known on each date, the others NaN."""
    dates, size = points.shape
    for _ in range(_SETS if way == "same" else 1):
        order = random.random((1 if way == "same" else dates, size)).argsort(axis=1).argsort(axis=1)
        yield np.where(order < count, points, np.nan)


def _filtered(rival: Filter, seen: Array, alone: Completed, first: int, way: str) -> tuple[Array, Array]:
    """Vols and standard deviations of each date, [date, D]."""
    walked, found = rival.walked, []
    certain = rival.noise * np.eye(walked.basis.shape[1])
    law, past = kalman_filter.compact(walked.law(first - 1)), Known(walked.state(first - 1), certain)
    for place, row in enumerate(seen):
        date = first + place
        if way == "known":
            law, past = kalman_filter.compact(walked.law(date - 1)), Known(walked.state(date - 1), certain)
        used = ~np.isnan(row)
        quotes = LogQuotes(row[used], np.full(used.sum(), 1.0 / rival.noise), np.eye(len(row))[used])
        past = kalman_filter.filtered(law, past, TimeStep(walked.weeks[date - 1], 1.0), quotes, rival.center).known
        belief = Belief(past.state.coordinates, past.covariance)
        if rival.intersected:
            other = Belief(alone.coordinates[place], alone.covariance[place])
            belief = kalman_filter.intersection(belief, other, rival.noise)
        vols = np.exp(rival.center + walked.basis @ belief.mean)
        variance = np.einsum("pr,rs,ps->p", walked.basis, belief.covariance, walked.basis) + rival.noise
        found.append((vols, vols * np.sqrt(variance)))
    means, deviations = (np.stack(part) for part in zip(*found, strict=True))
    return means, deviations


def _scores(mean: Array, std: Array, points: Array, seen: Array) -> Array:
    """Mean error in bp and coverage of the hidden points of each date, [2, date]."""
    hidden = np.isnan(seen) & ~np.isnan(points)
    error = np.abs(mean - np.exp(points))
    count = np.maximum(hidden.sum(axis=1), 1)
    empty = np.where(hidden.any(axis=1), 1.0, np.nan)
    both = (BASIS_POINTS * error, error <= Z90 * std)
    return np.stack([empty * np.where(hidden, part, 0.0).sum(axis=1) / count for part in both])
