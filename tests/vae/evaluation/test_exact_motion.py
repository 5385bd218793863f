"""The distance to the exact law: its densities and risk against Monte Carlo, and the distance of known forecasts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS
from vae.evaluation import exact_motion
from vae.evaluation.exact_motion import ExactPath, Outcomes, exact_metrics, log_density
from vae.pricing.heston_transition import Process, return_law, simulated, variance_law
from vae.surface.grid import Grid

Array = NDArray[np.float64]

_PROCESS, _DAY = Process(4.0, 0.04, 0.3, -0.7), 1.0 / 365.0
_GRID = Grid([0.1, 0.25, 0.5], [-0.1, 0.0, 0.1])


def _price(variance: Array) -> Array:
    """Surfaces that are a function of the variance, as Heston's are: its expected mean until the tenor, with a skew."""
    decay = -np.expm1(-_PROCESS.kappa * _GRID.tenors) / (_PROCESS.kappa * _GRID.tenors)
    level = np.sqrt(_PROCESS.theta + (variance[:, None] - _PROCESS.theta) * decay)
    return level[:, :, None] * (1.0 - 0.3 * _GRID.nodes)


def _path(days: int) -> ExactPath:
    variance, log_return = simulated(_PROCESS, 0.04, days - 1, _DAY, seed=1)
    return ExactPath.of(_PROCESS, variance, np.concatenate([[0.0], np.cumsum(log_return)]), _DAY, _price)


def _monte_carlo(path: ExactPath, date: int, count: int) -> Outcomes:
    random, before = np.random.default_rng(5), path.variance[date - 1]
    after = variance_law(_PROCESS, np.array(before), _DAY).rvs(count, random_state=random)
    drawn = return_law(_PROCESS, np.full(count, before), after, _DAY).quantile(random.random(count))
    return Outcomes(np.log(_price(after)).reshape(count, -1), drawn, np.full(count, 1.0 / count))


@pytest.mark.slow
def test_exact_density_and_risk_are_those_of_monte_carlo() -> None:
    path, date = _path(30), 20
    drawn = _monte_carlo(path, date, 40_000)
    level = path.log_vols(np.log(path.variance[date])).mean()
    kernels = log_density(drawn, level, np.diff(path.log_price)[date - 1])
    assert path.log_density(date) == pytest.approx(kernels, abs=0.1)
    lattice = path.outcomes(date)
    for power in (1, 2):
        for of in (lambda found: found.log_return, lambda found: found.log_vols.mean(axis=1) - level):
            expected, error = np.mean(of(drawn) ** power), np.std(of(drawn) ** power) / 200.0
            assert lattice.weight @ of(lattice) ** power == pytest.approx(expected, abs=4.0 * error)
    exact, found = (exact_motion._risk(path, each, _GRID, date) for each in (lattice, drawn))
    np.testing.assert_allclose(exact, found, rtol=0.03)


@pytest.mark.slow
def test_laws_are_ordered_by_their_distance_from_the_truth() -> None:
    path = _path(700)
    log_vols = path.log_vols(np.log(path.variance))
    center = log_vols.mean(axis=0)
    days = np.arange(len(log_vols)) + 10_957
    history = History(log_vols - center, days, np.eye(9), path.log_price)
    walks = {name: walk(history, FORMS[name]) for name in ("reverting", "historical")}
    wide = walks["reverting"]._replace(shocks=3.0 * walks["reverting"].shocks)
    found = exact_metrics(path, walks | {"wide": wide}, center, log_vols.mean(axis=1), _GRID, first=600)
    assert -0.02 < found["reverting_gap_to_exact_nats"] < 0.3
    assert (
        found["reverting_gap_to_exact_nats"] < found["historical_gap_to_exact_nats"] < found["wide_gap_to_exact_nats"]
    )
    assert found["wide_gap_to_exact_nats"] > 1.0  # 2 ln 3 - 8/9 for a normal law
    for side in ("bought", "sold"):
        assert found[f"reverting_straddle_{side}_var_99_to_exact"] == pytest.approx(1.0, abs=0.25)
        assert found[f"wide_straddle_{side}_var_99_to_exact"] > 1.3
