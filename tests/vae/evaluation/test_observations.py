"""Observations have the law of the likelihood."""

import pytest
import torch

from vae.evaluation.observations import observed
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components


@pytest.mark.parametrize(("factors", "transform"), [(0, "none"), (3, "none"), (3, "log")])
def test_the_noise_has_the_covariance_of_the_likelihood(factors: int, transform: str) -> None:
    """At one z: mean of the decoder, F F' + scale^2 I, of logarithms where the points are."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 5, generator=generator, dtype=torch.float64) @ torch.randn(5, 5, generator=generator).double()
    model = Vae.from_components(
        Architecture(5, 5, 2, 8, 1, residual_factors=factors, transform=transform), principal_components(x)
    )
    z = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(40_000, -1)
    found = model.inner(observed(model, z, seed=1))
    with torch.no_grad():
        mean, scale = model.natural(model.decode(z[:1])), model.scale
        expected = scale.square() * torch.eye(5, dtype=torch.float64)
        if model.residual_factors is not None:
            expected = expected + model.residual_factors @ model.residual_factors.T
    spread = expected.diagonal().sqrt()
    assert ((found.mean(0) - mean).abs() / spread).max() < 0.03
    torch.testing.assert_close(
        torch.cov(found.T) / spread / spread.unsqueeze(1), expected / spread / spread.unsqueeze(1), rtol=0, atol=0.04
    )
    independent = model.independent_noise / (model.center.exp() if transform == "log" else 1.0)
    torch.testing.assert_close(independent, scale.expand_as(independent))


def test_binary_points_are_drawn_with_their_probability() -> None:
    x = torch.bernoulli(torch.full((200, 4), 0.3), generator=torch.Generator().manual_seed(1)).double()
    model = Vae.from_components(Architecture(4, 4, 2, 8, 1, likelihood="bernoulli"), principal_components(x))
    z = torch.zeros(20_000, 2, dtype=torch.float64)
    found = observed(model, z, seed=1)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    with torch.no_grad():
        torch.testing.assert_close(found.mean(0), model.expand(model.decode(z[0])), rtol=0, atol=0.02)
