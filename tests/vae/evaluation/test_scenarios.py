"""Energy scores with known answers, and bands that hold what they say."""

import math

import numpy as np
import pytest

from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS
from vae.evaluation.scenarios import energy_score, forecasts, scenario_metrics


def test_energy_score_of_a_certain_forecast_is_its_distance() -> None:
    draws = np.tile([3.0, 4.0, 7.0], (5, 1))
    assert energy_score(draws, np.array([0.0, 0.0, np.nan])) == pytest.approx(5.0)


def test_energy_score_of_the_normal_law_is_the_closed_form() -> None:
    """E|X - y| is 2 / sqrt(pi) where X and y are N(0, 1), as is E|X - X'|, of which 1 of 100 is that of X and X."""
    random = np.random.default_rng(0)
    scores = [energy_score(random.standard_normal((100, 1)), random.standard_normal(1)) for _ in range(4000)]
    assert np.mean(scores) == pytest.approx(1.01 / math.sqrt(math.pi), abs=4.0 * np.std(scores) / math.sqrt(4000))


@pytest.mark.slow
def test_a_random_walk_is_forecast_as_well_as_it_can_be() -> None:
    """One normal coordinate with a deviation of 0.02: the energy score is 0.02 / sqrt(pi), 1.13 percent."""
    random = np.random.default_rng(1)
    path = np.cumsum(0.02 * random.standard_normal((900, 1)), axis=0)
    history = History(path, np.arange(900), np.eye(1))
    own, filtered, historical = (
        forecasts(walk(history, FORMS[form]), path, np.zeros(1), first=500, seed=2)
        for form in ("reverting", "filtered_historical", "historical")
    )
    figures = scenario_metrics(own, filtered, historical)
    assert figures["scenario_dates"] == 400
    assert figures["scenario_energy_ratio"] == figures["fhs_energy_score"] / figures["scenario_energy_score"]
    for name in ("scenario", "fhs", "hs"):
        assert figures[f"{name}_energy_score"] == pytest.approx(2.0 / math.sqrt(math.pi), rel=0.12)
    assert figures["scenario_coverage_90"] == pytest.approx(0.9, abs=0.05)
    assert figures["scenario_coverage_90_5_days"] == pytest.approx(0.9, abs=0.1)
