import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from vae.surface.spline import Spline, interpolation_matrices


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


def test_interpolation_matrices_are_the_spline_as_a_linear_map() -> None:
    random = np.random.default_rng(1)
    x, y = np.cumsum(random.uniform(0.1, 1.0, 7)), random.standard_normal(7)
    points = np.linspace(x[0], x[-1], 20)
    for matrix, expected in zip(interpolation_matrices(x, points), Spline.through(x, y).at(points), strict=True):
        np.testing.assert_allclose(matrix @ y, expected, rtol=1e-9, atol=1e-9)
