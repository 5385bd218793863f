import json

import numpy as np
import pytest

from vae.grid import Grid


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
        ([0.5, 1.0], [-1, 1], "strike", "convention is 'strike'; allowed: log_moneyness, sqrt_time"),
    ],
)
def test_refuses_what_makes_no_sense(tenors: list, nodes: list, convention: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(tenors, nodes, convention)
