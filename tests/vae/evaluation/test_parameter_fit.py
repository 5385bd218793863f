"""Parameters found again, inside the box of the data and outside."""

import pytest
import torch
from torch import Tensor

from vae.evaluation.parameter_fit import fitted
from vae.pricing import heston_surfaces
from vae.surface.grid import Grid

GRID = Grid([26 / 365, 182 / 365, 364 / 365], [-0.4, -0.2, 0.0, 0.15, 0.3])
LOW = torch.tensor([0.01, 0.5, 0.01, 0.1, -0.9], dtype=torch.float64)
HIGH = torch.tensor([0.16, 5.0, 0.16, 1.0, 0.0], dtype=torch.float64)


def heston(parameters: Tensor) -> Tensor:
    return heston_surfaces.surfaces(parameters, GRID).vol.flatten(1)


def test_heston_parameters_are_found_from_the_middle_of_the_box() -> None:
    truth = torch.tensor(
        [[0.04, 2.0, 0.09, 0.5, -0.6], [0.09, 1.0, 0.05, 0.7, 0.1], [0.1, 3.0, 0.17, 0.6, -0.3]], dtype=torch.float64
    )
    found = fitted(heston, heston(truth), (0.5 * (LOW + HIGH)).expand(3, -1), LOW, HIGH)
    torch.testing.assert_close(LOW + (HIGH - LOW) * found.parameters, truth, rtol=0.0, atol=2e-3)
    assert found.error.max() < 1e-5
    expected = torch.tensor([0.0, 0.1 / 0.9, 0.01 / 0.15], dtype=torch.float64)
    torch.testing.assert_close(found.outside(), expected, rtol=0.0, atol=3e-3)


def test_what_no_parameter_fits_keeps_its_error() -> None:
    """A line through three points that lie on none: the error is the residual of the regression."""
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    target = torch.tensor([[0.0, 0.3, 0.0]], dtype=torch.float64)
    low, high = -torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    found = fitted(lambda p: p[:, :1] + p[:, 1:] * x, target, torch.zeros(1, 2, dtype=torch.float64), low, high)
    assert found.error.item() == pytest.approx((0.02) ** 0.5, rel=1e-6)
    torch.testing.assert_close(found.parameters, torch.tensor([[0.55, 0.5]], dtype=torch.float64), rtol=0.0, atol=1e-6)


def test_steps_to_where_the_model_has_no_price_are_not_taken() -> None:
    """A square root, with its parameter below 0 in half of the reach."""
    low, high = torch.tensor([-0.2], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    target = torch.tensor([[0.05]], dtype=torch.float64)
    found = fitted(lambda p: p.sqrt(), target, torch.tensor([[0.7]], dtype=torch.float64), low, high)
    assert low + found.parameters * (high - low) == pytest.approx(0.0025, abs=1e-3)
