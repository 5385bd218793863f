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

from vae.model import linear_systems
from vae.model.autoencoder import Vae
from vae.model.quote_weights import Reader, Readings

MOST_STEPS = 30  # three are enough from ten quotes on
_DAMPING = 1e-3  # at the start, in units of the curvature
_EASIER, _HARDER = 0.1, 5.0  # damping after a step that helped, and after one that did not
_DAMPINGS = (1e-9, 1e9)
_SETTLED, _ROUNDED = 1e-3, 1e-4  # nats, and share of the cost: what it changes by when an iteration ends
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


class State(NamedTuple):
    """Where an iteration stands: latents, their fit, the damping and by how much the last step changed the cost."""

    z: Tensor
    cost: Tensor
    slope: Tensor
    curvature: Tensor
    damping: Tensor
    change: Tensor

    @property
    def moving(self) -> Tensor:
        """Whether any row still moves, a bool []."""
        return (self.change > _SETTLED + _ROUNDED * self.cost).any()


def begin(fit: Callable[[Tensor], Fit], z: Tensor) -> State:
    """An iteration at z [batch, latent] before its first step."""
    start = fit(z)
    return State(z, *start, torch.full_like(start.cost, _DAMPING), torch.full_like(start.cost, torch.inf))


def improve(fit: Callable[[Tensor], Fit], now: State) -> State:
    """One iteration: a damped step, which is taken where it helps."""
    diagonal = torch.diag_embed(now.curvature.diagonal(dim1=1, dim2=2))
    damped = now.curvature + now.damping[:, None, None] * diagonal
    z = now.z + linear_systems.solve(damped, now.slope.unsqueeze(2))[..., 0].to(now.z.dtype)
    found = fit(z)
    better = found.cost < now.cost
    damping = torch.where(better, _EASIER * now.damping, _HARDER * now.damping).clamp(*_DAMPINGS)
    return State(
        torch.where(better[:, None], z, now.z),
        torch.where(better, found.cost, now.cost),
        torch.where(better[:, None], found.slope, now.slope),
        torch.where(better[:, None, None], found.curvature, now.curvature),
        damping,
        (found.cost - now.cost).abs(),
    )


def most_probable(fit: Callable[[Tensor], Fit], z: Tensor, *, steps: int) -> State:
    """The latents [batch, latent] of least cost near z, and the fit there, after so many steps at most."""
    state = begin(fit, z)
    for _ in range(steps):
        if not torch.compiler.is_exporting() and not state.moving:
            break  # a graph has no such choice: there a step that does not help leaves the latents alone
        state = improve(fit, state)
    return state


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


class Posed(NamedTuple):
    """Quotes as the model sees them.

    Attributes:
        quoted: vols in the model's units, [quote].
        tenor: years, [quote].
        weights: total variance at a quote is weights @ (vols squared), [quote, D].
        precision: 0 for a quote that is not used, [1, quote].
    """

    quoted: Tensor
    tenor: Tensor
    weights: Tensor
    precision: Tensor


def complete_quotes(model: Vae, reader: Reader, quotes: Quotes) -> tuple[Completion, Readings]:
    """One surface, [1, D], given quotes anywhere that the grid encloses, and where they lie; others are not used."""
    posed, guess, readings = pose(model, reader, quotes)
    found = most_probable(fit_to_quotes(model, posed), guess, steps=MOST_STEPS)
    return completion(model, found.z, found.curvature), readings


def pose(model: Vae, reader: Reader, quotes: Quotes) -> tuple[Posed, Tensor, Readings]:
    """Quotes as the model sees them, latents [1, latent] to start from, and where the quotes lie.

    The start is where the encoder reads the quotes as if each stood at the nearest point of the grid.
    """
    readings = reader(quotes.k, quotes.tenor, quotes.iv)
    variance = model.scale.square()
    if model.architecture.scale == "point":
        variance = readings.hats @ variance
    precision = torch.where(readings.reached, quotes.weight / variance, 0.0).unsqueeze(0)
    live = readings.reached.to(quotes.iv.dtype)
    nothing = live.new_zeros(model.architecture.dimension)
    share = nothing.scatter_add(0, readings.nearest, live)
    nearby = nothing.scatter_add(0, readings.nearest, live * quotes.iv) / share.clamp_min(1.0)
    guess = _guess(model, nearby.unsqueeze(0), (share == 0.0).to(nearby.dtype).unsqueeze(0))
    return Posed(model.inner(quotes.iv), quotes.tenor, readings.weights, precision), guess, readings


def fit_to_quotes(model: Vae, posed: Posed) -> Callable[[Tensor], Fit]:
    """The fit of one surface, z [1, latent], to quotes."""
    logarithmic = model.architecture.transform == "log"

    def fit(z: Tensor) -> Fit:
        values, slopes = model.decode_with_jacobian(z)
        points, slopes = model.expand(values), slopes @ model.basis.T
        vol = vols_at(posed.weights, posed.tenor, points)
        halves = points * (points if logarithmic else 1.0)  # half the derivative of the squared vol by the inner point
        slopes = (slopes * halves.unsqueeze(1)) @ posed.weights.T / (vol * posed.tenor).unsqueeze(1)
        if logarithmic:
            return _fit(z, posed.quoted - vol.log(), slopes / vol.unsqueeze(1), posed.precision)
        return _fit(z, posed.quoted - vol, slopes, posed.precision)

    return fit


def completion(model: Vae, z: Tensor, curvature: Tensor) -> Completion:
    """Every point at latents z [batch, latent], uncertain as their curvature [batch, latent, latent] leaves it."""
    values, slopes = model.decode_with_jacobian(z)
    slopes = (slopes @ model.basis.T).double()
    variance = (slopes * (linear_systems.inverse(curvature) @ slopes)).sum(1) + model.scale.double().square()
    mean, std = model.expand(values), variance.sqrt().to(z.dtype)
    return Completion(mean, mean * std if model.architecture.transform == "log" else std, z)


def vols_at(weights: Tensor, tenor: Tensor, points: Tensor) -> Tensor:
    """Vols [batch, quote] of surfaces [batch, D] where quotes with such weights [quote, D] lie."""
    return ((points.square() @ weights.T).clamp_min(_LEAST_VARIANCE) / tenor).sqrt()


def log_evidence(model: Vae, x: Tensor, missing: Tensor | None, *, steps: int) -> Tensor:
    """log p of the known points of x [batch, D] by Laplace's approximation, nats of the density of the data, [batch].

    Unlike a bound at the encoder's posterior it does not fall where the encoder misses.
    """
    seen = model.read(x, missing)
    known = torch.ones_like(x) if missing is None else 1.0 - missing
    inner = torch.where(known > 0.0, model.inner(torch.where(known > 0.0, x, 1.0)), model.center)
    start = model.encode(seen.values, seen.missing).mean
    found = most_probable(_fit_to_points(model, inner, known), start, steps=steps)
    noise = (known * (model.scale.log() + _HALF_LOG_TWO_PI)).double().sum(1)
    log_determinant = linear_systems.cholesky(found.curvature).diagonal(dim1=1, dim2=2).log().sum(1)
    evidence = -found.cost - noise - log_determinant
    return (evidence if seen.log_slope is None else evidence + seen.log_slope).to(x.dtype)


def _complete(model: Vae, x: Tensor) -> Completion:
    missing = x.isnan()
    inner = torch.where(missing, model.center, model.inner(x))
    fit = _fit_to_points(model, inner, (~missing).to(x.dtype))
    found = most_probable(fit, _guess(model, x, missing.to(x.dtype)), steps=MOST_STEPS)
    return completion(model, found.z, found.curvature)


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
