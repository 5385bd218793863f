import numpy as np
import torch

from benchmarks.off_grid import exact_quotes
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
