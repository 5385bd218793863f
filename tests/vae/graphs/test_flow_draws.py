"""Draws in columns are those of vae.model.flow, which looks up the pieces of its splines and solves for the root."""

import numpy as np
import pytest
import torch

from vae.graphs.flow_draws import FlowDraws
from vae.model.flow import Flow, FlowShape


def flow(dimension: int, *, irregular: float) -> Flow:
    """A flow whose splines differ from the identity, by more the larger ``irregular`` is."""
    torch.manual_seed(dimension)
    made = Flow.of_codes(torch.randn(100, dimension) + 1.0, FlowShape(dimension, 3)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(irregular * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("irregular", [0.0, 0.3, 1.0])
def test_they_are_the_draws_of_the_flow(dimension: int, irregular: float) -> None:
    """In the middle, at the ends of the splines and far beyond them."""
    own = flow(dimension, irregular=irregular)
    ends = torch.tensor([-40.0, -6.0, -4.0, 0.0, 4.0, 6.0, 40.0]).double()
    normal = torch.cat([torch.randn(500, dimension).double(), ends.unsqueeze(1).expand(-1, dimension)])
    with torch.no_grad():
        np.testing.assert_allclose(FlowDraws(own)(normal), own(normal), rtol=1e-8, atol=1e-8)


def test_large_parameters_give_finite_draws() -> None:
    """Those of a piece are exponents, of which the largest is subtracted."""
    own = flow(4, irregular=0.1)
    with torch.no_grad():
        for coupling in own.couplings():
            coupling.chooser[-1].bias[:8] += 500.0 * torch.arange(8)
        drawn = FlowDraws(own).float()(torch.randn(200, 4))
    assert drawn.isfinite().all()
