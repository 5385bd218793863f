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


ROUGH = Grid([0.1, 0.2, 0.4, 0.5, 1.0], np.linspace(-0.4, 0.4, 5))
STEEP = np.array([0.01, 0.04, 0.0401, 0.08, 0.2])  # total variance, which hardly rises from 0.2 to 0.4 years


@given(st.floats(-0.02, 0.02), st.floats(0.0, 0.1), st.floats(0.0, 1.0), st.floats(-1.0, 1.0))
def test_a_line_goes_on_beyond_the_end_of_the_shorter_smile(
    slope: float, curvature: float, share: float, place: float
) -> None:
    """Where the rise of total variance is the same at all strikes, the surface is known there too."""

    def smile(k: np.ndarray) -> np.ndarray:
        return slope * k + curvature * k**2

    iv = np.sqrt((STEEP[:, None] + smile(ROUGH.log_moneyness)) / ROUGH.tenors[:, None])
    tenor = 0.2 + 0.2 * share
    k = np.array([place * 0.4 * np.sqrt(tenor) * (1.0 - 1e-12)])
    found = Interpolation(iv, ROUGH).total_variance(tenor, k)
    np.testing.assert_allclose(found, 0.04 + 0.0001 * share + smile(k), rtol=1e-11)


@st.composite
def rough_surfaces(draw: st.DrawFn) -> tuple[Grid, np.ndarray]:
    """Two surfaces of one kind of grid, whose total variance at the money rises by wild steps."""
    convention = draw(st.sampled_from(["sqrt_time", "log_moneyness", "delta"]))
    nodes = np.linspace(0.1, 0.9, 5) if convention == "delta" else np.linspace(-0.4, 0.4, 5)
    grid = Grid([0.1, 0.25, 0.7, 1.0], nodes, convention)
    rises = draw(arrays(np.float64, (2, 4), elements=st.floats(0.0, 0.1)))
    tilt = draw(arrays(np.float64, (2, 4, 1), elements=st.floats(-0.1, 0.1)))
    money = np.sqrt((0.01 + rises.cumsum(-1)) / grid.tenors)
    return grid, money[..., None] * (1.0 + tilt * np.linspace(-1.0, 1.0, 5))


@pytest.mark.slow
@given(rough_surfaces(), st.integers(0, 2), st.floats(0.05, 0.95))
def test_vols_have_no_gap_along_a_smile(rough: tuple[Grid, np.ndarray], interval: int, share: float) -> None:
    """At the ends of the smiles before and after it, where the rule may not change."""
    grid, iv = rough
    tenors, surfaces = grid.tenors[interval : interval + 2], Interpolation(iv, grid)
    for end in tenors.tolist():
        ends = surfaces.smile(end)[0][..., [0, -1]]
        tenor = tenors[0] + share * (tenors[1] - tenors[0])
        before, after = (
            np.sqrt(surfaces.total_variance(tenor, np.broadcast_to(ends * factor, (2, 2))) / tenor)
            for factor in (1.0 - 1e-10, 1.0 + 1e-10)
        )
        known = np.isfinite(before) & np.isfinite(after)
        np.testing.assert_allclose(after[known], before[known], rtol=0.0, atol=1e-7)


@pytest.mark.slow
@given(rough_surfaces(), st.integers(0, 2), st.floats(-1.0, 1.0))
def test_vols_have_no_gap_along_the_tenors(rough: tuple[Grid, np.ndarray], interval: int, place: float) -> None:
    """Just before a tenor of the grid total variance is what it is there, out to both ends of the smile."""
    grid, iv = rough
    surfaces, tenor = Interpolation(iv, grid), float(grid.tenors[interval + 1])
    low, high = np.moveaxis(np.broadcast_to(surfaces.smile(tenor)[0], (2, 5))[..., [0, -1]], -1, 0)
    k = (0.5 * (low + high) + 0.5 * place * (1.0 - 1e-6) * (high - low))[:, None]
    before, there = (surfaces.total_variance(tenor - gap, k) for gap in (1e-9, 0.0))
    np.testing.assert_allclose(before, there, rtol=0.0, atol=1e-6)


def test_a_smooth_surface_is_read_as_if_no_rough_one_were_beside_it() -> None:
    smooth = 0.2 + 0.05 * np.sqrt(ROUGH.tenors)[:, None] - 0.1 * ROUGH.nodes
    rough = np.repeat(np.sqrt(STEEP / ROUGH.tenors)[:, None], 5, axis=1)
    k = np.linspace(-0.4, 0.4, 41) * np.sqrt(0.3)
    both = Surfaces(np.stack((rough, smooth)), ROUGH).at(k, 0.3)
    np.testing.assert_allclose(both[1:], Surfaces(smooth[None], ROUGH).at(k, 0.3), rtol=1e-14)


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
