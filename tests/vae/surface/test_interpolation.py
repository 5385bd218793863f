import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

from vae.surface.grid import Grid
from vae.surface.interpolation import Spline, convert, smiles, total_variance

TENORS = np.array([30, 91, 182, 365]) / 365
SOURCE = Grid(TENORS, np.linspace(-0.5, 0.5, 21))


def svi(k: np.ndarray, tenor: np.ndarray) -> np.ndarray:
    """A smooth total variance without arbitrage, linear in the tenor at equal k."""
    return tenor * (0.02 + 0.1 * (-0.4 * (k + 0.05) + np.sqrt((k + 0.05) ** 2 + 0.2**2)))


def surface(grid: Grid) -> np.ndarray:
    tenors = grid.tenors[:, None]
    return np.sqrt(svi(grid.log_moneyness, tenors) / tenors)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_splines_are_scipys(knots: int, seed: int) -> None:
    """Values and both derivatives, a batch of knots and of values at once."""
    random = np.random.default_rng(seed)
    x = np.cumsum(random.uniform(0.1, 1.0, (3, knots)), axis=-1)
    y = random.standard_normal((2, 3, knots))
    points = x[:, :1] + (x[:, -1:] - x[:, :1]) * random.uniform(size=(3, 7))

    ours = Spline.through(x, y).at(points)

    for row in range(3):
        theirs = CubicSpline(x[row], y[:, row], axis=-1, bc_type="not-a-knot")
        for order, part in enumerate(ours):
            scale = np.abs(y).max() / np.diff(x).min() ** order
            np.testing.assert_allclose(part[:, row], theirs(points[row], order), rtol=0.0, atol=1e-9 * scale)


def test_nothing_is_read_outside_the_knots() -> None:
    spline = Spline.through(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0]))
    missing = np.isnan(spline.at(np.array([-0.1, 0.0, 2.0, 2.1])).value)
    np.testing.assert_array_equal(missing, [True, False, False, True])


@pytest.mark.parametrize("tenor", [30 / 365, 0.3, 0.75, 1.0])
def test_total_variance_between_the_points(tenor: float) -> None:
    k = np.linspace(-0.13, 0.13, 9)
    read = total_variance(smiles(surface(SOURCE), SOURCE), TENORS, tenor, k)
    np.testing.assert_allclose(read, svi(k, np.array(tenor)), rtol=3e-5)


@pytest.mark.parametrize("tenor", [0.01, 1.5])
def test_total_variance_outside_the_tenors_is_missing(tenor: float) -> None:
    assert np.isnan(total_variance(smiles(surface(SOURCE), SOURCE), TENORS, tenor, np.zeros(1))).all()


def test_converts_between_all_conventions() -> None:
    """There and back again, and the deltas are deltas."""
    deltas = Grid(TENORS, np.array([0.1, 0.25, 0.5, 0.75, 0.9]), "delta")
    wide = surface(SOURCE) * np.array([1.0, 1.02])[:, None, None]
    by_delta = convert(wide, SOURCE, deltas)
    total_vol = by_delta * np.sqrt(TENORS)[:, None]
    k = deltas.log_moneyness_of(by_delta)
    delta = ndtr(-k / total_vol + 0.5 * total_vol)
    np.testing.assert_allclose(delta, np.broadcast_to(deltas.nodes, k.shape), rtol=1e-12)
    np.testing.assert_allclose(by_delta[0], np.sqrt(svi(k[0], TENORS[:, None]) / TENORS[:, None]), rtol=2e-5)

    narrow = Grid(TENORS, np.linspace(-0.03, 0.03, 5), "log_moneyness")
    np.testing.assert_allclose(convert(by_delta, deltas, narrow)[0], surface(narrow), rtol=2e-2)
    np.testing.assert_allclose(convert(wide, SOURCE, narrow)[0], surface(narrow), rtol=2e-5)
    np.testing.assert_array_equal(convert(wide, SOURCE, SOURCE), np.sqrt(wide**2 * TENORS[:, None] / TENORS[:, None]))


def test_points_beyond_the_source_are_missing_not_filled() -> None:
    wider = Grid(TENORS, np.linspace(-0.6, 0.6, 7))
    missing = np.isnan(convert(surface(SOURCE), SOURCE, wider))
    np.testing.assert_array_equal(missing, [[True, *[False] * 5, True]] * len(TENORS))
    far = Grid(TENORS, np.array([0.001, 0.5]), "delta")
    np.testing.assert_array_equal(np.isnan(convert(surface(SOURCE), SOURCE, far)), [[True, False]] * len(TENORS))
