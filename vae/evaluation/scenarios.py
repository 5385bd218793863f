"""How well a law of motion forecasts dates that it has not seen: energy scores, and coverage of its bands.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477),
section 4.3.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.dynamics.fit import Walk

Array = NDArray[np.float64]

_PATHS = 1000  # of a date
_DRAWN = 20  # of these that are kept
_ROWS = 125  # of distances that are taken at once, which fit into the cache of a core
_HORIZONS = (1, 5, 20)  # steps
_EVERY = 5  # dates from one to the next whose paths have more than one step, which overlap
_TAIL = 0.05  # of a band on each side
_PERCENT = 100.0


class Forecasts(NamedTuple):
    """Forecasts of a law for dates that it did not know.

    Attributes:
        energy: score of each date, one step ahead, [date].
        inside: whether points lie inside the 90 % band by the number of steps ahead, NaN where missing, [origin, D].
        drawn: some of the scenarios of each date, one step ahead, [scenario, D].
    """

    energy: Array
    inside: dict[int, Array]
    drawn: Array


def energy_score(draws: Array, seen: Array) -> float:
    """E|X - seen| - E|X - X'| / 2 where X is one of draws [n, D]: lower is better; over the points that are seen.

    Args:
        draws: equally probable outcomes, [n, D].
        seen: what came, NaN where missing, [D].
    """
    known = ~np.isnan(seen)
    errors = draws[:, known] - seen[known]
    return float(np.sqrt(np.square(errors).sum(axis=1)).mean() - 0.5 * _mean_distance(errors))


def _mean_distance(points: Array) -> float:
    """Mean distance of two of the points [n, D], each of the n^2 pairs counted; those of one point and itself are 0."""
    squares, total = np.square(points).sum(axis=1), 0.0
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)  # and from them on: the others are counted twice
        apart = points[rows] @ (-2.0 * points[start:].T)
        apart += squares[start:]
        apart += squares[rows, None]
        np.fill_diagonal(apart, 0.0)
        distances = np.sqrt(np.maximum(apart, 0.0, out=apart), out=apart)
        total += 2.0 * distances.sum() - distances[:, : len(apart)].sum()
    return float(total) / len(points) ** 2


def forecasts(walked: Walk, points: Array, center: Array, *, first: int, seed: int) -> Forecasts:
    """Forecasts of the dates from the place ``first`` on, each from the date before, and some from 5 and 20 before.

    The first shocks of the paths are spread evenly over those of the law, so that chance moves no score of one step.

    Args:
        walked: through all dates.
        points: of the surfaces, NaN where missing, [date, D].
        center: points of the surface with coordinates of 0, [D].
        first: place of the first date that is forecast.
        seed: of the scenarios.
    """
    energy, drawn, inside = [], [], {ahead: [np.zeros((0, points.shape[1]))] for ahead in _HORIZONS}
    for origin in range(first - 1, len(points) - 1):
        steps = _HORIZONS[-1] if (origin + 1 - first) % _EVERY == 0 else 1
        reach = len(walked.weeks[origin : origin + steps])
        uniform = np.random.default_rng([seed, origin]).random((_PATHS, reach))
        uniform[:, 0] = (np.arange(_PATHS) + 0.5) / _PATHS
        found = walked.scenarios(origin, uniform).coordinates
        draws = center + found @ walked.basis.T
        energy.append(energy_score(draws[:, 0], points[origin + 1]))
        drawn.append(draws[:: _PATHS // _DRAWN, 0])
        for ahead in (ahead for ahead in _HORIZONS if ahead <= reach):
            inside[ahead].append(_inside(draws[:, ahead - 1], points[origin + ahead])[None])
    joined = {ahead: np.concatenate(parts) for ahead, parts in inside.items()}
    return Forecasts(np.array(energy), joined, np.concatenate(drawn))


def scenario_metrics(own: Forecasts, filtered: Forecasts, historical: Forecasts) -> dict[str, float]:
    """Flat figures of a law, and of filtered historical and historical simulation. Scores are in percent of the vols.

    A horizon that no forecast reaches has no figures.
    """
    found = {
        f"{name}_energy_score": _PERCENT * float(part.energy.mean())
        for name, part in (("scenario", own), ("fhs", filtered), ("hs", historical))
    }
    found["scenario_energy_ratio"] = found["fhs_energy_score"] / found["scenario_energy_score"]
    found["scenario_dates"] = len(own.energy)
    for ahead, inside in own.inside.items():
        if len(inside):
            by_point, name = np.nanmean(inside, axis=0), "scenario_coverage_90"
            days = "" if ahead == 1 else f"_{ahead}_days"
            found[f"{name}{days}"] = float(np.nanmean(inside))
            found[f"{name}_lowest{days}"], found[f"{name}_highest{days}"] = float(by_point.min()), float(by_point.max())
    found["fhs_coverage_90"] = float(np.nanmean(filtered.inside[1]))
    return found


def _inside(draws: Array, seen: Array) -> Array:
    """1 where seen [D] lies inside the 90 % band of draws [n, D], 0 where it does not, NaN where it is missing."""
    low, high = np.quantile(draws, (_TAIL, 1.0 - _TAIL), axis=0)
    return np.where(np.isnan(seen), np.nan, (seen >= low) & (seen <= high))
