"""Distances of samples against scipy, known expectations and their own spread over repeated samples."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import energy_distance as scipy_energy_distance
from scipy.stats import norm

from vae.evaluation.sample_fidelity import (
    BLOCKS,
    Blocks,
    boosting_accuracy,
    energy_distance,
    in_blocks,
    matched,
    network_accuracy,
)


def normal(count: int, *, shift: float = 0.0, seed: int = 0) -> Blocks:
    generator = torch.Generator().manual_seed(seed)
    return in_blocks(shift + torch.randn(count, 2, generator=generator, dtype=torch.float64))


def test_blocks_keep_the_order_and_thin_evenly() -> None:
    rows = torch.arange(101.0).unsqueeze(1)
    assert torch.equal(torch.cat(in_blocks(rows)), rows)
    a, b = matched(in_blocks(rows), in_blocks(rows[:60]), 40)
    assert [len(block) for block in (*a, *b)] == 2 * BLOCKS * [2]
    assert torch.equal(torch.cat(a[:2]).flatten(), torch.tensor([0.0, 5.0, 6.0, 10.0]))


def test_energy_distance_of_single_rows_is_scipys_without_its_bias() -> None:
    """Scipy counts the pairs of a row with itself: within a sample of n its mean is (n - 1)/n of that over pairs."""
    a, b = (scale * torch.randn(60, 1, dtype=torch.float64) for scale in (1.0, 1.5))
    within = sum(torch.cdist(x, x).mean().item() / 59 for x in (a, b))
    ours = energy_distance(a.split(1), b.split(1)).value
    assert ours == pytest.approx(scipy_energy_distance(a[:, 0], b[:, 0]) ** 2 - within, rel=1e-9)


def test_energy_distance_has_no_bias_and_an_honest_error() -> None:
    """Over repeated samples of one law the mean is 0, and the errors are not below the spread."""
    found = [energy_distance(normal(100, seed=2 * n), normal(200, seed=2 * n + 1)) for n in range(60)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 4.0 * values.std() / math.sqrt(60)
    assert np.sqrt(np.mean([one.error**2 for one in found])) > 0.9 * values.std()


def test_energy_distance_of_two_normal_laws() -> None:
    """Means m apart, variances 1: 2 E|x - y| - 2 E|x - x'| with x - y normal, in one dimension."""
    shift = 1.5
    a, b = (in_blocks(torch.randn(4000, 1, dtype=torch.float64) + m) for m in (0.0, shift))
    folded = 2.0 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4.0) + shift * math.erf(shift / 2.0)
    found = energy_distance(a, b)
    assert found.value == pytest.approx(2.0 * folded - 4.0 / math.sqrt(math.pi), abs=4.0 * found.error)
    assert found.error < 0.1 * found.value


@pytest.mark.slow
def test_energy_distance_of_days_that_resemble_each_other() -> None:
    """Rows alike within a block, blocks independent: pairs of one block would make one law look like two."""
    means = torch.randn(200, 2 * BLOCKS, 1, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = [
        energy_distance(list(m[:BLOCKS].expand(-1, 5, -1)), list(m[BLOCKS:].expand(-1, 5, -1))).value for m in means
    ]
    assert abs(np.mean(values)) < 4.0 * np.std(values) / math.sqrt(200)


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [boosting_accuracy, network_accuracy])
def test_a_classifier_tells_a_shift_and_not_two_samples_of_one_law(accuracy) -> None:
    same, other = (accuracy(normal(400, seed=1), normal(400, shift=s, seed=2), seed=1) for s in (0.0, 2.0))
    assert same.value == pytest.approx(0.5, abs=4.0 * same.error)
    assert 0.005 < same.error < 0.05  # independent rows: sqrt(0.25 / 800) = 0.018
    assert other.value == pytest.approx(norm.cdf(2.0 / math.sqrt(2.0)), abs=0.05)


@pytest.mark.slow
def test_a_classifier_sees_dependence() -> None:
    """The same margins, one pair of numbers correlated."""
    a = torch.randn(1000, 2, dtype=torch.float64)
    b = torch.randn(1000, 2, dtype=torch.float64)
    b[:, 1] = 0.9 * b[:, 0] + math.sqrt(1.0 - 0.81) * b[:, 1]
    assert boosting_accuracy(in_blocks(a), in_blocks(b), seed=1).value > 0.65


def test_a_classifier_does_not_learn_days_by_heart() -> None:
    """Rows alike within a block: none of a block is in training when another of it is asked for."""
    generator = torch.Generator().manual_seed(1)
    a, b = ([torch.randn(1, 2, generator=generator).expand(20, -1).clone() for _ in range(BLOCKS)] for _ in range(2))
    found = boosting_accuracy(a, b, seed=1)
    assert found.value < 0.75
