import numpy as np
import pytest

from vae.model.mixture import fit_mixture
from vae.training import flow_fit
from vae.training.flow_fit import fit_flow


def rotated_square(count: int, seed: int) -> np.ndarray:
    """Uniform on a square of area 4, an eighth of a turn from the axes: its density is 1/4 inside and 0 outside."""
    half = np.sqrt(0.5)
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 2)) @ np.array([[half, half], [-half, half]])


@pytest.mark.slow
def test_a_flow_ends_where_its_codes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearer to the true density than 10 Gaussians, with fewer draws outside."""
    monkeypatch.setattr(flow_fit, "_LEAST_STEPS", 300)
    codes, fresh = rotated_square(4000, 1), rotated_square(4000, 2)
    flow, mixture = fit_flow(codes, layers=3, seed=5), fit_mixture(codes, 10, seed=5)
    generator = np.random.default_rng(3)
    uniform, normal = generator.random(20_000), generator.standard_normal((20_000, 2))

    assert mixture.log_density(fresh).mean() < flow.log_density(fresh).mean() < -np.log(4.0)
    beyond = 1.05 * np.sqrt(2.0)
    outside = [
        (np.abs(law.sample(uniform, normal) @ [[1, -1], [1, 1]]).max(1) > beyond).mean() for law in (flow, mixture)
    ]
    assert outside[0] < 0.5 * outside[1]


def test_the_same_seed_gives_the_same_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_fit, "_LEAST_STEPS", 20)
    codes = rotated_square(60, 1)
    one, again, other = (fit_flow(codes, layers=1, seed=seed).log_density(codes) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.slow
def test_codes_count_by_their_weights() -> None:
    """Of two clouds, the one with nearly no weight is left out."""
    codes = np.random.default_rng(1).standard_normal((400, 2))
    codes[::2] += 6.0
    weights = np.where(np.arange(400) % 2 == 0, 1e-6, 2.0)
    flow = fit_flow(codes, layers=1, seed=5, weights=weights)
    density = flow.log_density(codes)
    assert density[1::2].mean() > density[::2].mean() + 5.0
