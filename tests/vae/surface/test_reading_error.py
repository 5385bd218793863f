"""The learned error of reading between points against the true one, and where nothing can be learned."""

import numpy as np
import pytest

from tests.vae.surface.exact_surfaces import heston
from vae.surface.grid import Grid
from vae.surface.reading_error import reading_error
from vae.surface.spline import interpolation_matrices
from vae.surface.term_structure import coordinate, tenor_weights

DAYS = np.array([6, 12, 18, 26, 52, 78, 104, 130, 182, 260, 364])


def scale(error: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    return np.quantile(np.abs(error), 0.9, axis=axis) / 1.645


def test_the_error_between_tenors_is_that_of_exact_surfaces() -> None:
    """Learned from the grid alone, it is within a factor of three of the truth wherever that matters."""
    nodes = np.linspace(-0.5, 0.4, 21)
    iv, grid = heston(DAYS, nodes)
    place = coordinate(grid.tenors)
    middle = 0.5 * (place[1:] + place[:-1])
    tenors = (middle / (1.0 - middle)) ** 2
    exact, _ = heston(365 * tenors, nodes)
    read = np.sqrt(np.einsum("pt,stn->spn", tenor_weights(grid.tenors, tenors), iv**2))
    true = scale(read - exact, (0, 2))
    learned = np.sqrt(np.mean(reading_error(iv, grid).tenor ** 2, axis=1))
    matters = true > 1e-6
    assert matters.sum() >= 5
    assert (np.abs(np.log(learned / true))[matters] < np.log(3.0)).all()


@pytest.mark.slow
def test_the_error_between_deltas_is_that_of_exact_surfaces() -> None:
    deltas = np.linspace(0.1, 0.9, 9)
    iv, grid = heston(DAYS[::4], deltas, "delta")
    middle = 0.5 * (deltas[1:] + deltas[:-1])
    exact, _ = heston(DAYS[::4], middle, "delta")
    true = scale(np.sqrt(iv**2 @ interpolation_matrices(deltas, middle).value.T) - exact, (0, 1))
    learned = np.sqrt(np.mean(reading_error(iv, grid).node ** 2, axis=0))
    assert np.median(np.abs(np.log(learned / true))) < np.log(3.0)


def test_surfaces_that_are_read_exactly_have_no_error() -> None:
    """Variance is a parabola in the coordinate of the tenor and a cubic along the nodes."""
    grid = Grid(np.array([0.05, 0.1, 0.3, 0.6, 1.0]), np.linspace(-0.4, 0.4, 7))
    place = coordinate(grid.tenors)[:, None]
    iv = np.sqrt(0.04 + 0.05 * place - 0.03 * place**2 + 0.1 * grid.nodes**2 - 0.05 * grid.nodes**3)[None]
    for part in reading_error(iv, grid):
        np.testing.assert_allclose(part, 0.0, atol=1e-14)


def test_rough_term_structures_are_read_with_the_error_of_a_random_walk() -> None:
    """There the error falls with the square root of the gap only, not with its third power."""
    random = np.random.default_rng(1)
    grid = Grid((np.linspace(0.2, 0.5, 13) / (1.0 - np.linspace(0.2, 0.5, 13))) ** 2, [-0.1, 0.0, 0.1])
    fine = 0.2 + 0.002 * np.cumsum(random.standard_normal((4000, 25)), axis=1)
    iv = np.repeat(fine[:, ::2, None], 3, axis=2)
    tenors = (np.linspace(0.2, 0.5, 25) / (1.0 - np.linspace(0.2, 0.5, 25)))[1::2] ** 2
    read = np.sqrt(fine[:, ::2] ** 2 @ tenor_weights(grid.tenors, tenors).T)
    true = scale(read - fine[:, 1::2], 0)
    np.testing.assert_allclose(reading_error(iv, grid).tenor[:, 0], true, rtol=0.25)


@pytest.mark.filterwarnings("error")
def test_missing_points_are_left_out() -> None:
    iv, grid = heston(DAYS[::2], np.linspace(-0.3, 0.3, 7))
    complete, holed = reading_error(iv, grid), iv.copy()
    holed[0, 2, 3], holed[:, :, 6] = np.nan, np.nan
    for part, whole in zip(reading_error(holed, grid), complete, strict=True):
        assert np.isfinite(part).all()
        assert part.shape == whole.shape
        np.testing.assert_array_less(part, 10.0 * whole.max())


def test_between_two_points_the_error_is_that_of_a_random_walk() -> None:
    """A bridge between two points whose difference has the deviation d has the deviation d / 2 in the middle."""
    step = 0.01 * np.random.default_rng(1).standard_normal((20_000, 1, 1))
    iv = 0.5 + step * np.array([[0.0, 0.0], [1.0, 1.0]])
    found = reading_error(iv, Grid([0.1, 1.0], [-0.1, 0.1]))
    np.testing.assert_allclose(found.tenor, 0.005, rtol=0.03)
    np.testing.assert_array_equal(found.node, 0.0)
