import numpy as np
import pytest
import torch
from scipy.stats import energy_distance as scipy_energy_distance

from vae.evaluation.sample_fidelity import classifier_accuracy, energy_distance


def test_energy_distance_in_one_dimension_is_the_square_of_scipys() -> None:
    a, b = (torch.randn(200, 1, dtype=torch.float64) * scale for scale in (1.0, 1.5))
    ours = energy_distance(a, b, unit=torch.full((1,), 2.0, dtype=torch.float64))
    assert ours == pytest.approx(scipy_energy_distance(a[:, 0] / 2.0, b[:, 0] / 2.0) ** 2, rel=1e-9)


def test_energy_distance_is_zero_for_the_same_rows_only() -> None:
    a = torch.randn(50, 3, dtype=torch.float64)
    unit = torch.ones(3, dtype=torch.float64)
    assert energy_distance(a, a, unit=unit) == pytest.approx(0.0, abs=1e-12)
    assert energy_distance(a, a + 0.1, unit=unit) > 1e-3


@pytest.mark.slow
def test_a_classifier_tells_a_shift_and_not_two_samples_of_one_law() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(2, 1000, 4))
    assert classifier_accuracy(a, b, seed=1) == pytest.approx(0.5, abs=0.06)
    assert classifier_accuracy(a, b + 2.0, seed=1) > 0.9


def test_a_classifier_sees_dependence() -> None:
    """The same margins, one pair of numbers correlated."""
    generator = np.random.default_rng(2)
    a = generator.normal(size=(1000, 2))
    b = generator.multivariate_normal([0, 0], [[1.0, 0.9], [0.9, 1.0]], 1000)
    assert classifier_accuracy(a, b, seed=1) > 0.65
