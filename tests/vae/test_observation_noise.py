"""The noise of observations: its law, and that a row is the same however a request is split."""

import numpy as np
import pytest
import scipy.stats

from vae.observation_noise import Array, ObservationNoise

ROWS, SHAPE = 20_000, (3, 5)
MANIFEST = {"noise": [0.5], "transform": "none"}


def noisy(manifest: dict, mean: float, seed: int = 7, first: int = 0, rows: int = ROWS) -> Array:
    found = np.full((rows, *SHAPE), mean, np.float32)
    ObservationNoise.of(manifest, SHAPE).add(found, seed, first)
    return found


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_noise_is_normal_and_independent(seed: int) -> None:
    found = noisy(MANIFEST, 2.0, seed).reshape(ROWS, -1)
    for column in found.T:
        assert scipy.stats.kstest(column, scipy.stats.norm(2.0, 0.5).cdf).pvalue > 1e-4
    correlation = np.corrcoef(found.T)
    assert np.abs(correlation - np.eye(15)).max() < 5.0 / ROWS**0.5
    assert abs(np.corrcoef(found[1:, 0], found[:-1, 0])[0, 1]) < 5.0 / ROWS**0.5


def test_each_point_has_its_own_noise_and_that_of_logarithms_multiplies() -> None:
    scale = np.linspace(0.01, 0.1, 15)
    found = np.log(noisy({"noise": scale.tolist(), "transform": "log"}, 0.2) / np.float32(0.2))
    np.testing.assert_allclose(found.std(0).ravel(), scale, rtol=0.03)


def test_binary_points_are_drawn() -> None:
    found = noisy({"likelihood": "bernoulli", "noise": None, "transform": "none"}, 0.3)
    assert set(np.unique(found)) == {0.0, 1.0}
    assert abs(found.mean() - 0.3) < 5.0 * (0.21 / found.size) ** 0.5


def test_a_row_depends_on_its_number_alone() -> None:
    whole = noisy(MANIFEST, 0.0, rows=10)
    np.testing.assert_array_equal(noisy(MANIFEST, 0.0, first=6, rows=4), whole[6:])
    far = noisy(MANIFEST, 0.0, first=2**50 - 4, rows=4)
    np.testing.assert_array_equal(noisy(MANIFEST, 0.0, first=2**50 - 2, rows=2), far[2:])
    assert not np.isin(far, whole).any()
    assert (noisy(MANIFEST, 0.0, seed=8, rows=10) != whole).all()


def test_a_noise_that_depends_on_the_latents_is_that_of_each_row() -> None:
    noise = ObservationNoise.of({"noise": None, "transform": "none"}, SHAPE)
    scale = np.linspace(0.0, 1.0, ROWS, dtype=np.float32).reshape(-1, 1, 1) + np.zeros((1, *SHAPE), np.float32)
    found = np.zeros_like(scale)
    noise.add(found, 7, 0, scale)
    np.testing.assert_allclose(found, scale * noisy({"noise": [1.0], "transform": "none"}, 0.0), atol=1e-5)
