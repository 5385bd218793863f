"""Whole surfaces from a few points or quotes: the latents that explain them best, and what they leave uncertain.

The posterior of the latents given the quotes is found by Levenberg and Marquardt's iteration from the encoder's guess
and taken as Gaussian there (Laplace), so that every point gets a mean and a standard deviation.

Reference: Levenberg (1944), Marquardt (1963); MacKay (1992), "A practical Bayesian framework for backpropagation
networks", section 3 (Laplace's approximation).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae import elimination
from vae.model import Vae
from vae.reading import Reader, Readings

_ITERATIONS = 30
_DAMPING = 1e-3  # at the start, in units of the curvature
_EASIER, _HARDER = 0.1, 5.0  # damping after a step that helped, and after one that did not
_DAMPINGS = (1e-9, 1e9)
_SETTLED = 1e-4  # nats: the change of the cost at which an iteration ends
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_ROWS = 512  # surfaces at a time: bounds the memory of their Jacobians
_LEAST_VARIANCE = 1e-12  # total variance of a quote, below which a spline has swung


class Completion(NamedTuple):
    """Surfaces given some of their points.

    Attributes:
        mean: of each point, [batch, D].
        std: of each point as it would be quoted, the noise of the observation included, [batch, D].
        latents: the most probable ones, [batch, latent].
    """

    mean: Tensor
    std: Tensor
    latents: Tensor


class Fit(NamedTuple):
    """Minus the log posterior of latents up to a constant, in float64, with its slope and Gauss-Newton curvature.

    Attributes:
        cost: [batch].
        slope: minus its derivatives, [batch, latent].
        curvature: J'PJ + I for the Jacobian J and the precisions P of what was quoted, [batch, latent, latent].
    """

    cost: Tensor
    slope: Tensor
    curvature: Tensor


def complete(model: Vae, x: Tensor) -> Completion:
    """Surfaces given the points of x [batch, D] that are not NaN; the noise must be Gaussian.

    Also the known points get the model's mean: they were quoted with noise.

    Raises:
        ValueError: the likelihood is not Gaussian.
    """
    check_gaussian(model)
    with torch.no_grad():
        parts = [_complete(model, rows) for rows in x.split(_ROWS)]
    return Completion(*(torch.cat(part) for part in zip(*parts, strict=True)))


def check_gaussian(model: Vae) -> None:
    """Raise ValueError for a model whose surfaces cannot be completed."""
    if model.architecture.likelihood != "gaussian":
        raise ValueError(f"completion needs a gaussian likelihood, not {model.architecture.likelihood}")


def hide(x: Tensor, known: int, generator: torch.Generator) -> Tensor:
    """x [batch, D] with all but ``known`` random points of each row hidden: NaN. Fewer where fewer are known."""
    order = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
    order = torch.where(x.isnan(), torch.inf, order)
    return torch.where(order.argsort(1).argsort(1) < known, x, torch.nan)


class _State(NamedTuple):
    """Where an iteration stands: latents, their fit, damping and what the last step changed."""

    z: Tensor
    cost: Tensor
    slope: Tensor
    curvature: Tensor
    damping: Tensor
    change: Tensor


def most_probable(fit: Callable[[Tensor], Fit], z: Tensor, *, iterations: int) -> tuple[Tensor, Fit]:
    """The latents [batch, latent] of least cost near z, and the fit there, after so many iterations at most."""
    start = fit(z)
    number = torch.full_like(start.cost, _DAMPING)
    state = _State(z, *start, number, torch.ones_like(number))

    for _ in range(iterations):
        if not torch.compiler.is_exporting() and not (state.change > _SETTLED).any():
            break  # a graph has no such choice: there a step that does not help leaves the latents alone
        state = _improved(fit, state)
    return state.z, Fit(state.cost, state.slope, state.curvature)


def _improved(fit: Callable[[Tensor], Fit], now: _State) -> _State:
    """One iteration: a damped step, which is taken where it helps."""
    diagonal = torch.diag_embed(now.curvature.diagonal(dim1=1, dim2=2))
    damped = now.curvature + now.damping[:, None, None] * diagonal
    z = now.z + elimination.solve(damped, now.slope.unsqueeze(2))[..., 0].to(now.z.dtype)
    found = fit(z)
    better = found.cost < now.cost
    damping = torch.where(better, _EASIER * now.damping, _HARDER * now.damping).clamp(*_DAMPINGS)
    return _State(
        torch.where(better[:, None], z, now.z),
        torch.where(better, found.cost, now.cost),
        torch.where(better[:, None], found.slope, now.slope),
        torch.where(better[:, None, None], found.curvature, now.curvature),
        damping,
        (found.cost - now.cost).abs(),
    )


class Quotes(NamedTuple):
    """Vols of single options, each [quote].

    Attributes:
        k: log-moneyness ln(K/F).
        tenor: years.
        iv: decimal vols.
        weight: 1 for the noise of a point of the data, w for a 1/w of its variance.
    """

    k: Tensor
    tenor: Tensor
    iv: Tensor
    weight: Tensor


def complete_quotes(model: Vae, reader: Reader, quotes: Quotes, *, iterations: int) -> tuple[Completion, Readings]:
    """One surface, [1, D], given quotes anywhere that the grid encloses, and where they lie; others are not used.

    The iteration starts where the encoder reads the quotes as if each stood at the nearest point of the grid.
    """
    readings = reader(quotes.k, quotes.tenor, quotes.iv)
    live = readings.reached.to(quotes.iv.dtype)
    fit = _fit_to_quotes(model, readings, quotes)
    points = torch.arange(model.architecture.dimension, device=live.device)
    nearest = (readings.nearest.unsqueeze(1) == points).to(live.dtype)
    share = live.unsqueeze(0) @ nearest
    nearby = (live * quotes.iv).unsqueeze(0) @ nearest / share.clamp_min(1.0)
    z, found = most_probable(fit, _guess(model, nearby, (share == 0.0).to(nearby.dtype)), iterations=iterations)
    return _completion(model, z, found), readings


def vols_at(readings: Readings, tenor: Tensor, points: Tensor) -> Tensor:
    """Vols [batch, quote] of surfaces [batch, D] where quotes lie."""
    return ((points.square() @ readings.weights.T).clamp_min(_LEAST_VARIANCE) / tenor).sqrt()


def _fit_to_quotes(model: Vae, readings: Readings, quotes: Quotes) -> Callable[[Tensor], Fit]:
    variance = model.scale.square()
    if model.architecture.scale == "point":
        variance = readings.hats @ variance
    precision = torch.where(readings.reached, quotes.weight / variance, 0.0).unsqueeze(0)
    logarithmic = model.architecture.transform == "log"
    quoted = model.inner(quotes.iv)

    def fit(z: Tensor) -> Fit:
        values, slopes = model.decode_with_jacobian(z)
        points, slopes = model.expand(values), slopes @ model.basis.T
        vol = vols_at(readings, quotes.tenor, points)
        halves = points * (points if logarithmic else 1.0)  # half the derivative of the squared vol by the inner point
        slopes = (slopes * halves.unsqueeze(1)) @ readings.weights.T / (vol * quotes.tenor).unsqueeze(1)
        if logarithmic:
            return _fit(z, quoted - vol.log(), slopes / vol.unsqueeze(1), precision)
        return _fit(z, quoted - vol, slopes, precision)

    return fit


def log_evidence(model: Vae, x: Tensor, missing: Tensor | None, *, iterations: int) -> Tensor:
    """log p of the known points of x [batch, D] by Laplace's approximation, nats of the density of the data, [batch].

    Unlike a bound at the encoder's posterior it does not fall where the encoder misses.
    """
    seen = model.read(x, missing)
    known = torch.ones_like(x) if missing is None else 1.0 - missing
    inner = torch.where(known > 0.0, model.inner(torch.where(known > 0.0, x, 1.0)), model.center)
    start = model.encode(seen.values, seen.missing).mean
    _, found = most_probable(_fit_to_points(model, inner, known), start, iterations=iterations)
    noise = (known * (model.scale.log() + _HALF_LOG_TWO_PI)).double().sum(1)
    log_determinant = elimination.cholesky(found.curvature).diagonal(dim1=1, dim2=2).log().sum(1)
    evidence = -found.cost - noise - log_determinant
    return (evidence if seen.log_slope is None else evidence + seen.log_slope).to(x.dtype)


def _complete(model: Vae, x: Tensor) -> Completion:
    missing = x.isnan()
    inner = torch.where(missing, model.center, model.inner(x))
    fit = _fit_to_points(model, inner, (~missing).to(x.dtype))
    z, found = most_probable(fit, _guess(model, x, missing.to(x.dtype)), iterations=_ITERATIONS)
    return _completion(model, z, found)


def _fit_to_points(model: Vae, inner: Tensor, known: Tensor) -> Callable[[Tensor], Fit]:
    """The fit of surfaces, z [batch, latent], to points in the model's units where ``known`` is 1, both [batch, D]."""
    precision = known / model.scale.square()

    def fit(z: Tensor) -> Fit:
        values, slopes = model.decode_with_jacobian(z)
        return _fit(z, inner - model.natural(values), slopes @ model.basis.T, precision)

    return fit


def _guess(model: Vae, x: Tensor, missing: Tensor) -> Tensor:
    """The encoder's guess; where it knows nothing of missing points, the mean of the prior. Latents [batch, latent]."""
    if not model.architecture.sees_missing:
        return model.center.new_zeros(len(x), model.architecture.latents)
    seen = model.read(x, missing)
    return model.encode(seen.values, missing).mean


def _fit(z: Tensor, error: Tensor, slopes: Tensor, precision: Tensor) -> Fit:
    """The fit at z [batch, latent] of errors [batch, point] with derivatives of the points [batch, latent, point]."""
    z, error, slopes, precision = z.double(), error.double(), slopes.double(), precision.double()
    weighted = slopes * precision.unsqueeze(1)
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return Fit(
        cost=0.5 * ((error.square() * precision).sum(1) + z.square().sum(1)),
        slope=(weighted @ error.unsqueeze(2))[..., 0] - z,
        curvature=weighted @ slopes.transpose(1, 2) + identity,
    )


def _completion(model: Vae, z: Tensor, found: Fit) -> Completion:
    """Every point at the latents of a fit."""
    values, slopes = model.decode_with_jacobian(z)
    slopes = (slopes @ model.basis.T).double()
    variance = (slopes * (elimination.inverse(found.curvature) @ slopes)).sum(1) + model.scale.double().square()
    mean, std = model.expand(values), variance.sqrt().to(z.dtype)
    return Completion(mean, mean * std if model.architecture.transform == "log" else std, z)
