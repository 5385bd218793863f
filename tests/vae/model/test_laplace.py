import torch

from tests.vae.model.test_completion import linear
from vae.model.autoencoder import Architecture, Vae
from vae.model.completion import keep_random_points
from vae.model.laplace import local_quadratic, log_evidence, posterior_mode
from vae.model.linear import principal_components


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
    target = points(torch.tensor([[0.3, -0.4]]).double()) + 0.1

    def cost(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * ((target - points(z)).square() * precision).sum() + 0.5 * z.square().sum()

    def jacobian(z: torch.Tensor) -> torch.Tensor:
        return torch.autograd.functional.jacobian(lambda row: points(row[None])[0], z[0]).T[None]

    z = torch.tensor([[0.5, 0.2]]).double()
    found = local_quadratic(z, target - points(z), jacobian(z), precision)
    torch.testing.assert_close(found.cost[0], cost(z))
    torch.testing.assert_close(-found.slope, torch.autograd.functional.jacobian(cost, z))
    exact = local_quadratic(z, torch.zeros(1, 3).double(), jacobian(z), precision).curvature
    target = points(z)
    torch.testing.assert_close(exact[0], torch.autograd.functional.hessian(lambda row: cost(row[None]), z[0]))

    target = points(torch.tensor([[0.3, -0.4]]).double()) + 0.1
    mode = posterior_mode(lambda at: local_quadratic(at, target - points(at), jacobian(at), precision), z, steps=50)
    assert torch.autograd.functional.jacobian(cost, mode.z).abs().max() < 1e-2
