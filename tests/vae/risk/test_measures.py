"""Value at risk and expected shortfall: small samples by hand, standard errors by repetition."""

import numpy as np
import pytest
from scipy import stats

from vae.risk.measures import risk


def test_a_small_sample_by_hand() -> None:
    found = risk(-np.arange(1.0, 101.0), 0.95)
    assert found.value_at_risk == 95.0
    assert found.expected_shortfall == np.mean([95, 96, 97, 98, 99, 100])


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


@pytest.mark.parametrize(("count", "level"), [(99, 0.99), (10, 1.0), (10, 0.0)])
def test_too_few_scenarios_are_refused(count: int, level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        risk(np.zeros(count), level)
