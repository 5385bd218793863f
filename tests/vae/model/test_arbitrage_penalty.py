import numpy as np
import pytest
import torch

from vae.model.arbitrage_penalty import ArbitragePenalty
from vae.pricing import heston_surfaces
from vae.surface import arbitrage
from vae.surface.grid import Grid

GRID = Grid(np.array([0.1, 0.3, 0.6, 1.0]), np.linspace(-0.4, 0.4, 9))


def flat(vol: float = 0.2) -> torch.Tensor:
    return torch.full((1, *GRID.shape), vol)


def test_heston_surfaces_cost_nothing() -> None:
    theta = torch.tensor([[0.04, 2.0, 0.06, 0.5, -0.5], [0.09, 1.0, 0.02, 0.8, -0.8]], dtype=torch.float64)
    iv = heston_surfaces.surfaces(theta, GRID).vol.float()
    assert torch.equal(ArbitragePenalty(GRID)(iv), torch.zeros(2))


def test_a_calendar_spread_costs_what_it_earns() -> None:
    """Flat smiles of falling total variance: the worst spread is where it is measured."""
    iv = flat()
    iv[0, 1] = 0.2 * np.sqrt(0.1 / 0.3) - 0.01
    found = arbitrage.violations(iv.numpy(), GRID)
    assert found.largest("calendar")[0] > 1e-3
    penalty = ArbitragePenalty(GRID)(iv).item()
    assert penalty == pytest.approx(found.largest("calendar")[0] - 2e-7, rel=1e-3)


def test_a_butterfly_costs_at_least_what_it_earns() -> None:
    """A bump at one node; the spreads of all widths are added up."""
    iv = flat()
    iv[0, 3, 4] = 0.26
    found = arbitrage.violations(iv.numpy(), GRID)
    assert ArbitragePenalty(GRID)(iv).item() >= found.largest("butterfly")[0] > 1e-4


def test_vols_that_are_not_positive_cost_and_have_a_slope() -> None:
    iv = flat().requires_grad_()
    with torch.no_grad():
        iv[0, 0, 0] = -0.05
    penalty = ArbitragePenalty(GRID)(iv)
    penalty.sum().backward()
    assert penalty.item() >= 0.05
    assert torch.isfinite(iv.grad).all()
    assert iv.grad[0, 0, 0] < 0.0


@pytest.mark.slow
def test_descent_removes_arbitrage() -> None:
    iv = flat().repeat(8, 1, 1)
    iv += 0.02 * torch.randn(iv.shape, generator=torch.Generator().manual_seed(1))
    iv.requires_grad_()
    measure, optimizer = ArbitragePenalty(GRID), torch.optim.Adam([iv], lr=1e-3)
    before = arbitrage.violations(iv.detach().numpy(), GRID)
    for _ in range(400):
        optimizer.zero_grad()
        measure(iv).sum().backward()
        optimizer.step()
    after = arbitrage.violations(iv.detach().numpy(), GRID)
    for kind in ("calendar", "butterfly"):
        assert after.largest(kind).max() < 0.1 * before.largest(kind).max()


def test_surfaces_are_free_within_1e_6_of_the_forward() -> None:
    """By the measure of reports; between the two tolerances either answer is right."""
    random = np.random.default_rng(2)
    k, tenors = GRID.log_moneyness, GRID.tenors[:, None]
    size = np.exp(random.uniform(-12.0, -3.0, (400, 1, 1)))
    iv = 0.2 - 0.05 * k + 0.1 * k**2 / np.sqrt(tenors) + size * random.standard_normal((400, *GRID.shape))
    free = ArbitragePenalty(GRID).free(torch.from_numpy(iv).float()).numpy()
    profit = arbitrage.violations(iv, GRID).profit
    assert (profit[free] <= 1e-6).all()
    assert free[profit <= 5e-7].all()
    assert 0.2 < free.mean() < 0.8
    iv[0, 0, 0] = -0.2
    assert not ArbitragePenalty(GRID).free(torch.from_numpy(iv[:1]).float())[0]


def test_a_grid_in_deltas_is_refused() -> None:
    with pytest.raises(ValueError, match="grids in deltas have none"):
        ArbitragePenalty(Grid(np.array([0.5, 1.0]), np.array([0.25, 0.5, 0.75]), "delta"))
