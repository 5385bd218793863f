"""Residual factors against dense multivariate normals."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from vae.model import completion
from vae.model.autoencoder import Architecture, Vae
from vae.model.elbo import bounds, log_likelihood
from vae.model.linear import principal_components
from vae.model.noise_precision import NoisePrecision
from vae.model.point_posterior import log_evidence, pose_points, posterior_given_points

POINTS, LATENTS = 9, 2


def data(rows: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(POINTS, POINTS, generator=generator, dtype=torch.float64)
    scaled = torch.randn(rows, POINTS, generator=generator, dtype=torch.float64) * 0.6 ** torch.arange(POINTS)
    return 3.0 + scaled @ mix


def linear(x: Tensor, factors: int) -> Vae:
    """The untrained model."""
    architecture = Architecture(POINTS, POINTS, LATENTS, 8, 1, residual_factors=factors, sees_missing=True)
    return Vae.from_components(architecture, principal_components(x))


def bent(x: Tensor, factors: int) -> Vae:
    """A model whose networks are not zero."""
    model = linear(x, factors)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in (model.decoder_network[-1], model.encoder_network[-1]):
            layer.weight.copy_(0.2 * torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64))
        model.residual.add_(0.3 * torch.randn(model.residual.shape, generator=generator, dtype=torch.float64))
    return model


def covariance(model: Vae) -> Tensor:
    """Of x given z, dense."""
    assert model.residual_factors is not None
    return model.residual_factors @ model.residual_factors.T + model.scale.square() * torch.eye(POINTS).double()


def holed(x: Tensor, count: int) -> Tensor:
    return completion.keep_random_points(x, count, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("factors", [5, POINTS - 1])
def test_the_untrained_model_is_the_gaussian_of_that_many_components(factors: int) -> None:
    x = data()
    model, components = linear(x, factors), principal_components(x)
    noise = torch.randn(2, len(x), LATENTS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    exact = components.log_likelihood(x, factors)
    with torch.no_grad():  # the encoder is the exact posterior, so that one draw gives the density
        torch.testing.assert_close(bounds(model, model.observe(x), noise).log_weights[0], exact, atol=1e-9, rtol=0)
    if factors == POINTS - 1:
        centred = x - x.mean(0)
        dense = MultivariateNormal(x.mean(0), centred.T @ centred / len(x)).log_prob(x)
        torch.testing.assert_close(exact, dense, atol=1e-9, rtol=0)


@pytest.mark.parametrize("known", [3, POINTS])
def test_the_likelihood_is_that_of_a_dense_normal(known: int) -> None:
    x = data(40)
    model, seen = bent(data(), 6), holed(x, known)
    z = torch.randn(3, len(x), LATENTS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        found = log_likelihood(model, model.observe(seen), z)
        means = model.expand(model.decode(z))
        for row, own in enumerate(~seen.isnan()):
            dense = MultivariateNormal(means[:, row, own], covariance(model)[own][:, own])
            torch.testing.assert_close(found[:, row], dense.log_prob(x[row, own]), atol=1e-9, rtol=0)


def test_hidden_points_are_the_conditional_means_of_the_gaussian() -> None:
    x = data()
    seen, components = holed(x, 4), principal_components(x)
    found = completion.complete(linear(x, POINTS - 1), seen)
    torch.testing.assert_close(found.mean, components.complete(seen, POINTS - 1), atol=2e-5, rtol=0)
    own, centred = ~seen[0].isnan(), x - x.mean(0)
    whole = centred.T @ centred / len(x)
    left = whole - whole[:, own] @ torch.linalg.solve(whole[own][:, own], whole[own])
    hidden = ~own
    torch.testing.assert_close(found.std[0, hidden].square(), left.diagonal()[hidden], rtol=1e-3, atol=0)


def test_evidence_and_slope_are_those_of_the_dense_normal() -> None:
    x = data()
    seen = holed(x, 4)
    missing, filled = seen.isnan().double(), seen.nan_to_num(1.0)
    exact = principal_components(x).log_likelihood(seen, 6)
    with torch.no_grad():
        torch.testing.assert_close(log_evidence(linear(x, 6), filled, missing, steps=6), exact, atol=1e-6, rtol=0)

    model, z = bent(x, 6), torch.tensor([[0.4, -0.3]]).double().requires_grad_()
    own = missing[0] == 0.0
    dense = MultivariateNormal(model.expand(model.decode(z))[0, own], covariance(model)[own][:, own])
    cost = 0.5 * z.square().sum() - dense.log_prob(x[0, own])
    (slope,) = torch.autograd.grad(cost, z)
    with torch.no_grad():
        found = posterior_given_points(model, pose_points(model, x[:1], missing[:1])[0])(z)
    torch.testing.assert_close(-found.slope, slope)


def test_a_precision_is_the_inverse_of_the_covariance() -> None:
    generator = torch.Generator().manual_seed(4)
    noise = torch.rand(1, POINTS, generator=generator, dtype=torch.float64) + 0.1
    factors = torch.randn(POINTS, 3, generator=generator, dtype=torch.float64)
    rows = torch.randn(1, 4, POINTS, generator=generator, dtype=torch.float64)
    inverse = torch.linalg.inv(torch.diag(noise[0]) + factors @ factors.T)
    found = NoisePrecision.of(1.0 / noise, factors)
    torch.testing.assert_close(found.weigh(rows), rows @ inverse)
    torch.testing.assert_close(found.products(rows), rows @ inverse @ rows.mT)


@pytest.mark.parametrize("wrong", [{"residual_factors": 1}, {"residual_factors": 9}, {"scale": "point"}])
def test_residual_factors_that_do_not_suit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="residual_factors"):
        Architecture(POINTS, POINTS, LATENTS, 8, 1, **({"residual_factors": 4} | wrong))  # type: ignore[arg-type]
