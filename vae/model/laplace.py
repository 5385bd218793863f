"""Laplace's approximation: the mode of the posterior of the latents given known points, and the curvature there.

The mode is found by Levenberg and Marquardt's iteration; the posterior is then taken as a Gaussian about the mode.
Completion reads means and intervals off that Gaussian, scoring the evidence. Each step can be traced into ONNX.

Reference: Levenberg (1944), Marquardt (1963); MacKay (1992), "A practical Bayesian framework for backpropagation
networks", section 3 (Laplace's approximation).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vae.model import linear_systems
from vae.model.noise_precision import NoisePrecision

_FIRST_DAMPING = 1e-3  # in units of the curvature
_EASIER, _HARDER = 0.1, 5.0  # factors of the damping after a step that helped, and after one that did not
_DAMPINGS = (1e-9, 1e9)
_SETTLED, _ROUNDED = 1e-3, 1e-5  # nats, and share of the cost: a step that gains less is not looked at


class LatentPrior(NamedTuple):
    """A normal distribution of the latents: its mean [latent] and precision [latent, latent], in float64."""

    mean: Tensor
    precision: Tensor


class LocalQuadratic(NamedTuple):
    """Minus the log posterior of the latents up to a constant, to second order, in float64.

    Attributes:
        cost: its value, [batch].
        slope: minus its gradient, [batch, latent].
        curvature: its Gauss-Newton Hessian J'PJ + I, for the Jacobian J of the decoder at the known points and the
            precisions P of their noise, with the prior's precision in place of I, [batch, latent, latent].
    """

    cost: Tensor
    slope: Tensor
    curvature: Tensor


LogPosterior = Callable[[Tensor], LocalQuadratic]  # of latents [batch, latent]


class SearchState(NamedTuple):
    """The state of the search for the mode.

    Attributes:
        z: latents, [batch, latent].
        cost, slope, curvature: the local quadratic at z.
        damping: Levenberg and Marquardt's, [batch].
        move: the next damped step from z, [batch, latent].
        gain: by how much that step lowers the damped local quadratic, [batch].
    """

    z: Tensor
    cost: Tensor
    slope: Tensor
    curvature: Tensor
    damping: Tensor
    move: Tensor
    gain: Tensor

    @property
    def moving(self) -> Tensor:
        """Whether the search goes on in any row, a bool []."""
        return _worth_a_look(self.cost, self.gain).any()


def start_search(posterior: LogPosterior, z: Tensor) -> SearchState:
    """The state at z [batch, latent] before the first step."""
    start = posterior(z)
    return _with_move(z, start, torch.full_like(start.cost, _FIRST_DAMPING))


def search_step(posterior: LogPosterior, now: SearchState) -> SearchState:
    """The state after one damped step; a row whose cost the step does not lower stays where it is."""
    z = now.z + now.move.to(now.z.dtype)
    found = posterior(z)
    better = found.cost < now.cost
    damping = torch.where(better, _EASIER * now.damping, _HARDER * now.damping).clamp(*_DAMPINGS)
    kept = LocalQuadratic(
        torch.where(better, found.cost, now.cost),
        torch.where(better[:, None], found.slope, now.slope),
        torch.where(better[:, None, None], found.curvature, now.curvature),
    )
    return _with_move(torch.where(better[:, None], z, now.z), kept, damping)


def _with_move(z: Tensor, at: LocalQuadratic, damping: Tensor) -> SearchState:
    """The state at z with this local quadratic and the step that follows from it."""
    diagonal = torch.eye(z.shape[1], dtype=damping.dtype, device=z.device)
    damped = at.curvature * (1.0 + damping[:, None, None] * diagonal)
    move = linear_systems.solve(damped, at.slope.unsqueeze(2))[..., 0]
    return SearchState(z, *at, damping, move, 0.5 * (move * at.slope).sum(1))


def end_of_search(z: Tensor, cost: Tensor, move: Tensor, gain: Tensor) -> Tensor:
    """The latents [batch, latent] where a search in this state ends.

    A step that gains too little to be looked at is taken on trust, as the posterior is quadratic over so short a way.
    """
    return torch.where(_worth_a_look(cost, gain).unsqueeze(1), z, z + move.to(z.dtype))


def _worth_a_look(cost: Tensor, gain: Tensor) -> Tensor:
    """Whether the cost is looked at after the next step, [batch]."""
    return gain > _SETTLED + _ROUNDED * cost.abs()


def posterior_mode(posterior: LogPosterior, z: Tensor, *, steps: int) -> Tensor:
    """The mode of the posterior near z, [batch, latent], after ``steps`` steps at most."""
    state = start_search(posterior, z)
    for _ in range(steps):
        if not state.moving:
            break
        state = search_step(posterior, state)
    return end_of_search(state.z, state.cost, state.move, state.gain)


def search(posterior: LogPosterior, z: Tensor, *, steps: int) -> SearchState:
    """The state after so many steps from z [batch, latent]; all are taken, so that no row depends on the others."""
    state = start_search(posterior, z)
    for _ in range(steps):
        state = search_step(posterior, state)
    return state


def local_quadratic(
    z: Tensor, error: Tensor, jacobian: Tensor, precision: NoisePrecision, prior: LatentPrior | None = None
) -> LocalQuadratic:
    """The local quadratic at z under Gaussian noise.

    Args:
        z: latents, [batch, latent].
        error: known points less the model's, [batch, point].
        jacobian: derivatives of the model's points by the latents, [batch, latent, point].
        precision: of the errors of the points.
        prior: of the latents; N(0, I) by default.
    """
    z, rows = z.double(), torch.cat([error.unsqueeze(1), jacobian], dim=1).double()
    products = precision.products(rows)  # of the errors, then of the derivatives
    if prior is None:
        own = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        distance, pull = z.square().sum(1), z
    else:
        own = prior.precision
        pull = (z - prior.mean) @ own
        distance = ((z - prior.mean) * pull).sum(1)
    return LocalQuadratic(
        cost=0.5 * (products[:, 0, 0] + distance), slope=products[:, 1:, 0] - pull, curvature=products[:, 1:, 1:] + own
    )


def local_quadratic_of_binary(
    z: Tensor, points: Tensor, logits: Tensor, jacobian: Tensor, known: Tensor, prior: LatentPrior | None = None
) -> LocalQuadratic:
    """The local quadratic at z under Bernoulli points; its curvature is Fisher's information.

    Args:
        z: latents, [batch, latent].
        points: values from 0 to 1, [batch, point].
        logits: of the model's probabilities, [batch, point].
        jacobian: derivatives of the logits by the latents, [batch, latent, point].
        known: 1 where a point is known, else 0, [batch, point].
        prior: of the latents; N(0, I) by default.
    """
    points, logits, jacobian, known = points.double(), logits.double(), jacobian.double(), known.double()
    probability = logits.sigmoid()
    information = known * probability * (1.0 - probability)
    found = local_quadratic(z, torch.zeros_like(points), jacobian, NoisePrecision(information), prior)
    lost = known * (softplus(logits) - points * logits)
    pull = jacobian @ (known * (points - probability)).unsqueeze(2)
    return LocalQuadratic(found.cost + lost.sum(1), found.slope + pull[..., 0], found.curvature)
