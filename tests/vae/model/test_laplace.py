import math

import pytest
import torch

from tests.vae.model.test_completion import linear
from vae.model.autoencoder import Architecture, Vae
from vae.model.completion import complete, keep_random_points
from vae.model.laplace import LocalQuadratic, local_quadratic, posterior_mode
from vae.model.linear import principal_components
from vae.model.noise_precision import NoisePrecision
from vae.model.point_posterior import log_evidence, pose_points, posterior_given_points


def test_the_evidence_of_a_linear_model_is_its_density() -> None:
    """Complete and with holes, of vols and, with the change of variables, of their logarithms."""
    model, components, x = linear()
    seen = keep_random_points(x[:50], 6, torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = log_evidence(model, x[:50], None, steps=3)
        part = log_evidence(model, torch.nan_to_num(seen), seen.isnan().double(), steps=3)
    torch.testing.assert_close(whole, components.log_likelihood(x[:50], 3), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(part, components.log_likelihood(seen, 3), rtol=1e-8, atol=1e-8)
    logs = Vae.from_components(
        Architecture(10, 10, 3, 4, 0, transform="log", sees_missing=True), principal_components(0.1 * x)
    )
    vols = (0.1 * x[:50]).exp()
    with torch.no_grad():
        found = log_evidence(logs, vols, None, steps=3)
    expected = principal_components(0.1 * x).log_likelihood(0.1 * x[:50], 3) - 0.1 * x[:50].sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_the_search_ends_at_the_minimum_and_its_slope_and_curvature_are_those_of_the_cost() -> None:
    """A curved model of two latents: gradients by torch, and the Hessian where the errors vanish."""

    def points(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([z[:, 0].exp(), z[:, 0] * z[:, 1], z[:, 1].sin()], dim=1)

    precision = torch.tensor([[4.0, 1.0, 9.0]]).double()
    noise = NoisePrecision(precision)
    target = points(torch.tensor([[0.3, -0.4]]).double()) + 0.1

    def cost(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * ((target - points(z)).square() * precision).sum() + 0.5 * z.square().sum()

    def jacobian(z: torch.Tensor) -> torch.Tensor:
        return torch.autograd.functional.jacobian(lambda row: points(row[None])[0], z[0]).T[None]

    z = torch.tensor([[0.5, 0.2]]).double()
    found = local_quadratic(z, target - points(z), jacobian(z), noise)
    torch.testing.assert_close(found.cost[0], cost(z))
    torch.testing.assert_close(-found.slope, torch.autograd.functional.jacobian(cost, z))
    exact = local_quadratic(z, torch.zeros(1, 3).double(), jacobian(z), noise).curvature
    target = points(z)
    torch.testing.assert_close(exact[0], torch.autograd.functional.hessian(lambda row: cost(row[None]), z[0]))

    target = points(torch.tensor([[0.3, -0.4]]).double()) + 0.1
    mode = posterior_mode(lambda at: local_quadratic(at, target - points(at), jacobian(at), noise), z, steps=50)
    assert torch.autograd.functional.jacobian(cost, mode).abs().max() < 1e-2


def test_a_quadratic_is_searched_in_one_step() -> None:
    """The search does not take a second step to see that the first one was enough."""
    jacobian = torch.tensor([[[1.0, 2.0, 0.5], [0.0, -1.0, 1.5]]]).double()
    target, seen = torch.tensor([[0.8, 0.1, -0.3]]).double(), []

    def posterior(z: torch.Tensor) -> LocalQuadratic:
        seen.append(z)
        error = target - (z.unsqueeze(1) @ jacobian).squeeze(1)
        return local_quadratic(z, error, jacobian, NoisePrecision(torch.ones(1, 3).double()))

    found = posterior_mode(posterior, torch.zeros(1, 2).double(), steps=50)
    assert len(seen) == 2
    best = torch.linalg.solve(jacobian[0] @ jacobian[0].T + torch.eye(2), jacobian[0] @ target[0])
    torch.testing.assert_close(found[0], best, rtol=1e-5, atol=1e-5)


def binary(points: int = 12) -> tuple[Vae, torch.Tensor]:
    """A model of two latents of points that are 0 or 1, bent a little, and data."""
    x = (
        torch.randn(400, 2).double() @ torch.randn(2, points).double() + torch.randn(400, points).double() > 0
    ).double()
    model = Vae.from_components(
        Architecture(points, points, 2, 8, 1, likelihood="bernoulli", sees_missing=True), principal_components(x)
    ).double()
    with torch.no_grad():
        for parameter in model.decoder_network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model, x


def on_a_mesh(model: Vae, x: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log p of the known points [batch], and the probability of each point given them [batch, D], by quadrature."""
    axis = torch.linspace(-7.0, 7.0, 281).double()
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        logits = model.natural(model.decode(z))
    likelihood = (x * known) @ logits.T - known @ torch.nn.functional.softplus(logits).T
    log_joint = (
        likelihood - 0.5 * z.square().sum(1) - math.log(2.0 * math.pi) + 2.0 * math.log(float(axis[1] - axis[0]))
    )
    return log_joint.logsumexp(1), log_joint.softmax(1) @ logits.sigmoid()


def test_binary_points_are_scored_and_completed_as_by_quadrature() -> None:
    """Complete and with holes; Laplace's approximation of 12 binary points is off by hundredths of a nat."""
    model, x = binary()
    x = x[:40]
    holes = torch.rand(x.shape) < 0.4
    holes[:, 0] = False
    for missing in (torch.zeros_like(x), holes.double()):
        exact, probability = on_a_mesh(model, x, 1.0 - missing)
        with torch.no_grad():
            found = log_evidence(model, torch.where(missing > 0.0, torch.nan, x).nan_to_num(), missing, steps=6)
        assert (found - exact).abs().max() < 0.25
        assert (found - exact).abs().mean() < 0.08
        completed = complete(model, torch.where(missing > 0.0, torch.nan, x))
        assert (completed.mean - probability).abs().mean() < 0.03


def test_the_local_quadratic_of_binary_points_is_that_of_torch() -> None:
    """Its slope, and its curvature where the decoder is linear."""
    model, x = binary()
    known = (torch.rand(12) < 0.7).double()
    with torch.no_grad():
        for parameter in model.decoder_network.parameters():
            parameter.zero_()

    def cost(z: torch.Tensor) -> torch.Tensor:
        logits = model.natural(model.decode(z))
        lost = torch.nn.functional.softplus(logits) - x[0] * logits
        return (known * lost).sum() + 0.5 * z.square().sum()

    z = torch.tensor([0.4, -1.1]).double()
    found = posterior_given_points(model, pose_points(model, x[:1], 1.0 - known[None])[0])(z[None])
    torch.testing.assert_close(found.cost[0], cost(z).detach())
    torch.testing.assert_close(-found.slope[0], torch.autograd.functional.jacobian(cost, z))
    torch.testing.assert_close(found.curvature[0], torch.autograd.functional.hessian(cost, z))


def noisy_where_far() -> tuple[Vae, torch.Tensor]:
    """A model whose noise depends on the latents, and data whose noise grows with the first factor."""
    z = torch.randn(600, 2).double()
    x = z @ torch.randn(2, 9).double() + 0.2 * torch.exp(0.5 * z[:, :1]) * torch.randn(600, 9).double()
    model = Vae.from_components(
        Architecture(9, 9, 2, 8, 1, scale="decoded", scale_floor=0.05, sees_missing=True), principal_components(x)
    )
    with torch.no_grad():
        for parameter in (*model.decoder_network.parameters(), *model.scale_network.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, x


@pytest.mark.slow
def test_a_decoded_scale_is_scored_as_by_quadrature() -> None:
    """Complete and with holes; the search ends at the mode, whose slope is that of torch."""
    model, x = noisy_where_far()
    x, missing = x[:30], (torch.rand(30, 9) < 0.3).double()
    missing[:, 0] = 0.0
    axis = torch.linspace(-6.0, 6.0, 401).double()
    mesh = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        points, scale = model.natural(model.decode(mesh)), model.scale_at(mesh)
        noise = torch.distributions.Normal(points, scale)
        prior = -0.5 * mesh.square().sum(1) - math.log(2.0 * math.pi) + 2.0 * math.log(float(axis[1] - axis[0]))
        exact = torch.stack([
            ((noise.log_prob(row) * (1.0 - holes)).sum(1) + prior).logsumexp(0)
            for row, holes in zip(x, missing, strict=True)
        ])  # fmt: skip
        found = log_evidence(model, x, missing, steps=8)
    assert (found - exact).abs().max() < 0.1

    def cost(z: torch.Tensor) -> torch.Tensor:
        noise = torch.distributions.Normal(model.natural(model.decode(z)), model.scale_at(z))
        lost = -(noise.log_prob(x[:1]) * (1.0 - missing[:1])).sum()
        return lost + 0.5 * z.square().sum()

    z = torch.tensor([[0.3, -0.8]]).double()
    quadratic = posterior_given_points(model, pose_points(model, x[:1], missing[:1])[0])(z)
    constant = 0.5 * math.log(2.0 * math.pi) * (1.0 - missing[0]).sum()
    torch.testing.assert_close(quadratic.cost[0] + constant, cost(z).detach())
    torch.testing.assert_close(-quadratic.slope, torch.autograd.functional.jacobian(cost, z))


def test_the_curvature_of_a_decoded_scale_is_fishers_information() -> None:
    """The mean Hessian over observations drawn at the latents, the prior's apart."""
    model, _ = noisy_where_far()
    z = torch.tensor([0.4, -0.2]).double()
    with torch.no_grad():
        mean, scale = model.natural(model.decode(z)), model.scale_at(z)
    drawn = mean + scale * torch.randn(20_000, 9).double()

    def cost(at: torch.Tensor) -> torch.Tensor:
        noise = torch.distributions.Normal(model.natural(model.decode(at)), model.scale_at(at))
        return -noise.log_prob(drawn).sum(1).mean() + 0.5 * at.square().sum()

    found = posterior_given_points(model, pose_points(model, drawn[:1], None)[0])(z[None]).curvature[0]
    torch.testing.assert_close(found, torch.autograd.functional.hessian(cost, z), rtol=0.05, atol=0.5)
