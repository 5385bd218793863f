import numpy as np
import pytest

from vae.surface.grid import Grid
from vae.surface.smile_features import FEATURES, functionals

TENORS = np.array([0.25, 0.5, 1.0])


@pytest.mark.parametrize("convention", ["log_moneyness", "sqrt_time"])
def test_features_of_a_cubic_smile_are_exact(convention: str) -> None:
    """vol = 0.2 + 0.1 tenor - 0.3 k + 0.5 k^2 + k^3: splines reproduce cubics; no node lies at the money."""
    grid = Grid(TENORS, np.linspace(-0.5, 0.4, 8), convention)  # type: ignore[arg-type]
    k = grid.log_moneyness
    iv = 0.2 + 0.1 * TENORS[:, None] - 0.3 * k + 0.5 * k**2 + k**3
    read = np.einsum("ftn,tn->f", functionals(FEATURES, grid), iv)
    np.testing.assert_allclose(read, [0.25, -0.3, 0.075], rtol=1e-10)


def test_features_of_a_grid_in_deltas() -> None:
    grid = Grid(TENORS, np.array([0.1, 0.25, 0.5, 0.75, 0.9]), "delta")
    iv = np.array([[0.20, 0.18, 0.15, 0.19, 0.25]] * 3) + TENORS[:, None] / 10
    read = np.einsum("ftn,tn->f", functionals(FEATURES, grid), iv)
    np.testing.assert_allclose(read, [0.20, 0.01, 0.075], atol=1e-12)


def test_an_unknown_feature_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="'vix' is not a feature; allowed: atm_level, skew, term_slope"):
        functionals(("vix",), Grid(TENORS, np.linspace(-0.1, 0.1, 5)))


def test_nodes_that_miss_the_money_are_refused() -> None:
    with pytest.raises(ValueError, match=r"atm_level is beyond the nodes of the grid, 0\.1 to 0\.3"):
        functionals(("atm_level",), Grid(TENORS, np.linspace(0.1, 0.3, 5)))
