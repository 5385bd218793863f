import numpy as np
import QuantLib as ql
import torch

from benchmarks.frames import FRAMES, HEIGHT, WIDTH, film
from benchmarks.off_grid import exact_quotes
from benchmarks.outside import sabr
from vae.pricing import heston_surfaces
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces


def test_quotes_off_the_grid_are_of_the_surface() -> None:
    """Inside the grid, and on the surface of the same parameters, which is read there to a basis point."""
    grid = Grid(np.array([26, 52, 104, 182, 260, 364]) / 365, np.linspace(-0.4, 0.4, 17))
    parameters = np.array([0.04, 2.0, 0.05, 0.4, -0.6])
    k, tenor, iv = exact_quotes(parameters, grid, 12, np.random.default_rng(1))
    surface = heston_surfaces.surfaces(torch.from_numpy(parameters[None]), grid).vol.numpy()
    assert len(np.unique(tenor)) == 12
    np.testing.assert_allclose(Surfaces(surface, grid).at(k, tenor)[0], iv, rtol=0.0, atol=1e-4)


def test_sabr_vols_are_those_of_quantlib() -> None:
    grid = Grid(np.array([0.1, 0.5, 1.0]), np.linspace(-0.4, 0.4, 9))
    alpha, rho, nu = np.random.default_rng(3).uniform((0.1, -0.85, 0.3), (0.4, -0.1, 1.5)).tolist()
    expected = [
        [ql.sabrVolatility(float(np.exp(k)), 1.0, tenor, alpha, 1.0, nu, rho) for k in smile]
        for tenor, smile in zip(grid.tenors.tolist(), grid.log_moneyness, strict=True)
    ]
    np.testing.assert_allclose(sabr(grid, np.random.default_rng(3)), expected, rtol=1e-6)


def test_a_film_is_smooth_in_time_but_for_its_noise() -> None:
    frames = film(seed=1)
    assert frames.shape == (FRAMES, HEIGHT * WIDTH)
    assert frames.min() >= 0.0
    assert frames.max() <= 255.0
    apart = [np.abs(frames[lag:] - frames[:-lag]).mean() for lag in (1, 10, 100)]
    assert apart[0] < apart[1] < apart[2], "frames near in time are alike"
    noise = np.abs(np.diff(frames, axis=0))
    bright, dark = frames.mean(0) > 150.0, frames.mean(0) < 50.0
    assert noise[:, bright].mean() > 1.5 * noise[:, dark].mean()
