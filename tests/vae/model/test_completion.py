import numpy as np
import pytest
import torch

from vae.model.autoencoder import Architecture, Vae
from vae.model.completion import Quotes, complete, complete_quotes, keep_random_points
from vae.model.laplace import LatentPrior
from vae.model.linear import PrincipalComponents, principal_components
from vae.model.quote_weights import QuoteInterpolator
from vae.pricing import heston_surfaces
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError


def linear(
    rows: int = 4000, scale: str = "shared", transform: str = "none"
) -> tuple[Vae, PrincipalComponents, torch.Tensor]:
    """A model without networks, its components and data that it fits: three factors, ten points and noise."""
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64) @ mix
    size = torch.linspace(0.1, 0.4, 10, dtype=torch.float64) if scale == "point" else 0.2
    x = x + size * torch.randn(rows, 10, generator=generator, dtype=torch.float64)
    components = principal_components(x)
    architecture = Architecture(10, 10, 3, 4, 0, scale=scale, transform=transform, sees_missing=True)  # type: ignore[arg-type]
    return Vae.from_components(architecture, components), components, x


def test_a_linear_model_completes_by_the_exact_conditional_mean_and_variance() -> None:
    """Against the formulas of a joint Gaussian, with its covariance written out."""
    model, components, x = linear()
    seen = keep_random_points(x[:20], 4, torch.Generator().manual_seed(2))

    found = complete(model, seen)

    noise = components.noise_variance(3)
    loadings = components.vectors[:, :3] * (components.variances[:3] - noise).sqrt()
    signal = loadings @ loadings.T
    for row, (mean, std) in enumerate(zip(found.mean, found.std, strict=True)):
        known = ~seen[row].isnan()
        gain = signal[:, known] @ torch.linalg.inv(signal[known][:, known] + noise * torch.eye(4, dtype=torch.float64))
        expected = components.mean + gain @ (seen[row] - components.mean)[known]
        variance = (signal - gain @ signal[known]).diagonal() + noise
        torch.testing.assert_close(mean, expected, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(std, variance.sqrt(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.mean, components.complete(seen, 3), rtol=1e-7, atol=1e-9)


def test_a_prior_moves_a_linear_completion_to_the_exact_conditional_mean() -> None:
    """The formulas of a joint Gaussian whose latents are N(m, S) instead of N(0, I)."""
    model, components, x = linear()
    seen = keep_random_points(x[:20], 4, torch.Generator().manual_seed(2))
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    spread = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.3]], dtype=torch.float64)

    found = complete(model, seen, LatentPrior(shift, spread.inverse()))

    noise = components.noise_variance(3)
    with torch.no_grad():
        loadings = (model.expand(model.decode(torch.eye(3, dtype=torch.float64))) - model.center).T
    signal, center = loadings @ spread @ loadings.T, components.mean + loadings @ shift
    for row, mean, std in zip(seen, found.mean, found.std, strict=True):
        known = ~row.isnan()
        gain = signal[:, known] @ torch.linalg.inv(signal[known][:, known] + noise * torch.eye(4, dtype=torch.float64))
        variance = (signal - gain @ signal[known]).diagonal() + noise
        expected = center + gain @ (row - center)[known]
        torch.testing.assert_close(mean, expected, rtol=0.0, atol=1e-5)  # the search ends within 0.001 nats
        torch.testing.assert_close(std, variance.sqrt(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("scale", "transform"), [("shared", "none"), ("point", "none"), ("point", "log")])
def test_intervals_cover_what_they_say(scale: str, transform: str) -> None:
    """The shares of hidden points inside 50, 90 and 99 % intervals, within five standard errors."""
    model, _, x = linear(scale=scale, transform="none")
    if transform == "log":
        logs, x = x, (0.1 * x).exp()
        model = Vae.from_components(
            Architecture(10, 10, 3, 4, 0, scale="point", transform="log", sees_missing=True),
            principal_components(0.1 * logs),
        )
    seen = keep_random_points(x, 4, torch.Generator().manual_seed(3))
    found = complete(model, seen)
    hidden = seen.isnan()
    error = (x - found.mean) if transform == "none" else found.mean * (x / found.mean).log()
    for share, reach in ((0.5, 0.6745), (0.9, 1.6449), (0.99, 2.5758)):
        inside = (error.abs() <= reach * found.std)[hidden].double().mean().item()
        assert inside == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 4000))


def test_the_latents_are_a_maximum_of_the_posterior() -> None:
    """A nonlinear model: no direction nearby is more probable, and more points leave less uncertain."""
    generator = torch.Generator().manual_seed(4)
    grid = Grid(np.array([0.1, 0.5, 1.0]), np.linspace(-0.3, 0.3, 5))
    theta = torch.tensor([0.04, 2.0, 0.06, 0.5, -0.5]) * (0.7 + 0.6 * torch.rand(400, 5, generator=generator))
    x = heston_surfaces.surfaces(theta.double(), grid).vol.flatten(1)
    model = Vae.from_components(Architecture(15, 10, 3, 16, 2), principal_components(x))
    with torch.no_grad():
        for parameter in model.decoder_network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        model.log_scale.fill_(-6.0)
    model.architecture = Architecture(15, 10, 3, 16, 2, sees_missing=False)
    few, many = (keep_random_points(x[:50], count, torch.Generator().manual_seed(5)) for count in (3, 12))

    found = complete(model, few)

    def cost(z: torch.Tensor) -> torch.Tensor:
        error = torch.nan_to_num(few - model.expand(model.decode(z))) / model.scale
        return 0.5 * (error.square().sum(1) + z.square().sum(1))

    with torch.no_grad():
        least = cost(found.latents)
        for _ in range(50):
            moved = found.latents + 1e-3 * torch.randn(found.latents.shape, generator=generator, dtype=torch.float64)
            assert (cost(moved) >= least - 1e-9).all()
    assert complete(model, many).std.mean() < found.std.mean()


def test_the_requested_number_of_known_points_is_kept() -> None:
    x = torch.rand(30, 8, dtype=torch.float64)
    x[:, 0] = torch.nan
    x[0, :6] = torch.nan
    seen = keep_random_points(x, 5, torch.Generator().manual_seed(6))
    counts = (~seen.isnan()).sum(1)
    assert counts.tolist() == [2] + [5] * 29
    assert ((seen == x) | seen.isnan()).all()


@pytest.mark.parametrize(("scale", "transform"), [("shared", "none"), ("point", "none"), ("point", "log")])
def test_quotes_on_the_grid_are_points(scale: str, transform: str) -> None:
    """Some points of a surface as quotes: the same completion as of the surface with holes."""
    grid = Grid(np.array([0.1, 0.5]), np.linspace(-0.2, 0.2, 5), "log_moneyness")
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    x = 0.2 + 0.01 * torch.randn(500, 3, generator=generator, dtype=torch.float64) @ mix
    x = (x + 0.001 * torch.randn(500, 10, generator=generator, dtype=torch.float64)).clamp_min(0.05)
    inner = x.log() if transform == "log" else x
    architecture = Architecture(10, 10, 3, 4, 0, scale=scale, transform=transform, sees_missing=True)  # type: ignore[arg-type]
    model = Vae.from_components(architecture, principal_components(inner))
    k = torch.from_numpy(np.broadcast_to(grid.log_moneyness, grid.shape).copy()).flatten()
    tenor = torch.from_numpy(np.repeat(grid.tenors, 5))
    for seen in keep_random_points(x[:10], 4, generator):
        known = ~seen.isnan()
        quotes = Quotes(k[known], tenor[known], seen[known], torch.ones(4, dtype=torch.float64))
        with torch.no_grad():
            found, weights = complete_quotes(model, QuoteInterpolator(grid), quotes)
        expected = complete(model, seen.unsqueeze(0))
        assert weights.inside.all()
        torch.testing.assert_close(found.mean, expected.mean, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found.std, expected.std, rtol=1e-5, atol=1e-7)


def test_a_weight_is_a_number_of_equal_quotes() -> None:
    """A quote of weight 2 is the same quote twice."""
    grid = Grid(np.array([0.1, 0.5]), np.linspace(-0.2, 0.2, 5), "log_moneyness")
    model, _, x = linear()
    model = Vae.from_components(model.architecture, principal_components(0.2 + 0.01 * x))
    k, tenor, iv = (torch.tensor(part).double() for part in ([0.05, -0.1], [0.3, 0.1], [0.21, 0.25]))
    once = Quotes(k, tenor, iv, torch.tensor([2.0, 1.0]).double())
    twice = Quotes(*(torch.cat([part[:1], part]) for part in (k, tenor, iv)), torch.ones(3).double())
    with torch.no_grad():
        one, other = (complete_quotes(model, QuoteInterpolator(grid), quotes)[0] for quotes in (once, twice))
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(one.std, other.std, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("transform", ["none", "log"])
def test_the_error_of_reading_adds_to_the_noise_of_a_quote(transform: str) -> None:
    """A quote between tenors counts as one of smaller weight, whose noise has the variance of both."""
    grid = Grid(np.array([0.1, 0.5]), np.linspace(-0.2, 0.2, 5), "log_moneyness")
    _, _, x = linear()
    inner = 0.2 + 0.01 * x
    inner = inner.log() if transform == "log" else inner
    architecture = Architecture(10, 10, 3, 4, 0, transform=transform)  # type: ignore[arg-type]
    model = Vae.from_components(architecture, principal_components(inner))
    k, tenor, iv, weight = (torch.tensor([part], dtype=torch.float64) for part in (0.1, 0.3, 0.21, 2.0))
    error = ReadingError(np.full((1, 5), 0.004), np.zeros((2, 4)))
    with torch.no_grad():
        found, weights = complete_quotes(model, QuoteInterpolator(grid, error), Quotes(k, tenor, iv, weight))
        noise = model.scale_at(torch.zeros(1, 3).double()).square().mean() / weight
        added = weights.variance / (iv.square() if transform == "log" else 1.0)
        assert added > 0.1 * noise
        less = Quotes(k, tenor, iv, weight * noise / (noise + added))
        expected, _ = complete_quotes(model, QuoteInterpolator(grid), less)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.std, expected.std, rtol=1e-9, atol=1e-12)
