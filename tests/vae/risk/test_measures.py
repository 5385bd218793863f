"""Value at risk and expected shortfall: small samples by hand, standard errors by repetition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vae.risk.measures import fewest, knows, risk


def test_a_small_sample_by_hand() -> None:
    found = risk(-np.arange(1.0, 101.0), 0.95)
    assert found.value_at_risk == 95.0
    assert found.expected_shortfall == pytest.approx(np.mean([96, 97, 98, 99, 100]))
    assert risk(-np.arange(1.0, 101.0), 0.975).expected_shortfall == pytest.approx((0.5 * 98 + 99 + 100) / 2.5)


@given(st.lists(st.floats(-1e3, 1e3), min_size=20, max_size=200), st.sampled_from([0.5, 0.75, 0.9, 0.93]))
def test_expected_shortfall_is_the_mean_of_all_values_at_risk_beyond_its_level(pnl: list[float], level: float) -> None:
    """The integral of the quantile function over (level, 1), which is a step function of the sorted losses."""
    losses = np.sort(-np.array(pnl))
    ends = np.arange(len(losses) + 1) / len(losses)
    widths = np.diff(np.maximum(ends, level))
    assert risk(np.array(pnl), level).expected_shortfall == pytest.approx(widths @ losses / (1.0 - level), abs=1e-6)


def test_the_shortfall_of_few_scenarios_is_nearly_that_of_the_law() -> None:
    """Of 100 normal numbers at 99 % it is the mean of the largest one, which is 5.9 % below that of the law."""
    rng, level = np.random.default_rng(3), 0.99
    found = np.mean([risk(rng.standard_normal(100), level).expected_shortfall for _ in range(20_000)])
    exact = stats.norm.pdf(stats.norm.ppf(level)) / (1.0 - level)
    assert found / exact == pytest.approx(1.0 - 0.059, abs=0.008)


def test_a_shift_and_a_scale_move_the_measures() -> None:
    pnl = np.random.default_rng(1).standard_t(4, 5000)
    one, other = risk(pnl, 0.99), risk(3.0 * pnl - 2.0, 0.99)
    np.testing.assert_allclose(other[::2], 3.0 * np.array(one[::2]) + 2.0)
    np.testing.assert_allclose(other[1::2], 3.0 * np.array(one[1::2]))


def test_standard_errors_are_the_deviations_over_repetitions() -> None:
    rng, level = np.random.default_rng(2), 0.975
    found = np.array([risk(rng.standard_normal(4000), level) for _ in range(400)])
    quantile = stats.norm.ppf(level)
    assert found[:, 0].mean() == pytest.approx(quantile, abs=0.01)
    assert found[:, 2].mean() == pytest.approx(stats.norm.pdf(quantile) / (1.0 - level), abs=0.01)
    np.testing.assert_allclose(found[:, 1].mean(), found[:, 0].std(), rtol=0.15)
    np.testing.assert_allclose(found[:, 3].mean(), found[:, 2].std(), rtol=0.15)


def test_an_error_that_equal_losses_cannot_show_is_not_known() -> None:
    """Scenarios that repeat few past moves: the ranks that the error is read from have the same loss."""
    repeated = risk(-np.repeat([1.0, 2.0, 3.0], [900, 80, 20]), 0.99)
    assert (repeated.value_at_risk, repeated.expected_shortfall) == (3.0, 3.0)
    assert np.isnan([repeated.value_at_risk_se, repeated.expected_shortfall_se]).all()
    rounded = risk(-100.0 - 1e-12 * np.arange(1000.0), 0.99)
    assert np.isnan([rounded.value_at_risk_se, rounded.expected_shortfall_se]).all()
    differing = risk(-np.repeat([1.0, 2.0, 3.0], [988, 6, 6]), 0.99)
    assert min(differing.value_at_risk_se, differing.expected_shortfall_se) > 0.0


@pytest.mark.parametrize(("count", "level"), [(99, 0.99), (10, 1.0), (10, 0.0)])
def test_too_few_scenarios_are_refused(count: int, level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        risk(np.zeros(count), level)


@pytest.mark.parametrize(("level", "count"), [(0.9, 10), (0.99, 100), (0.999, 1000), (0.9999, 10_000), (0.975, 40)])
def test_the_fewest_scenarios_are_the_first_count_that_is_accepted(level: float, count: int) -> None:
    assert fewest(level) == count
    assert (knows(count, level), knows(count - 1, level)) == (True, False)
