import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from tests.vae.model.test_autoencoder import perturbed
from tests.vae.model.test_linear import CASES, data
from vae.model.autoencoder import Architecture, Posterior, Vae
from vae.model.elbo import bounds, elbo, kl_of_latents, log_likelihood, objective, proposal_log_density
from vae.model.linear import factor_analysis, principal_components
from vae.model.mixture import Mixture


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
        on_train = bounds(model, model.observe(train), cubature(case["q"], len(train))).elbo
        on_test = bounds(model, model.observe(test), cubature(case["q"], len(test))).elbo
        weighted = bounds(model, model.observe(test), noise).importance_weighted

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

    ours = kl_of_latents(posterior).sum(-1)

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

    torch.testing.assert_close(log_likelihood(model, model.observe(x), z), expected, rtol=1e-10, atol=1e-8)


@pytest.mark.slow
def test_bounds_agree_with_quadrature_and_rise_with_the_samples() -> None:
    """A nonlinear model with 2 latents: log p(x) by Gauss-Hermite quadrature is above every bound and their limit."""
    model, x = perturbed(latents=2)
    with torch.no_grad():
        model.log_scale.fill_(0.3)
        for parameter in model.decoder_network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    surfaces, x = x[:3], model.observe(x[:3])

    def weighted(samples: int) -> torch.Tensor:
        """The mean bound from so many samples, over 40,000 samples: groups of them are rows of one call."""
        grouped = noise[:40_000].unflatten(0, (-1, samples)).transpose(0, 1)  # [sample, group, surface, latent]
        groups = grouped.shape[1]
        found = bounds(model, model.observe(surfaces.repeat(groups, 1)), grouped.flatten(1, 2)).importance_weighted
        return found.unflatten(0, (groups, len(surfaces))).mean(0)

    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    grid = torch.from_numpy(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 1, 2)).expand(-1, 3, -1)
    log_weights = torch.from_numpy(np.log(np.outer(weights, weights).ravel() / (2 * np.pi)))
    with torch.no_grad():
        exact = torch.logsumexp(log_likelihood(model, x, grid) + log_weights[:, None], dim=0)
        noise = torch.randn(200_000, 3, 2, dtype=torch.float64)
        bound = bounds(model, x, noise[:20_000]).elbo.value
        limit = bounds(model, x, noise).importance_weighted
        means = [value.mean().item() for value in (bound, weighted(1), weighted(10), weighted(100), limit, exact)]

    assert means[1] == pytest.approx(means[0], abs=0.05)  # one sample: the ELBO
    assert means[1] < means[2] < means[3] < means[5]
    torch.testing.assert_close(limit, exact, rtol=0.0, atol=0.05)


def test_gradients_flow_through_the_reparameterised_sample() -> None:
    """Autograd equals central differences in double precision for the first entries of every parameter."""
    model, x = perturbed()
    coordinates = model.observe(x[:16])
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
    elbo(model, model.observe(x), torch.randn(len(x), 3, dtype=torch.float64)).value.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0.0).any(), name


def test_training_and_evaluation_agree_on_the_bound() -> None:
    """The bound of one draw, as training takes it, is that of evaluation with one sample."""
    model, x = perturbed()
    noise = torch.randn(len(x), 3, dtype=torch.float64)
    coordinates = model.observe(x)
    torch.testing.assert_close(
        elbo(model, coordinates, noise).value, bounds(model, coordinates, noise[None]).elbo.value
    )


def test_the_bound_never_falls_with_the_samples() -> None:
    """Of the same draws, exactly and for each observation; all of them are the plain bound, one is the ELBO."""
    model, x = perturbed()
    noise = torch.randn(64, len(x), 3, dtype=torch.float64)
    with torch.no_grad():
        found = bounds(model, model.observe(x), noise)
        grouped = found.grouped([1, 4, 16, 64])
    values = torch.stack([value for value, _ in grouped])
    assert (values.diff(dim=0) >= -1e-9).all()
    torch.testing.assert_close(values[-1], found.importance_weighted)
    torch.testing.assert_close(grouped[0][1], torch.ones(len(x), dtype=torch.float64))
    effective = torch.stack([value for _, value in grouped])
    assert (effective <= torch.tensor([1, 4, 16, 64]).unsqueeze(1) + 1e-9).all()


def test_missing_points_against_the_exact_likelihood_of_those_known() -> None:
    """A linear model whose posterior is exact however many points are missing: both bounds are the marginal density."""
    train, test = data("breast_cancer")
    components = principal_components(train)
    model = Vae.from_components(Architecture(30, 30, 1, 4, 0, sees_missing=True), components)
    holes = torch.where(torch.rand(test.shape, generator=torch.Generator().manual_seed(1)) < 0.4, torch.nan, test)
    exact = components.log_likelihood(holes, 1)
    covariance = components.vectors[:, :1] @ components.vectors[:, :1].T * (
        components.variances[0] - components.noise_variance(1)
    ) + components.noise_variance(1) * torch.eye(30, dtype=torch.float64)
    for row in range(5):
        known = ~holes[row].isnan()
        density = torch.distributions.MultivariateNormal(components.mean[known], covariance[known][:, known])
        assert exact[row].item() == pytest.approx(density.log_prob(holes[row, known]).item(), abs=1e-9)

    observed = model.observe(holes)
    with torch.no_grad():
        information = (1.0 - observed.missing) @ (
            model.loadings / model.spread.unsqueeze(1)
        ).square()  # one latent: the exact posterior has the variance 1 / (1 + information)
        mean = model.encode(observed.values).mean  # the fill is in agreement with it
        std = (1.0 + information).rsqrt()
        noise = torch.randn(100, len(test), 1, dtype=torch.float64)
        z = mean + std * noise
        weights = log_likelihood(model, observed, z) + (0.5 * (noise.square() - z.square())).sum(-1) + std.log().sum(-1)
    torch.testing.assert_close(weights, exact.expand_as(weights), rtol=0.0, atol=1e-9)  # of each draw


def test_the_log_transform_changes_variables_back() -> None:
    """The density of exp(y) is that of y over exp(y): pPCA's exact likelihood of the logarithms less their sum."""
    train, test = (0.1 * part for part in data("breast_cancer"))
    components = principal_components(train)
    model = Vae.from_components(Architecture(30, 30, 2, 4, 0, transform="log"), components)
    with torch.no_grad():
        found = bounds(model, model.observe(test.exp()), cubature(2, len(test))).elbo.value
    torch.testing.assert_close(found, components.log_likelihood(test, 2) - test.sum(1), rtol=0.0, atol=1e-9)


def test_factor_analysis_is_the_start_of_noise_by_point() -> None:
    """With a scale for each point the untrained bound is the exact likelihood of factor analysis."""
    train, test = data("breast_cancer")
    components = principal_components(train)
    model = Vae.from_components(Architecture(30, 30, 3, 4, 0, scale="point"), components)
    with torch.no_grad():
        found = bounds(model, model.observe(test), cubature(3, len(test))).elbo.value
    linear = factor_analysis(components, 3)
    covariance = linear.loadings @ linear.loadings.T + torch.diag(linear.noise)
    exact = torch.distributions.MultivariateNormal(components.mean, covariance).log_prob(test)
    torch.testing.assert_close(found, exact, rtol=0.0, atol=1e-8)


def test_the_likelihood_with_a_decoded_scale_is_the_gaussian_of_the_points() -> None:
    x = torch.randn(200, 6).double() @ torch.randn(6, 6).double()
    model = Vae.from_components(Architecture(6, 6, 2, 8, 1, scale="decoded"), principal_components(x))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        z = torch.randn(3, 200, 2).double()
        expected = Normal(model.expand(model.decode(z)), model.scale_at(z)).log_prob(x).sum(-1)
        torch.testing.assert_close(log_likelihood(model, model.observe(x), z), expected)


def test_bernoulli_likelihood_is_that_of_torch() -> None:
    x = (torch.rand(40, 6, dtype=torch.float64) > 0.4).double()
    model = Vae.from_components(Architecture(6, 6, 2, 8, 1, likelihood="bernoulli"), principal_components(x))
    z = torch.randn(40, 2, dtype=torch.float64)
    chances = model.expand(model.decode(z))
    expected = torch.distributions.Bernoulli(chances).log_prob(x).sum(-1)
    torch.testing.assert_close(log_likelihood(model, model.observe(x), z), expected, rtol=1e-9, atol=1e-9)


def test_the_objective_weighs_the_kl_of_each_latent() -> None:
    model, x = perturbed()
    seen, noise = model.observe(x), torch.randn(1, len(x), 3, dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    found = bounds(model, seen, noise)
    expected = found.elbo.log_likelihood - (found.kl_of_latents * weights).sum(1)
    torch.testing.assert_close(objective(model, seen, noise, weights), expected)
    several = noise.expand(4, -1, -1) + torch.randn(4, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(
        objective(model, seen, several, torch.ones(3, dtype=torch.float64)),
        bounds(model, seen, several).importance_weighted,
    )


def test_another_prior_changes_the_bound_by_its_density() -> None:
    """N(0, I) as a mixture gains nothing; another mixture what its log density gains on average."""
    model, x = perturbed()
    with torch.no_grad():
        found = bounds(model, model.observe(x), torch.randn(8, len(x), 3, dtype=torch.float64))
    nothing = found.prior_gain(Mixture.standard_normal(3))
    torch.testing.assert_close(nothing, torch.zeros_like(nothing), rtol=0.0, atol=1e-12)
    wider = Mixture(np.ones(1), np.zeros((1, 3)), 2.0 * np.eye(3)[None])
    expected = (0.375 * found.z.square().sum(-1)).mean(0) - 3.0 * math.log(2.0)
    torch.testing.assert_close(found.prior_gain(wider), expected)


def test_guesses_leave_the_rest_of_the_model_as_it_is() -> None:
    """Only the part of the encoder that reads missing points has a gradient, which pulls towards the draw."""
    x = torch.randn(60, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64)
    model = Vae.from_components(Architecture(12, 8, 3, 16, 2, sees_missing=True), principal_components(x))
    whole = model.observe(x, points=True)
    hidden = (torch.rand(60, 12) < 0.5).double()
    value = proposal_log_density(model, whole, model.mask(whole, hidden), torch.randn(60, 3, dtype=torch.float64))
    value.sum().backward()
    assert value.shape == (60,)
    for name, parameter in model.named_parameters():
        touched = parameter.grad is not None and bool((parameter.grad != 0.0).any())
        assert touched == name.startswith("partial_network.4"), name  # the last layer starts at zero
