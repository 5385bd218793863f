import numpy as np
import pytest

from vae.surface.grid import Grid
from vae.surface.interpolation import smiles, total_variance

TENORS = np.array([30, 91, 182, 365]) / 365
SOURCE = Grid(TENORS, np.linspace(-0.5, 0.5, 21))


def svi(k: np.ndarray, tenor: np.ndarray) -> np.ndarray:
    """A smooth total variance without arbitrage, linear in the tenor at equal k."""
    return tenor * (0.02 + 0.1 * (-0.4 * (k + 0.05) + np.sqrt((k + 0.05) ** 2 + 0.2**2)))


def surface(grid: Grid) -> np.ndarray:
    tenors = grid.tenors[:, None]
    return np.sqrt(svi(grid.log_moneyness, tenors) / tenors)


@pytest.mark.parametrize("tenor", [30 / 365, 0.3, 0.75, 1.0])
def test_total_variance_between_the_points(tenor: float) -> None:
    k = np.linspace(-0.13, 0.13, 9)
    read = total_variance(smiles(surface(SOURCE), SOURCE), TENORS, tenor, k)
    np.testing.assert_allclose(read, svi(k, np.array(tenor)), rtol=3e-5)


@pytest.mark.parametrize("tenor", [0.01, 1.5])
def test_total_variance_outside_the_tenors_is_missing(tenor: float) -> None:
    assert np.isnan(total_variance(smiles(surface(SOURCE), SOURCE), TENORS, tenor, np.zeros(1))).all()
