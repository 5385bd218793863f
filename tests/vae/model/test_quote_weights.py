"""Reading by weights against the splines of vae.surface.interpolation, and what the grid does not reach."""

import numpy as np
import pytest
import torch

from vae.model.completion import vols_at
from vae.model.quote_weights import QuoteInterpolator
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError
from vae.surface.surfaces import Surfaces

TENORS, NODES = np.array([0.1, 0.25, 0.7, 1.0]), np.linspace(-0.4, 0.3, 7)


def smooth(grid: Grid) -> np.ndarray:
    place = grid.nodes if grid.convention != "delta" else -np.array(grid.d1)
    return 0.2 + 0.03 * grid.tenors[:, None] - 0.1 * place + 0.2 * place**2


@pytest.mark.parametrize("convention", ["sqrt_time", "log_moneyness"])
def test_weights_give_the_values_of_the_splines(convention: str) -> None:
    grid = Grid(TENORS, NODES, convention)
    generator = np.random.default_rng(1)
    tenor = generator.uniform(0.95 * TENORS[0], 1.05 * TENORS[-1], 500)
    k = generator.uniform(-0.5, 0.4, 500)
    iv = smooth(grid)

    weights = QuoteInterpolator(grid)(torch.from_numpy(k), torch.from_numpy(tenor), torch.full((500,), 0.2).double())
    found = vols_at(weights.spline, torch.from_numpy(tenor), torch.from_numpy(iv).flatten().unsqueeze(0))[0].numpy()

    expected = Surfaces(iv[None], grid).at(k, tenor)[0]
    np.testing.assert_array_equal(weights.inside.numpy(), np.isfinite(expected))
    assert 100 < np.isfinite(expected).sum() < 500
    np.testing.assert_allclose(found[np.isfinite(expected)], expected[np.isfinite(expected)], rtol=1e-9)


@pytest.mark.parametrize("convention", ["sqrt_time", "log_moneyness", "delta"])
def test_points_of_the_grid_are_interpolated_exactly(convention: str) -> None:
    """In single precision too, where the ends of the nodes are missed by a rounding."""
    grid = Grid(TENORS, np.linspace(0.1, 0.9, 7) if convention == "delta" else NODES, convention)
    iv = smooth(grid).astype(np.float32)
    k = np.broadcast_to(grid.log_moneyness_of(iv), iv.shape).astype(np.float32)
    tenor = np.broadcast_to(TENORS[:, None], iv.shape).astype(np.float32)
    quotes = (torch.from_numpy(part.ravel().copy()) for part in (k, tenor, iv))

    weights = QuoteInterpolator(grid).float()(*quotes)

    assert weights.inside.all()
    found = vols_at(weights.spline, torch.from_numpy(tenor.ravel().copy()), torch.from_numpy(iv).flatten().unsqueeze(0))
    np.testing.assert_allclose(found[0].numpy(), iv.ravel(), rtol=3e-6)
    np.testing.assert_array_equal(weights.nearest.numpy(), np.arange(iv.size))
    np.testing.assert_allclose(weights.linear.sum(0).numpy(), 1.0, rtol=1e-6)


def test_the_error_of_reading_is_that_of_the_place() -> None:
    """None at the points of the grid, the learned one in the middle between two, both added on a diagonal."""
    grid = Grid(TENORS, NODES)
    error = ReadingError(np.full((3, 7), 3e-4), np.full((4, 6), 4e-4))
    place = np.sqrt(TENORS) / (1.0 + np.sqrt(TENORS))
    middle = 0.5 * (place[:-1] + place[1:])
    tenor = np.concatenate((TENORS[:3], np.tile((middle / (1.0 - middle)) ** 2, 2)))
    node = np.concatenate((NODES[1:4], NODES[1:4], 0.5 * (NODES[1:4] + NODES[2:5])))
    k = torch.from_numpy(node * np.sqrt(tenor))
    weights = QuoteInterpolator(grid, error)(k, torch.from_numpy(tenor), torch.full_like(k, 0.2))
    np.testing.assert_allclose(weights.variance.sqrt().numpy(), np.repeat([0.0, 3e-4, 5e-4], 3), atol=1e-12)
    assert not QuoteInterpolator(grid)(k, torch.from_numpy(tenor), k).variance.any()


def test_surfaces_come_with_coordinates() -> None:
    grid = Grid(TENORS, NODES)
    surfaces = Surfaces(np.stack([smooth(grid), 2.0 * smooth(grid)]), grid)
    table = surfaces.to_pandas()
    assert list(table.columns) == ["surface", "tenor_years", "log_moneyness", "iv"]
    assert len(surfaces) == 2
    last = table.iloc[-1]
    assert (last.surface, last.tenor_years, last.iv) == (1, 1.0, surfaces.iv[1, -1, -1])
    assert last.log_moneyness == grid.log_moneyness[-1, -1]
    np.testing.assert_allclose(surfaces.at(grid.log_moneyness[2], 0.7), surfaces.iv[:, 2])
    with pytest.raises(ValueError, match=r"iv has shape \(2, 4\); expected \(surface, 4, 7\)"):
        Surfaces(np.zeros((2, 4)), grid)
    with pytest.raises(ValueError, match="allowed: one axis"):
        surfaces.at(np.zeros((2, 2)), 0.5)
