import numpy as np
import pytest
import torch

from vae import arbitrage, heston
from vae.grid import Grid

GRID = Grid(np.array([0.25, 0.5, 1.0]), np.linspace(-0.4, 0.4, 17))
FLAT = Grid(np.array([0.25, 0.5, 1.0]), np.linspace(-0.4, 0.4, 17), "log_moneyness")


def surface(grid: Grid, vol: float = 0.2) -> np.ndarray:
    return np.full((1, *grid.shape), vol)


@pytest.mark.parametrize("grid", [GRID, FLAT])
def test_black_scholes_is_free_of_arbitrage(grid: Grid) -> None:
    assert arbitrage.violations(surface(grid), grid).largest == 0.0


def test_heston_is_free_of_arbitrage() -> None:
    design = torch.quasirandom.SobolEngine(5, scramble=True, seed=1).draw(64, dtype=torch.float64)
    low = torch.tensor([0.01, 0.5, 0.01, 0.1, -0.9], dtype=torch.float64)
    high = torch.tensor([0.16, 5.0, 0.16, 1.0, 0.0], dtype=torch.float64)
    iv = heston.surfaces(low + (high - low) * design, GRID).vol.numpy()

    assert arbitrage.free_rate(iv, GRID, tolerance=1e-6) == 1.0


@pytest.mark.parametrize("grid", [GRID, FLAT])
def test_total_variance_that_falls_is_a_calendar_arbitrage(grid: Grid) -> None:
    """Its size is the difference of the two call prices at the money."""
    iv = surface(grid)
    iv[0, 1] = 0.1  # total variance 0.005 at half a year, 0.01 before
    found = arbitrage.violations(iv, grid)

    at = np.array(0.0)
    expected = arbitrage.call_price(np.array(0.01), at) - arbitrage.call_price(np.array(0.005), at)
    assert found.calendar[0] == pytest.approx(expected, rel=1e-6)


def test_a_dent_in_the_smile_is_a_butterfly_arbitrage() -> None:
    iv = surface(FLAT)
    iv[0, 1, 8] += 0.02
    found = arbitrage.violations(iv, FLAT)
    assert found.butterfly[0] > 1e-3
    assert found.vertical[0] == 0.0


def test_a_call_that_rises_with_the_strike_is_a_vertical_arbitrage() -> None:
    iv = surface(FLAT)
    iv[0, 0, 9:] = 0.6
    assert arbitrage.violations(iv, FLAT).vertical[0] > 1e-2


@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan])
def test_a_vol_that_is_not_positive_counts(bad: float) -> None:
    iv = np.concatenate([surface(GRID), surface(GRID)])
    iv[1, 2, 3] = bad
    assert arbitrage.free_rate(iv, GRID, tolerance=1e-6) == 0.5
