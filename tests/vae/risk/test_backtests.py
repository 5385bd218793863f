"""Backtests against published values, scipy's chi-square, and days that a right model makes."""

import numpy as np
import pytest
from scipy import stats

from vae.risk.backtests import independence, kupiec, shortfall, traffic_light


@pytest.mark.parametrize(("days", "over", "level"), [(255, 6, 0.99), (510, 11, 0.95), (1000, 0, 0.99), (446, 446, 0.9)])
def test_kupiec_is_the_likelihood_ratio_of_two_binomial_laws(days: int, over: int, level: float) -> None:
    share = over / days
    laws = [stats.binom.logpmf(over, days, each) for each in (share, 1.0 - level)]
    expected = stats.chi2.sf(2.0 * (laws[0] - laws[1]), 1)
    assert kupiec(np.arange(days) < over, level) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("days", "accepted", "level"), [(255, (1, 6), 0.99), (510, (2, 10), 0.99), (1000, (38, 64), 0.95)]
)
def test_kupiec_accepts_the_published_numbers(days: int, accepted: tuple[int, int], level: float) -> None:
    """Kupiec (1995), table 3, as in Jorion (2007), table 6-2: a test of 5 % accepts numbers strictly between two.

    The bounds here are the first and the last that are accepted.
    """
    found = [over for over in range(days) if kupiec(np.arange(days) < over, level) > 0.05]
    assert (found[0], found[-1]) == accepted


def test_exceedances_in_a_row_are_not_independent() -> None:
    runs, spread = np.zeros(500, bool), np.zeros(500, bool)
    runs[100:120], spread[::25] = True, True
    assert independence(runs) < 1e-6
    assert independence(spread) > 0.1
    table = np.array([[np.sum((runs[:-1] == a) & (runs[1:] == b)) for b in (0, 1)] for a in (0, 1)])
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue
    assert independence(runs) == pytest.approx(expected, rel=1e-6)


def test_no_exceedance_is_independent() -> None:
    assert independence(np.zeros(100, bool)) == 1.0


def test_a_shortfall_that_is_stated_right_is_not_rejected_more_often_than_said() -> None:
    rng, level = np.random.default_rng(1), 0.975
    found = []
    for seed in range(60):
        scenarios = np.sort(rng.standard_normal((250, 400)), axis=1)
        tail = scenarios[:, 390:]
        stated = np.stack([tail[:, 0], tail.mean(1)])
        found.append(shortfall(rng.standard_normal(250), stated, scenarios, level, seed=seed)[1])
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert np.mean(np.array(found) < 0.1) < 0.25


def test_losses_twice_as_large_are_rejected() -> None:
    rng, level = np.random.default_rng(2), 0.975
    scenarios = rng.standard_normal((250, 2000))
    ordered = np.sort(scenarios, axis=1)[:, 1950:]
    stated = np.stack([ordered[:, 0], ordered.mean(1)])
    statistic, p = shortfall(2.0 * rng.standard_normal(250), stated, scenarios, level, seed=1)
    assert statistic < -1.0
    assert p < 0.01


def test_zones_are_those_of_the_committee() -> None:
    """Basel Committee (1996), table 2: of 250 days at 99 %, amber from 5 and red from 10 exceedances."""
    found = [traffic_light(np.arange(250) < over, 0.99) for over in range(12)]
    assert found == ["green"] * 5 + ["amber"] * 5 + ["red"] * 2
