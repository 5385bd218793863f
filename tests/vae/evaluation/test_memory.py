"""Figures of completions that remember: the Kalman filter against conditioning by hand, and no look-ahead."""

import numpy as np

from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS
from vae.evaluation.memory import Completed, memory_metrics

_DATES, _POINTS, _FIRST, _SCALE = 200, 4, 160, 0.001
_CENTER = np.log(np.full(_POINTS, 0.2))
_RANDOM = np.random.default_rng(4)
_LOG_VOLS = _CENTER + np.cumsum(
    0.02 * (_RANDOM.standard_normal((_DATES, 1)) + 0.3 * _RANDOM.standard_normal((_DATES, _POINTS))), axis=0
)


def _alone(log_vols: np.ndarray) -> Completed:
    """Completions with a static law that knows nothing but a wide band about the centre."""
    rows, size = log_vols.shape
    mean, covariance = np.zeros((rows, size)), np.broadcast_to(np.eye(size), (rows, size, size)).copy()
    for row, seen in enumerate(log_vols):
        known = ~np.isnan(seen)
        mean[row, known] = (seen - _CENTER)[known]
        covariance[row][np.ix_(known, known)] = _SCALE**2 * np.eye(known.sum())
    vols = np.exp(_CENTER + mean)
    deviation = vols * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2) + _SCALE**2)
    return Completed(vols, deviation, mean, covariance)


def _figures(points: np.ndarray) -> dict[str, float]:
    history = History(points - _CENTER, np.arange(_DATES), np.eye(_POINTS))
    walks = [walk(history, FORMS[form]) for form in ("reverting", "historical")]
    return memory_metrics(*walks, points, _CENTER, _alone, noise=_SCALE**2, known=(2, 4), first=_FIRST, seed=3)


def test_the_past_tells_hidden_points_and_what_is_claimed_of_them_is_true() -> None:
    figures = _figures(_LOG_VOLS)
    assert not any(name.endswith("_4") for name in figures)  # no point is hidden
    for way in ("known", "rotating", "same"):
        assert figures[f"memory_{way}_hidden_mae_bp_2"] < 0.5 * figures[f"static_{way}_hidden_mae_bp_2"]
        assert 0.8 < figures[f"memory_{way}_coverage_90_2"] <= 1.0
    assert figures["memory_known_hidden_mae_bp_2"] < figures["memory_same_hidden_mae_bp_2"]


def test_kalmans_filter_conditions_the_covariance_of_changes_on_the_quotes() -> None:
    """With the last date known, hidden points are its vols and the regression of their changes on those quoted."""
    random, errors = np.random.default_rng([3, 2]), []
    order = random.random((_DATES - _FIRST, _POINTS)).argsort(axis=1).argsort(axis=1)
    changes = np.diff(_LOG_VOLS, axis=0)
    for place, date in enumerate(range(_FIRST, _DATES)):
        past, known = changes[: date - 1][20:], order[place] < 2
        covariance = past.T @ past / len(past) + 3e-6 * np.eye(_POINTS)
        seen = _LOG_VOLS[date, known] - _LOG_VOLS[date - 1, known]
        inner = covariance[np.ix_(known, known)] + 3e-6 * np.eye(2)
        found = _LOG_VOLS[date - 1] + covariance[:, known] @ np.linalg.solve(inner, seen)
        errors.append(1e4 * np.abs(np.exp(found) - np.exp(_LOG_VOLS[date]))[~known].mean())
    assert abs(_figures(_LOG_VOLS)["kalman_known_hidden_mae_bp_2"] - np.mean(errors)) < 1e-3


def test_a_hidden_point_of_a_date_changes_nothing_of_the_others() -> None:
    """Figures of the past do not move when the last surface does: only its own errors may."""
    altered = _LOG_VOLS.copy()
    altered[-1] += 1.0
    shorter, changed = (_figures_before_last(points) for points in (_LOG_VOLS, altered))
    np.testing.assert_array_equal(shorter, changed)


def _figures_before_last(points: np.ndarray) -> np.ndarray:
    history = History(points - _CENTER, np.arange(_DATES), np.eye(_POINTS))
    own, plain = (walk(history, FORMS[form]) for form in ("reverting", "historical"))
    masked = points.copy()
    masked[-1] = np.nan
    found = memory_metrics(own, plain, masked, _CENTER, _alone, noise=_SCALE**2, known=(2,), first=_FIRST, seed=3)
    return np.array([found[name] for name in found if "static" not in name])
