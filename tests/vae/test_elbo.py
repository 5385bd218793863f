import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from tests.vae.test_model import perturbed
from tests.vae.test_ppca import CASES, data
from vae.elbo import bounds, elbo, gaussian_log_likelihood, kl_to_standard_normal
from vae.model import Architecture, Coordinates, Posterior, Vae
from vae.ppca import principal_components


def ppca_model(x: torch.Tensor, latents: int) -> Vae:
    """The exact pPCA of x as a VAE."""
    components = principal_components(x)
    basis = int((components.variances > 1e-12).sum())
    return Vae.from_components(Architecture(x.shape[1], basis, latents, 4, 1), components)


def cubature(latents: int, rows: int) -> torch.Tensor:
    """2q points +-sqrt(q) e_i: their mean is the exact expectation of a quadratic under N(0, I)."""
    points = math.sqrt(latents) * torch.eye(latents, dtype=torch.float64)
    return torch.cat((points, -points)).unsqueeze(1).expand(-1, rows, -1)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{c['q']}" for n, c in CASES])
def test_evaluator_reproduces_exact_ppca_likelihoods(name: str, case: dict) -> None:
    """With the pPCA solution both bounds are tight: ELBO = importance-weighted bound = exact log-likelihood."""
    train, test = data(name)
    model = ppca_model(train, case["q"])
    noise = torch.randn(3, len(test), case["q"], dtype=torch.float64)
    with torch.no_grad():
        on_train = bounds(model, model.coordinates(train), cubature(case["q"], len(train))).elbo
        on_test = bounds(model, model.coordinates(test), cubature(case["q"], len(test))).elbo
        weighted = bounds(model, model.coordinates(test), noise).importance_weighted

    assert on_train.value.mean().item() == pytest.approx(case["train_ll"], abs=1e-9)
    assert on_test.value.mean().item() == pytest.approx(case["test_ll"], abs=1e-9)
    assert weighted.mean().item() == pytest.approx(case["test_ll"], abs=1e-9)
    assert on_train.kl.mean().item() == pytest.approx(case["rate_kl_train"], abs=1e-9)
    assert on_train.log_likelihood.mean().item() == pytest.approx(case["train_ll"] + case["rate_kl_train"], abs=1e-9)


def test_kl_matches_torch_and_monte_carlo() -> None:
    """Closed form = torch.distributions exactly, and the mean of log q - log p over a million draws within 5 errors."""
    posterior = Posterior(
        torch.tensor([[0.5, -1.0, 0.0]], dtype=torch.float64), torch.tensor([[-1.0, 0.3, 0.0]], dtype=torch.float64)
    )
    q = Independent(Normal(posterior.mean, posterior.log_std.exp()), 1)
    p = Independent(Normal(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)), 1)

    ours = kl_to_standard_normal(posterior)

    torch.testing.assert_close(ours, kl_divergence(q, p))
    z = q.sample((1_000_000,))
    difference = q.log_prob(z) - p.log_prob(z)
    error = difference.std() / math.sqrt(len(difference))
    assert abs(ours.item() - difference.mean().item()) <= 5.0 * error.item()


def test_likelihood_is_the_gaussian_of_the_points() -> None:
    """Constants included: torch's independent normal over all D points."""
    model, x = perturbed()
    z = torch.randn(len(x), 3, dtype=torch.float64)
    mean = model.expand(model.decode(z))
    expected = Independent(Normal(mean, model.log_scale.exp()), 1).log_prob(x)

    torch.testing.assert_close(gaussian_log_likelihood(model, model.coordinates(x), z), expected, rtol=1e-10, atol=1e-8)


def test_bounds_agree_with_quadrature_and_rise_with_the_samples() -> None:
    """A nonlinear model with 2 latents: log p(x) by Gauss-Hermite quadrature is above every bound and their limit."""
    model, x = perturbed(latents=2)
    with torch.no_grad():
        model.log_scale.fill_(0.3)
        for parameter in model.decoder_network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x = model.coordinates(x[:8])
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    grid = torch.from_numpy(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 1, 2)).expand(-1, 8, -1)
    log_weights = torch.from_numpy(np.log(np.outer(weights, weights).ravel() / (2 * np.pi)))
    with torch.no_grad():
        exact = torch.logsumexp(gaussian_log_likelihood(model, x, grid) + log_weights[:, None], dim=0)
        noise = torch.randn(200_000, 8, 2, dtype=torch.float64)
        bound = bounds(model, x, noise[:20_000]).elbo.value
        weighted = [
            torch.stack([bounds(model, x, part).importance_weighted for part in noise[:40_000].split(k)]).mean(0)
            for k in (1, 10, 100)
        ]
        limit = bounds(model, x, noise).importance_weighted

    means = [value.mean().item() for value in (bound, *weighted, limit, exact)]
    assert means[1] == pytest.approx(means[0], abs=0.05)  # one sample: the ELBO
    assert means[1] < means[2] < means[3] < means[5]
    torch.testing.assert_close(limit, exact, rtol=0.0, atol=0.05)


def test_gradients_flow_through_the_reparameterised_sample() -> None:
    """Autograd equals central differences in double precision for the first entries of every parameter."""
    model, x = perturbed()
    coordinates = Coordinates(*(part.detach() for part in model.coordinates(x[:16])))
    noise = torch.randn(16, 3, dtype=torch.float64)

    def value() -> torch.Tensor:
        return elbo(model, coordinates, noise).value.mean()

    value().backward()
    for name, parameter in model.named_parameters():
        flat, step = parameter.data.view(-1), 1e-5
        for index in range(min(3, len(flat))):
            kept = flat[index].item()
            flat[index] = kept + step
            above = value().item()
            flat[index] = kept - step
            below = value().item()
            flat[index] = kept
            slope = parameter.grad.view(-1)[index].item()
            assert slope == pytest.approx((above - below) / (2 * step), rel=2e-4, abs=1e-5), name


def test_every_parameter_gets_a_gradient() -> None:
    model, x = perturbed()
    elbo(model, model.coordinates(x), torch.randn(len(x), 3, dtype=torch.float64)).value.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0.0).any(), name


def test_training_and_evaluation_agree_on_the_bound() -> None:
    """The bound of one draw, as training takes it, is that of evaluation with one sample."""
    model, x = perturbed()
    noise = torch.randn(len(x), 3, dtype=torch.float64)
    coordinates = model.coordinates(x)
    torch.testing.assert_close(
        elbo(model, coordinates, noise).value, bounds(model, coordinates, noise[None]).elbo.value
    )
