"""Complete surfaces from a few points or quotes, with a standard deviation for every point.

The search for the mode of the posterior starts where the encoder reads the known points. At the mode the posterior is
taken as Gaussian (``vae.model.laplace``), and the decoder carries its mean and covariance to the surface.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import linear_systems
from vae.model.autoencoder import Vae
from vae.model.laplace import (
    LatentPrior,
    LocalQuadratic,
    LogPosterior,
    local_quadratic,
    posterior_given_points,
    posterior_mode,
)
from vae.model.quote_weights import QuoteInterpolator, QuoteWeights

MOST_STEPS = 30  # three are enough from ten quotes on
_ROWS = 512  # surfaces at a time: bounds the memory of their Jacobians
_LEAST_VARIANCE = 1e-12  # smallest total variance of a quote; a spline may undershoot zero


class Completion(NamedTuple):
    """Surfaces or vectors given some of their points.

    Attributes:
        mean: of each point, [batch, D]; of a Bernoulli point its probability.
        std: of each point as it would be observed, its noise included, [batch, D].
        latents: mode of the posterior, [batch, latent].
    """

    mean: Tensor
    std: Tensor
    latents: Tensor


def complete(model: Vae, x: Tensor, prior: LatentPrior | None = None) -> Completion:
    """Surfaces or vectors given the points of x [batch, D] that are not NaN.

    Known points get the model's mean too: they were observed with noise. The latents have the prior N(0, I) by default.
    """
    with torch.no_grad():
        parts = [_complete(model, rows, prior) for rows in x.split(_ROWS)]
    return Completion(*(torch.cat(part) for part in zip(*parts, strict=True)))


def keep_random_points(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """x [batch, D] with ``count`` random known points of each row, or all where fewer are known; NaN elsewhere."""
    order = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
    order = torch.where(x.isnan(), torch.inf, order)
    return torch.where(order.argsort(1).argsort(1) < count, x, torch.nan)


def random_points(x: Tensor, counts: Sequence[int], *, seed: int) -> Iterator[tuple[int, Tensor]]:
    """x [batch, D] with that many random known points of each row, for each of ``counts`` that x has points for.

    The same seed and counts give the same points.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    for count in (count for count in counts if count <= x.shape[1]):
        yield count, keep_random_points(x, count, generator)


class Quotes(NamedTuple):
    """Vols of single options, each [quote].

    Attributes:
        k: log-moneyness ln(K/F).
        tenor: years.
        iv: decimal vols.
        weight: precision of the noise of a quote, in units of that of a point of the data.
    """

    k: Tensor
    tenor: Tensor
    iv: Tensor
    weight: Tensor


class QuoteProblem(NamedTuple):
    """Quotes in the units of the model, and how they depend on the surface.

    Attributes:
        quoted: vols in the units of the model, [quote].
        tenor: years, [quote].
        weights: total variance at a quote is weights @ (vols squared), [quote, D].
        precision: of the noise of a quote; 0 for a quote that is not used, [1, quote].
        prior: of the latents; None is N(0, I).
    """

    quoted: Tensor
    tenor: Tensor
    weights: Tensor
    precision: Tensor
    prior: LatentPrior | None = None


def complete_quotes(
    model: Vae, interpolator: QuoteInterpolator, quotes: Quotes, prior: LatentPrior | None = None
) -> tuple[Completion, QuoteWeights]:
    """One surface, [1, D], given quotes anywhere inside the grid, and their weights; quotes outside are not used.

    The latents have the prior N(0, I) by default.
    """
    problem, start, weights = prepare_quotes(model, interpolator, quotes)
    problem = problem._replace(prior=prior)
    found = posterior_mode(posterior_given_quotes(model, problem), start, steps=MOST_STEPS)
    return completion_at(model, found.z, found.curvature), weights


def prepare_quotes(
    model: Vae, interpolator: QuoteInterpolator, quotes: Quotes
) -> tuple[QuoteProblem, Tensor, QuoteWeights]:
    """The problem that quotes pose, latents [1, latent] to start from, and the weights of the quotes.

    The start is the encoder's mean for a surface that has each quote at the nearest point of the grid. A noise that
    depends on the latents is that at the start.
    """
    weights = interpolator(quotes.k, quotes.tenor, quotes.iv)
    used = weights.inside.to(quotes.iv.dtype)
    zeros = used.new_zeros(model.architecture.dimension)
    count = zeros.scatter_add(0, weights.nearest, used)
    nearby = zeros.scatter_add(0, weights.nearest, used * quotes.iv) / count.clamp_min(1.0)
    start = _encoded_mean(model, nearby.unsqueeze(0), (count == 0.0).to(nearby.dtype).unsqueeze(0))
    variance = model.scale_at(start).square()
    if model.architecture.scale != "shared":
        variance = weights.linear @ variance.flatten()
    read = weights.variance / (quotes.iv.square() if model.architecture.transform == "log" else 1.0)
    variance = variance + quotes.weight * read
    precision = torch.where(weights.inside, quotes.weight / variance, 0.0).unsqueeze(0)
    return QuoteProblem(model.inner(quotes.iv), quotes.tenor, weights.spline, precision), start, weights


def posterior_given_quotes(model: Vae, problem: QuoteProblem) -> LogPosterior:
    """The log posterior of the latents of one surface, [1, latent], given quotes."""
    logarithmic = model.architecture.transform == "log"

    def at(z: Tensor) -> LocalQuadratic:
        values, jacobian = model.decode_with_jacobian(z)
        points, jacobian = model.expand(values), jacobian @ model.basis.T
        vol = vols_at(problem.weights, problem.tenor, points)
        halves = points * (points if logarithmic else 1.0)  # half the derivative of the squared vol by the inner point
        jacobian = (jacobian * halves.unsqueeze(1)) @ problem.weights.T / (vol * problem.tenor).unsqueeze(1)
        if logarithmic:
            error, jacobian = problem.quoted - vol.log(), jacobian / vol.unsqueeze(1)
        else:
            error = problem.quoted - vol
        return local_quadratic(z, error, jacobian, problem.precision, problem.prior)

    return at


def completion_at(model: Vae, z: Tensor, curvature: Tensor) -> Completion:
    """Surfaces or vectors at a mode z [batch, latent] of the posterior with this curvature [batch, latent, latent].

    The probability of a Bernoulli point is the mean over the posterior of its logit, by MacKay's approximation.

    Reference: MacKay (1992), "The evidence framework applied to classification networks", equation 10.
    """
    values, jacobian = model.decode_with_jacobian(z)
    jacobian = (jacobian @ model.basis.T).double()
    variance = (jacobian * (linear_systems.inverse(curvature) @ jacobian)).sum(1)
    if model.architecture.likelihood == "bernoulli":
        probability = (model.natural(values) / (1.0 + math.pi / 8.0 * variance).sqrt()).sigmoid()
        std = (probability * (1.0 - probability)).sqrt()
        return Completion(probability.to(z.dtype), std.to(z.dtype), z)
    mean, std = model.expand(values), (variance + model.scale_at(z).double().square()).sqrt().to(z.dtype)
    return Completion(mean, mean * std if model.architecture.transform == "log" else std, z)


def vols_at(weights: Tensor, tenor: Tensor, points: Tensor) -> Tensor:
    """Vols [batch, quote] of surfaces [batch, D] at quotes with these spline weights [quote, D] and tenors [quote]."""
    return ((points.square() @ weights.T).clamp_min(_LEAST_VARIANCE) / tenor).sqrt()


def _complete(model: Vae, x: Tensor, prior: LatentPrior | None) -> Completion:
    points, known, start = prepare_points(model, x, x.isnan().to(x.dtype))
    found = posterior_mode(posterior_given_points(model, points, known, prior), start, steps=MOST_STEPS)
    return completion_at(model, found.z, found.curvature)


def prepare_points(model: Vae, x: Tensor, missing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points in the units of the model, 1 where a point is known, both [batch, D], and latents to start from.

    ``missing`` [batch, D] is 1 where a point is missing; x may hold any number there.
    """
    known = 1.0 - missing
    points = torch.where(known > 0.0, model.inner(torch.where(known > 0.0, x, 1.0)), model.center)
    return points, known, _encoded_mean(model, x, missing)


def _encoded_mean(model: Vae, x: Tensor, missing: Tensor) -> Tensor:
    """The encoder's mean, [batch, latent]; the mean of the prior where the encoder cannot read missing points."""
    if not model.architecture.sees_missing:
        return model.center.new_zeros(len(x), model.architecture.latents)
    seen = model.read(x, missing)
    return model.encode(seen.values, missing).mean
