import math

import numpy as np
import pytest
import torch

from vae.model.flow import Flow, FlowShape


def flow(dimension: int, layers: int = 3) -> Flow:
    """A flow that is far from the identity."""
    torch.manual_seed(dimension)
    made = Flow.of_codes(
        torch.randn(100, dimension) @ torch.randn(dimension, dimension) + 1.0, FlowShape(dimension, layers)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.double()


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_density_is_that_of_the_draws(dimension: int) -> None:
    """The change of variables, with the Jacobian of the map by automatic differentiation."""
    law = flow(dimension)
    normal = torch.randn(20, dimension, dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: law(one[None])[0]))(normal)
    standard = -0.5 * (normal.square() + math.log(2.0 * math.pi)).sum(1)
    z = law.sample(np.empty(20), normal.numpy())
    np.testing.assert_allclose(law.log_density(z), (standard - jacobian.slogdet().logabsdet).detach(), atol=1e-8)
    np.testing.assert_allclose(law.log_density(z.reshape(4, 5, dimension)).ravel(), law.log_density(z))


@pytest.mark.slow
def test_the_density_adds_up_to_one() -> None:
    """Over a grid of cells, a tenth of the smallest spread wide, that reaches far beyond the draws."""
    law = flow(2)
    draws = law.sample(np.empty(4000), np.random.default_rng(1).standard_normal((4000, 2)))
    middle, spread = draws.mean(0), draws.std(0)
    axes = [np.linspace(m - 9.0 * s, m + 9.0 * s, 501) for m, s in zip(middle, spread, strict=True)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    total = np.exp(law.log_density(cells)).sum() * np.prod([axis[1] - axis[0] for axis in axes])
    assert total == pytest.approx(1.0, abs=5e-3)


def test_a_flow_starts_at_the_gaussian_of_its_codes() -> None:
    codes = torch.randn(500, 3) @ torch.randn(3, 3) + 2.0
    law, expected = Flow.of_codes(codes, FlowShape(3, 0)), torch.distributions.MultivariateNormal
    gaussian = expected(codes.mean(0), torch.cov(codes.T))
    with torch.no_grad():
        torch.testing.assert_close(law.log_densities(codes), gaussian.log_prob(codes), atol=1e-3, rtol=1e-4)
