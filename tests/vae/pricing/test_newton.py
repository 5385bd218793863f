import numpy as np

from vae.pricing import newton


def test_roots_of_a_batch_of_systems() -> None:
    """Circles cut by lines y = x + c, from a start that overshoots; the last line misses its circle."""
    radius, shift = np.array([1.0, 2.0, 5.0, 1.0]), np.array([0.0, 0.5, -1.0, 9.0])

    def error_of(xy: newton.Array, row: newton.Index) -> newton.Array:
        x, y = xy.T
        return np.stack((x**2 + y**2 - radius[row] ** 2, y - x - shift[row]), axis=1)

    x, y = newton.roots(error_of, np.full((4, 2), 0.1), tolerance=1e-12).T

    expected = (-shift + np.sqrt(2.0 * radius**2 - np.where(shift == 9.0, np.nan, shift) ** 2)) / 2.0
    np.testing.assert_allclose(x, expected, rtol=1e-12)
    np.testing.assert_allclose(y, expected + shift, rtol=1e-12)


def test_long_steps_are_halved() -> None:
    """Newton's own steps for arctan run away from a start beyond 1.39."""
    root = newton.roots(lambda x, _: np.arctan(x), np.array([[3.0]]), tolerance=1e-14)
    np.testing.assert_allclose(root, 0.0, atol=1e-14)


def test_a_start_without_sense_is_nan() -> None:
    assert np.isnan(newton.roots(lambda x, _: np.full_like(x, np.nan), np.ones((1, 1)), tolerance=1e-9)).all()
