"""Complete surfaces from a few points or quotes, with a standard deviation for every point.

The search for the mode of the posterior starts where the encoder reads the known points. At the mode the posterior is
taken as Gaussian (``vae.model.laplace``), and the decoder carries its mean and covariance to the surface. Errors that
are left at the known points give the residual of the other points, as far as residual factors relate them.
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
    posterior_mode,
)
from vae.model.noise_precision import NoisePrecision
from vae.model.point_posterior import PointProblem, encoded_mean, pose_points, posterior_given_points
from vae.model.quote_weights import QuoteInterpolator, QuoteWeights

MOST_STEPS = 30  # three are enough from ten quotes on
_ROWS = 64  # surfaces at a time: their Jacobians stay in the cache
_LEAST_VARIANCE = 1e-12  # smallest total variance of a quote; a spline may undershoot zero


class CompletedPoints(NamedTuple):
    """Surfaces or vectors given some of their points.

    Attributes:
        mean: of each point, [batch, D]; of a Bernoulli point its probability.
        std: of each point as it would be observed, its noise included, [batch, D]; the mean +- 1.645 of it is a 90 %
            interval.
        latents: mode of the posterior, [batch, latent].
        misfit: of the known points, [batch]; see ``vae.model.calibration``.
    """

    mean: Tensor
    std: Tensor
    latents: Tensor
    misfit: Tensor


class Beliefs(NamedTuple):
    """A normal law of the coordinates of a surface in the basis of the model, given known points or quotes.

    Attributes:
        coordinates: the most likely ones, [batch, R].
        covariance: as wide as intervals are, without independent noise, [batch, R, R].
    """

    coordinates: Tensor
    covariance: Tensor


class Mode(NamedTuple):
    """The mode of the posterior of the latents.

    Attributes:
        z: the mode, [batch, latent].
        misfit: of the known points there, [batch]; see ``vae.model.calibration``.
        covariance: of the posterior there, [batch, latent, latent].
        number: of the known points, [batch].
    """

    z: Tensor
    misfit: Tensor
    covariance: Tensor
    number: Tensor

    @property
    def left_open(self) -> Tensor:
        """Sum of the posterior variances of the latents, [batch]: about 0 where the points fix them."""
        return self.covariance.diagonal(dim1=1, dim2=2).sum(1)


def complete(model: Vae, x: Tensor, prior: LatentPrior | None = None) -> CompletedPoints:
    """Surfaces or vectors given the points of x [batch, D] that are not NaN.

    Known points get the model's mean too: they were observed with noise. The latents have the prior N(0, I) by default.
    """
    with torch.no_grad():
        parts = [_complete(model, rows, prior) for rows in x.split(_ROWS)]
    return CompletedPoints(*(torch.cat(part) for part in zip(*parts, strict=True)))


def keep_random_points(x: Tensor, count: int | Tensor, generator: torch.Generator) -> Tensor:
    """x [batch, D] with ``count`` random known points of each row, or all where fewer are known; NaN elsewhere.

    ``count`` may differ by row, [batch, 1].
    """
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
        weights: total variance at a quote is (vols squared) @ weights, [D, quote].
        reading: variance of the error of that reading, in the units of the model, [quote].
        precision: of the errors of the quotes; 0 for a quote that is not used, [1, quote].
        prior: of the latents; None is N(0, I).
    """

    quoted: Tensor
    tenor: Tensor
    weights: Tensor
    reading: Tensor
    precision: NoisePrecision
    prior: LatentPrior | None = None


class Errors(NamedTuple):
    """Errors of the model at known points, and their derivatives by the latents with the sign changed.

    Attributes:
        error: known points less the model's, [batch, point].
        jacobian: derivatives of the model's points by the latents, [batch, latent, point].
        precision: of the errors.
    """

    error: Tensor
    jacobian: Tensor
    precision: NoisePrecision


def complete_with_beliefs(model: Vae, x: Tensor) -> tuple[CompletedPoints, Beliefs]:
    """As ``complete``, and the laws of the coordinates of the surfaces, from one search."""
    with torch.no_grad():
        ends = (_end_at(model, rows, None) for rows in x.split(_ROWS))
        completions, beliefs = zip(*((completion_at(model, *at), belief_at(model, *at)) for at in ends), strict=True)
    return (
        CompletedPoints(*(torch.cat(part) for part in zip(*completions, strict=True))),
        Beliefs(*(torch.cat(part) for part in zip(*beliefs, strict=True))),
    )


def complete_quotes(
    model: Vae, interpolator: QuoteInterpolator, quotes: Quotes, prior: LatentPrior | None = None
) -> tuple[CompletedPoints, QuoteWeights]:
    """One surface, [1, D], given quotes anywhere inside the grid, and their weights; quotes outside are not used.

    The latents have the prior N(0, I) by default.
    """
    problem, start, weights = prepare_quotes(model, interpolator, quotes)
    problem = problem._replace(prior=prior)
    mode = posterior_mode(posterior_given_quotes(model, problem), start, steps=MOST_STEPS)
    return completion_at(model, *end_at_quotes(model, problem, mode)), weights


def end_at_quotes(model: Vae, problem: QuoteProblem, z: Tensor) -> tuple[Mode, Errors]:
    """The mode z [1, latent] given quotes, and the errors there."""
    errors = errors_at_quotes(model, problem, z)
    found = local_quadratic(z, *errors, problem.prior)
    number = (problem.precision.diagonal > 0.0).double().sum(1)
    return Mode(z, 2.0 * found.cost, linear_systems.inverse(found.curvature), number), errors


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
    start = encoded_mean(model, nearby.unsqueeze(0), (count == 0.0).to(nearby.dtype).unsqueeze(0))
    variance = model.scale_at(start).square()
    if model.architecture.scale != "shared":
        variance = variance.flatten() @ weights.linear
    reading = weights.variance / (quotes.iv.square() if model.architecture.transform == "log" else 1.0)
    variance = variance + quotes.weight * reading
    diagonal = torch.where(weights.inside, quotes.weight / variance, 0.0).unsqueeze(0)
    factors = model.residual_factors
    if factors is not None:
        factors = _vols_with_slopes(model, weights.spline, quotes.tenor, start, factors.T.unsqueeze(0))[1].mT
    precision = NoisePrecision.of(diagonal, factors)
    return QuoteProblem(model.inner(quotes.iv), quotes.tenor, weights.spline, reading, precision), start, weights


def posterior_given_quotes(model: Vae, problem: QuoteProblem) -> LogPosterior:
    """The log posterior of the latents of one surface, [1, latent], given quotes."""

    def at(z: Tensor) -> LocalQuadratic:
        return local_quadratic(z, *errors_at_quotes(model, problem, z), problem.prior)

    return at


def errors_at_quotes(model: Vae, problem: QuoteProblem, z: Tensor) -> Errors:
    """The errors at the quotes of the surface at latents z [1, latent]."""
    vols, jacobian = _vols_with_slopes(model, problem.weights, problem.tenor, z, None)
    return Errors(problem.quoted - vols, jacobian, problem.precision)


def _vols_with_slopes(
    model: Vae, weights: Tensor, tenor: Tensor, z: Tensor, directions: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Vols of the decoded surface at quotes in the units of the model, and their derivatives along directions.

    Args:
        model: of the surfaces.
        weights: of the quotes, [D, quote].
        tenor: of the quotes, [quote].
        z: latents, [1, latent].
        directions: in the points of a surface, [1, direction, D]; by default those of the latents.

    Returns:
        Vols [1, quote] and derivatives [1, direction, quote].
    """
    values, jacobian = model.decode_with_jacobian(z)
    points = model.expand(values)
    if directions is None:
        directions = jacobian @ model.basis.T
    logarithmic = model.architecture.transform == "log"
    squares = points.square().unsqueeze(1)
    # half the derivative of the squared vol by the point in the units of the model
    halves = squares if logarithmic else points.unsqueeze(1)
    at_quotes = torch.cat([squares, directions * halves], dim=1) @ weights
    vol = _vols(at_quotes[:, 0], tenor)
    slopes = at_quotes[:, 1:] / (vol * tenor).unsqueeze(1)
    return (vol.log(), slopes / vol.unsqueeze(1)) if logarithmic else (vol, slopes)


def completion_at(model: Vae, mode: Mode, errors: Errors | None) -> CompletedPoints:
    """Surfaces or vectors at the mode of the posterior.

    The probability of a Bernoulli point is the mean over the posterior of its logit, by MacKay's approximation.

    Args:
        model: of the surfaces or vectors.
        mode: of the latents given the known points.
        errors: at the known points there; a model without residual factors does not need them.

    Reference: MacKay (1992), "The evidence framework applied to classification networks", equation 10.
    """
    z = mode.z
    values, jacobian = model.decode_with_jacobian(z)
    factors = model.residual_factors
    factors = None if factors is None else factors.double()
    residual, variance = _given_errors((jacobian @ model.basis.T).double(), factors, mode, errors)
    natural = model.natural(values) + residual.to(z.dtype)
    if model.architecture.likelihood == "bernoulli":
        probability = (natural / (1.0 + math.pi / 8.0 * variance).sqrt()).sigmoid()
        std = (probability * (1.0 - probability)).sqrt()
        return CompletedPoints(probability.to(z.dtype), std.to(z.dtype), z, mode.misfit.to(z.dtype))
    widening = model.calibration.widening(mode.misfit, mode.number, mode.left_open).unsqueeze(1)
    std = (widening * (variance + model.scale_at(z).double().square()).sqrt()).to(z.dtype)
    mean = model.observed(natural)
    std = mean * std if model.architecture.transform == "log" else std
    return CompletedPoints(mean, std, z, mode.misfit.to(z.dtype))


def _given_errors(jacobian: Tensor, factors: Tensor | None, mode: Mode, errors: Errors | None) -> tuple[Tensor, Tensor]:
    """The residual and the variance of points, given the posterior and the errors of the known points, in float64.

    Args:
        jacobian: derivatives of the points by the latents, [batch, latent, point].
        factors: of their residual, [point, factor] or [batch, point, factor]; None where it is independent.
        mode: of the posterior.
        errors: at the known points, needed with factors.

    Returns:
        The mean of the residual and the variance of the points without independent noise, both [batch, point].
    """
    mean, left = torch.zeros_like(jacobian[:, 0]), torch.zeros_like(jacobian[:, 0])
    if factors is not None and errors is not None:
        mean, jacobian = _without_residual(jacobian, factors, errors)
        left = errors.precision.left(factors)
    return mean, (jacobian * (mode.covariance @ jacobian)).sum(1) + left


def _without_residual(jacobian: Tensor, factors: Tensor, errors: Errors) -> tuple[Tensor, Tensor]:
    """The mean residual of numbers given the errors, [batch, number], and their derivatives by the latents beside it.

    ``jacobian`` [batch, latent, number] has the derivatives of the numbers, ``factors`` those of their
    residuals, [number, factor] or [batch, number, factor].
    """
    rows = torch.cat([errors.error.unsqueeze(1), errors.jacobian], dim=1).double()
    found = errors.precision.scores(rows) @ factors.mT
    return found[:, 0], jacobian - found[:, 1:]


def belief_at(model: Vae, mode: Mode, errors: Errors | None) -> Beliefs:
    """The law of the coordinates of surfaces at the mode of the posterior, in float64.

    ``completion_at`` has the mean and the variances of points; here are the covariances too.
    """
    values, jacobian = model.decode_with_jacobian(mode.z)
    values, jacobian = values.double(), jacobian.double()
    factors, left = model.residual_coordinates, torch.zeros_like(jacobian[:, :1])
    if factors is not None and errors is not None:
        residual, jacobian = _without_residual(jacobian, factors.double(), errors)
        values, left = values + residual, errors.precision.covariance_left(factors.double())
    covariance = jacobian.mT @ mode.covariance @ jacobian + left
    widening = model.calibration.widening(mode.misfit, mode.number, mode.left_open)
    return Beliefs(values, widening.square()[:, None, None] * covariance)


def std_at_quotes(problem: QuoteProblem, mode: Mode, errors: Errors) -> Tensor:
    """Standard deviation of the completed surface at the quotes, [batch, quote], without the noise of quotes.

    It has the error of reading between points, is in the units of the model and not widened.
    """
    _, variance = _given_errors(errors.jacobian.double(), errors.precision.factors, mode, errors)
    return (variance + problem.reading).sqrt()


def vols_at(weights: Tensor, tenor: Tensor, points: Tensor) -> Tensor:
    """Vols [batch, quote] of surfaces [batch, D] at quotes with these spline weights [D, quote] and tenors [quote]."""
    return _vols(points.square() @ weights, tenor)


def _vols(total_variance: Tensor, tenor: Tensor) -> Tensor:
    return (total_variance.clamp_min(_LEAST_VARIANCE) / tenor).sqrt()


def _complete(model: Vae, x: Tensor, prior: LatentPrior | None) -> CompletedPoints:
    return completion_at(model, *_end_at(model, x, prior))


def _end_at(model: Vae, x: Tensor, prior: LatentPrior | None) -> tuple[Mode, Errors | None]:
    """The mode given the points of x [batch, D] that are not NaN, and the errors there."""
    problem, start = pose_points(model, x, x.isnan().to(x.dtype))
    return mode_given_points(model, problem._replace(prior=prior), start)


def mode_given_points(model: Vae, problem: PointProblem, start: Tensor) -> tuple[Mode, Errors | None]:
    """The mode given points, searched from latents ``start`` [batch, latent], and the errors there."""
    mode = posterior_mode(posterior_given_points(model, problem), start, steps=MOST_STEPS)
    return end_at_points(model, problem, mode)


def end_at_points(model: Vae, problem: PointProblem, z: Tensor) -> tuple[Mode, Errors | None]:
    """The mode z [batch, latent] given points, and the errors there; None without residual factors."""
    found = posterior_given_points(model, problem)(z)
    misfit = 2.0 * found.cost
    if model.architecture.scale == "decoded":  # there the cost has the log of the scale
        misfit = misfit - 2.0 * (problem.known * model.scale_at(z).log()).double().sum(1)
    mode = Mode(z, misfit, linear_systems.inverse(found.curvature), problem.known.double().sum(1))
    if problem.precision is None or problem.precision.factors is None:
        return mode, None
    values, jacobian = model.decode_with_jacobian(z)
    return mode, Errors(problem.points - model.natural(values), jacobian @ model.basis.T, problem.precision)
