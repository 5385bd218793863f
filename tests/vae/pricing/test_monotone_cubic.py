import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from vae.pricing.monotone_cubic import MonotoneCubics

curve = st.lists(st.tuples(st.floats(0.01, 3.0), st.integers(-3, 3)), min_size=2, max_size=9)


@given(st.lists(curve, min_size=1, max_size=5))
def test_curves_are_scipys(curves: list[list[tuple[float, int]]]) -> None:
    """Of any number of points, rising, falling, flat and turning."""
    x = [np.cumsum([step for step, _ in points]) for points in curves]
    y = [np.array([float(height) for _, height in points]) for points in curves]
    at = np.linspace(0.0, 30.0, 301)
    expected = [PchipInterpolator(*points, extrapolate=False)(at) for points in zip(x, y, strict=True)]
    np.testing.assert_allclose(MonotoneCubics(x, y).at(at, within=0.0), expected, rtol=1e-9, atol=1e-9)
