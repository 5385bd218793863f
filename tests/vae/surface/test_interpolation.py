"""Reading surfaces between their points: against exact Heston vols, and what it may never do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.vae.surface.exact_surfaces import heston
from vae.surface.grid import Grid
from vae.surface.interpolation import Interpolation
from vae.surface.surfaces import Surfaces

BP = 1e-4
DAYS = np.array([6, 12, 18, 26, 52, 78, 104, 130, 182, 260, 364])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("convention", "nodes", "bp"),
    [
        ("sqrt_time", np.linspace(-0.5, 0.4, 41), 1.0),
        ("delta", np.linspace(0.1, 0.9, 17), 1.5),
    ],
)
def test_exact_vols_between_tenors_are_met(convention: str, nodes: np.ndarray, bp: float) -> None:
    """Linear total variance, which is free of arbitrage too, misses these by up to 20 bp."""
    iv, grid = heston(DAYS, nodes, convention)
    middle, between = heston(0.5 * (DAYS[1:5] + DAYS[:4]), nodes, convention)
    for surface, expected, k in zip(
        iv, middle, np.broadcast_to(between.log_moneyness_of(middle), middle.shape), strict=True
    ):
        for tenor, smile, place in zip(between.tenors, expected, k, strict=True):
            inner = place[(place > place.min()) & (place < place.max())]
            found = Surfaces(surface[None], grid).at(inner, tenor)[0]
            np.testing.assert_allclose(found, smile[1:-1], rtol=0.0, atol=bp * BP)


def test_a_term_structure_in_the_coordinate_is_read_exactly() -> None:
    """Variance that is quadratic in s / (1 + s), s = sqrt(tenor), at each node."""
    grid = Grid([0.1, 0.25, 0.7, 1.0], np.linspace(-0.4, 0.3, 7))

    def vols(tenor: np.ndarray) -> np.ndarray:
        place = np.sqrt(tenor)[:, None] / (1.0 + np.sqrt(tenor)[:, None])
        return np.sqrt(0.04 + 0.05 * place - 0.03 * place**2 + 0.02 * grid.nodes**2)

    for tenor in (0.12, 0.5, 0.99):
        found = Surfaces(vols(grid.tenors)[None], grid).at(grid.nodes * np.sqrt(tenor), tenor)
        np.testing.assert_allclose(found, vols(np.array([tenor])), rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (4, 5), elements=st.floats(0.0, 1.0)), st.integers(0, 2))
def test_reading_adds_no_calendar_arbitrage(rises: np.ndarray, interval: int) -> None:
    """However wild the term structure, total variance rises from one strike's tenor to the next."""
    grid = Grid([0.1, 0.25, 0.7, 1.0], np.linspace(-0.4, 0.4, 5), "log_moneyness")
    iv = np.sqrt((0.01 + rises.cumsum(0)) / grid.tenors[:, None])
    tenors = np.linspace(grid.tenors[interval], grid.tenors[interval + 1], 9)
    read = np.stack([Interpolation(iv, grid).total_variance(float(tenor), grid.nodes) for tenor in tenors])
    assert (np.diff(read, axis=0) >= -1e-11).all()


def test_a_rough_term_structure_is_read_on_lines_of_total_variance() -> None:
    """Total variance that hardly rises between two steep parts; the smooth surface beside it is read by cubics."""
    grid = Grid([0.1, 0.2, 0.4, 0.5, 1.0], np.linspace(-0.2, 0.2, 5))
    rough = np.sqrt(np.array([0.01, 0.04, 0.0401, 0.08, 0.2]) / grid.tenors)
    smooth = 0.2 + 0.05 * np.sqrt(grid.tenors)
    found = Surfaces(np.repeat(np.stack((rough, smooth))[..., None], 5, axis=2), grid).at(0.0, 0.3)[:, 0]
    np.testing.assert_allclose(found[0] ** 2 * 0.3, 0.04005, rtol=1e-12)
    assert abs(found[1] - (0.2 + 0.05 * np.sqrt(0.3))) < 2e-6


def test_a_missing_vol_matters_where_it_is_read_only() -> None:
    grid = Grid([0.1, 0.2, 0.4, 0.7, 1.0], np.linspace(-0.4, 0.4, 5))
    iv = np.full((1, *grid.shape), 0.2)
    iv[0, 0, 0] = np.nan
    found = Surfaces(iv, grid).at(0.0, [0.1, 0.2, 0.3, 0.5, 1.0])[0]
    np.testing.assert_array_equal(np.isnan(found), [True, False, True, False, False])


@pytest.mark.parametrize("tenor", [0.01, 1.5])
def test_total_variance_outside_the_tenors_is_missing(tenor: float) -> None:
    grid = Grid([0.1, 0.5, 1.0], [-0.2, 0.0, 0.2])
    assert np.isnan(Interpolation(np.full((2, 3, 3), 0.2), grid).total_variance(tenor, np.zeros(1))).all()
