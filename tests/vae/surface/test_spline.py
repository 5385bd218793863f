from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from vae.surface.spline import Spline, cubic_weights, interpolation_matrices, read


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


@pytest.mark.parametrize("knots", [2, 3, 7])
def test_local_cubics_have_the_slopes_of_parabolas(knots: int) -> None:
    random = np.random.default_rng(knots)
    x, y = np.cumsum(random.uniform(0.1, 1.0, knots)), random.standard_normal((3, knots))
    slope = np.empty_like(y)
    for i in range(knots):
        near = slice(max(min(i - 1, knots - 3), 0), max(min(i - 1, knots - 3), 0) + 3)
        for row in range(3):
            fit = np.polynomial.Polynomial.fit(x[near], y[row, near], min(2, knots - 1))
            slope[row, i] = fit.deriv()(x[i])
    points = np.linspace(x[0], x[-1], 20)
    expected = CubicHermiteSpline(x, y, slope, axis=-1)(points)
    np.testing.assert_allclose(Spline.local(np.broadcast_to(x, y.shape), y).at(points).value, expected, atol=1e-12)


@pytest.mark.parametrize("curve", [Spline.through, Spline.local])
def test_curves_are_linear_maps(curve: Callable[[np.ndarray, np.ndarray], Spline]) -> None:
    random = np.random.default_rng(1)
    x, y = np.cumsum(random.uniform(0.1, 1.0, 7)), random.standard_normal(7)
    points = np.linspace(x[0], x[-1], 20)
    expected = curve(x, y).at(points)
    for matrix, part in zip(interpolation_matrices(x, points, curve), expected, strict=True):
        np.testing.assert_allclose(matrix @ y, part, rtol=1e-9, atol=1e-9)

    left = np.clip(np.searchsorted(x, points, side="right") - 1, 0, 5)
    powers = (points - x[left])[:, None] ** np.arange(4)
    found = np.einsum("pc,pck,k->p", powers, cubic_weights(x, curve)[left], y)
    np.testing.assert_allclose(found, expected.value, rtol=1e-9, atol=1e-9)


_SHAPES = [
    ((5,), (7, 5), (4,)),
    ((3, 5), (7, 3, 5), (3, 4)),
    ((3, 5), (7, 3, 5), (1, 4)),
    ((5,), (7, 5), (7, 4)),
    ((7, 5), (7, 5), (7, 4)),
]


@pytest.mark.parametrize(("x", "y", "points"), _SHAPES)
def test_curves_are_read_as_one_by_one(x: tuple[int, ...], y: tuple[int, ...], points: tuple[int, ...]) -> None:
    """On knots that a batch shares, by a product of matrices, or on knots of their own."""
    rng = np.random.default_rng(2)
    knots, values, places = rng.uniform(size=x).cumsum(-1), rng.standard_normal(y), rng.uniform(0.0, 3.0, points)
    found = read(knots, values, places)
    assert found.shape == (*y[:-1], 4)
    assert 0.1 < np.isnan(found).mean() < 0.9
    every = np.broadcast_to(knots, y), np.broadcast_to(places, found.shape)
    for place in np.ndindex(y[:-1]):
        one = Spline.through(every[0][place], values[place]).at(every[1][place]).value
        np.testing.assert_allclose(found[place], one, rtol=1e-9, atol=1e-12)
