import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from vae.surface.grid import Grid, log_moneyness_of_delta


def test_sqrt_time_widens_with_the_tenor() -> None:
    grid = Grid([0.25, 1.0], [-0.4, 0.0, 0.2])
    np.testing.assert_allclose(grid.log_moneyness, [[-0.2, 0.0, 0.1], [-0.4, 0.0, 0.2]])
    assert grid.shape == (2, 3)


def test_log_moneyness_is_the_same_at_each_tenor() -> None:
    grid = Grid([0.25, 1.0], [-0.4, 0.0, 0.2], "log_moneyness")
    np.testing.assert_array_equal(grid.log_moneyness, [[-0.4, 0.0, 0.2]] * 2)


def test_survives_json() -> None:
    grid = Grid(np.array([6, 12, 364]) / 365, np.linspace(-0.5, 0.4, 41))
    copy = Grid.from_dict(json.loads(json.dumps(grid.to_dict())))
    np.testing.assert_array_equal(copy.tenors, grid.tenors)
    np.testing.assert_array_equal(copy.nodes, grid.nodes)
    assert copy.convention == grid.convention


def test_cannot_be_changed() -> None:
    grid = Grid([0.25, 1.0], [-0.4, 0.2])
    with pytest.raises(ValueError, match="read-only"):
        grid.tenors[0] = 2.0


@pytest.mark.parametrize(
    ("tenors", "nodes", "convention", "message"),
    [
        ([0.0, 1.0], [-1, 1], "sqrt_time", "tenors must be positive"),
        ([1.0, 0.5], [-1, 1], "sqrt_time", "tenors must be finite and increasing"),
        ([0.5, 1.0], [1, 1], "sqrt_time", "nodes must be finite and increasing"),
        ([0.5, 1.0], [1, np.nan], "sqrt_time", "nodes must be finite and increasing"),
        ([0.5], [-1, 1], "sqrt_time", "tenors must be a list of at least 2 numbers"),
        ([0.5, 1.0], [-1, 1], "strike", "convention is 'strike'; allowed: log_moneyness, sqrt_time, delta"),
    ],
)
def test_refuses_what_makes_no_sense(tenors: list, nodes: list, convention: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(tenors, nodes, convention)


def test_deltas_know_their_log_moneyness_from_the_vols() -> None:
    """N(d1) of the point found is the node; calls of high delta have low strikes."""
    grid = Grid([0.25, 1.0], [0.1, 0.5, 0.9], "delta")
    iv = np.array([[0.2, 0.18, 0.22], [0.3, 0.25, 0.28]])
    s = iv * np.sqrt(grid.tenors)[:, None]
    k = grid.log_moneyness_of(iv)
    np.testing.assert_allclose(norm.cdf(-k / s + s / 2), [[0.1, 0.5, 0.9]] * 2, rtol=1e-12)
    assert (np.diff(k) < 0.0).all()
    with pytest.raises(ValueError, match="depends on the vols"):
        _ = grid.log_moneyness


def test_deltas_lie_between_0_and_1() -> None:
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        Grid([0.25, 1.0], [0.1, 1.0], "delta")


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 2.0))
def test_deltas_have_the_log_moneyness_of_their_definition(delta: float, total_vol: float) -> None:
    k = log_moneyness_of_delta(np.array([delta]), np.array([total_vol]))[0]
    assert norm.cdf(-k / total_vol + total_vol / 2) == pytest.approx(delta, abs=1e-12)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.5])
def test_a_delta_outside_0_and_1_has_no_log_moneyness(delta: float) -> None:
    with pytest.raises(ValueError, match="must be in the range"):
        log_moneyness_of_delta(np.array([0.5, delta]), np.array([0.2, 0.2]))
