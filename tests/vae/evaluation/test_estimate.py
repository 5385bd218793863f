"""Standard errors against the spread over repeated samples."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from vae.evaluation.estimate import Estimate, mean, quantile


def test_the_difference_adds_variances() -> None:
    assert Estimate(3.0, 0.3).less(Estimate(1.0, 0.4)) == pytest.approx((2.0, 0.5))


@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_a_quantile_of_a_normal_law(level: float) -> None:
    draws = torch.randn(300, 2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = [quantile(row, level) for row in draws]
    values, errors = (np.array([one[n] for one in found]) for n in (0, 1))
    assert values.mean() == pytest.approx(norm.ppf(level), abs=0.02)
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)


def test_a_quantile_beyond_the_values_is_the_last_one() -> None:
    assert quantile(torch.arange(5.0), 0.999).value == 4.0
    assert quantile(torch.arange(5.0), 0.0) == (0.0, 0.0)


def test_the_mean_is_numpys() -> None:
    values = torch.rand(50, dtype=torch.float64)
    assert mean(values) == pytest.approx((values.numpy().mean(), values.numpy().std(ddof=1) / np.sqrt(50)))
