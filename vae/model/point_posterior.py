"""The posterior of the latents given known points, and Laplace's approximation of the evidence of those points."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import laplace, linear_systems
from vae.model.autoencoder import Vae
from vae.model.laplace import (
    LatentPrior,
    LocalQuadratic,
    LogPosterior,
    local_quadratic,
    local_quadratic_of_binary,
)
from vae.model.noise_precision import NoisePrecision

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class PointProblem(NamedTuple):
    """Known points, in the units of the model.

    Attributes:
        points: the centre where a point is missing, [batch, D].
        known: 1 where a point is known, else 0, [batch, D].
        precision: of their errors; None where it depends on the latents, as with the scale ``decoded``, and for
            Bernoulli points.
        prior: of the latents; None is N(0, I).
    """

    points: Tensor
    known: Tensor
    precision: NoisePrecision | None = None
    prior: LatentPrior | None = None


def pose_points(model: Vae, x: Tensor, missing: Tensor | None) -> tuple[PointProblem, Tensor]:
    """The problem that the known points of x [batch, D] pose, and latents [batch, latent] to start from.

    ``missing`` [batch, D] is 1 where a point is missing; x may hold any number there. None: all points are known. The
    start is the encoder's mean, and the mean of N(0, I) where the encoder cannot read missing points.
    """
    known = torch.ones_like(x) if missing is None else 1.0 - missing
    points = torch.where(known > 0.0, model.inner(torch.where(known > 0.0, x, 1.0)), model.center)
    problem = PointProblem(points, known, model.precision_of_points(known) if model.noise_is_fixed else None)
    return problem, encoded_mean(model, x, missing)


def encoded_mean(model: Vae, x: Tensor, missing: Tensor | None) -> Tensor:
    """The encoder's mean, [batch, latent]; the mean of N(0, I) where the encoder cannot read missing points."""
    if missing is not None and not model.architecture.sees_missing:
        return model.center.new_zeros(len(x), model.architecture.latents)
    seen = model.read(x, missing)
    return model.encode(seen.values, seen.missing).mean


def posterior_given_points(model: Vae, problem: PointProblem) -> LogPosterior:
    """The log posterior of the latents given known points."""
    points, known, precision, prior = problem
    if model.architecture.likelihood == "bernoulli":
        return _given_binary_points(model, points, known, prior)
    if precision is None:
        return _given_points_of_own_scale(model, points, known, prior)

    def at(z: Tensor) -> LocalQuadratic:
        values, jacobian = model.decode_with_jacobian(z)
        return local_quadratic(z, points - model.natural(values), jacobian @ model.basis.T, precision, prior)

    return at


def _given_points_of_own_scale(model: Vae, points: Tensor, known: Tensor, prior: LatentPrior | None) -> LogPosterior:
    """As ``posterior_given_points`` where the noise depends on the latents; its curvature is Fisher's information."""

    def at(z: Tensor) -> LocalQuadratic:
        values, jacobian = model.decode_with_jacobian(z)
        scale, own = (part.double() for part in model.scale_with_jacobian(z))
        error = points - model.natural(values)
        precision = NoisePrecision(known / scale.square())
        found = local_quadratic(z, error, jacobian @ model.basis.T, precision, prior)
        seen, own = known.double(), own * known.double().unsqueeze(1)
        pull = own @ ((error.double() / scale).square() - 1.0).unsqueeze(2)
        return LocalQuadratic(
            found.cost + (seen * scale.log()).sum(1),
            found.slope + pull[..., 0],
            found.curvature + 2.0 * own @ own.transpose(1, 2),
        )

    return at


def _given_binary_points(model: Vae, points: Tensor, known: Tensor, prior: LatentPrior | None) -> LogPosterior:
    def at(z: Tensor) -> LocalQuadratic:
        values, jacobian = model.decode_with_jacobian(z)
        return local_quadratic_of_binary(z, points, model.natural(values), jacobian @ model.basis.T, known, prior)

    return at


def log_evidence(model: Vae, x: Tensor, missing: Tensor | None, *, steps: int) -> Tensor:
    """Laplace's approximation of log p of the known points of x [batch, D], in nats of the density of x, [batch].

    A bound at the encoder's posterior is low where the encoder is wrong; the evidence is not.

    Args:
        model: of points of either likelihood; with missing points, one that reads them.
        x: any number where a point is missing.
        missing: 1 where a point is missing, [batch, D]; None where none is.
        steps: of the search for the mode, which takes all of them: no row depends on the others.
    """
    problem, start = pose_points(model, x, missing)
    found = laplace.search(posterior_given_points(model, problem), start, steps=steps)
    return evidence_at(model, problem, found.cost, found.curvature)


def evidence_at(model: Vae, problem: PointProblem, cost: Tensor, curvature: Tensor) -> Tensor:
    """The evidence of known points, [batch], from cost [batch] and curvature [batch, latent, latent] at the mode."""
    known = problem.known.double()
    evidence = -cost - 0.5 * linear_systems.log_determinant(curvature)
    if model.architecture.likelihood == "gaussian":
        evidence = evidence - _HALF_LOG_TWO_PI * known.sum(1)
    if problem.precision is not None:  # else the cost has it
        evidence = evidence - (known * model.scale.log()).sum(1) - 0.5 * problem.precision.log_determinant
    if model.architecture.transform == "log":  # the slope of the log at the known points
        evidence = evidence - (known * problem.points).sum(1)
    return evidence.to(problem.points.dtype)
