"""Whole surfaces from a few points: the latents that explain them best, and what they leave uncertain.

The posterior of the latents given the known points is found by Levenberg and Marquardt's iteration from the encoder's
guess and taken as Gaussian there (Laplace), so that every point gets a mean and a standard deviation.

Reference: Levenberg (1944), Marquardt (1963); MacKay (1992), "A practical Bayesian framework for backpropagation
networks", section 3 (Laplace's approximation).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from vae.model import Vae

_ITERATIONS = 30
_DAMPING = 1e-2  # at the start, in units of the curvature
_EASIER, _HARDER = 0.3, 5.0  # damping after a step that helped, and after one that did not
_ROWS = 512  # surfaces at a time: bounds the memory of their Jacobians


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


def complete(model: Vae, x: Tensor) -> Completion:
    """Surfaces given the points of x [batch, D] that are not NaN; the noise must be Gaussian.

    Also the known points get the model's mean: they were quoted with noise.

    Raises:
        ValueError: the likelihood is not Gaussian.
    """
    if model.architecture.likelihood != "gaussian":
        raise ValueError(f"completion needs a gaussian likelihood, not {model.architecture.likelihood}")
    with torch.no_grad():
        parts = [_complete(model, rows) for rows in x.split(_ROWS)]
    return Completion(*(torch.cat(part) for part in zip(*parts, strict=True)))


def hide(x: Tensor, known: int, generator: torch.Generator) -> Tensor:
    """x [batch, D] with all but ``known`` random points of each row hidden: NaN. Fewer where fewer are known."""
    order = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
    order = torch.where(x.isnan(), torch.inf, order)
    return torch.where(order.argsort(1).argsort(1) < known, x, torch.nan)


def _complete(model: Vae, x: Tensor) -> Completion:
    problem = _Problem(model, x)
    z = problem.start()
    cost = problem.cost(z)
    damping = torch.full_like(cost, _DAMPING)
    for _ in range(_ITERATIONS):
        curvature, slope = problem.curvature(z)
        damped = curvature + torch.diag_embed(damping[:, None] * curvature.diagonal(dim1=1, dim2=2))
        proposal = z + torch.linalg.solve(damped, slope.unsqueeze(-1)).squeeze(-1)
        found = problem.cost(proposal)
        better = found < cost
        z, cost = torch.where(better[:, None], proposal, z), torch.where(better, found, cost)
        damping = torch.where(better, _EASIER * damping, _HARDER * damping).clamp(1e-9, 1e9)
    curvature, _ = problem.curvature(z)
    covariance = torch.linalg.inv(curvature)
    jacobian = problem.jacobian(z)
    variance = torch.einsum("bdk,bkl,bdl->bd", jacobian, covariance, jacobian) + model.scale.square()
    mean = model.expand(model.decode(z))
    std = variance.sqrt()
    return Completion(mean, mean * std if model.architecture.transform == "log" else std, z)


class _Problem:
    """Minus the log posterior of z given known points, up to a constant, with its slope and Gauss-Newton curvature."""

    def __init__(self, model: Vae, x: Tensor) -> None:
        self.model, self.x, self.inner = model, x, model.inner(x)
        self.precision = torch.where(x.isnan(), 0.0, model.scale.square().reciprocal())  # [batch, D]
        self._decode_jacobian = vmap(jacfwd(model.decode))

    def start(self) -> Tensor:
        """The encoder's guess; where it knows nothing of missing points, the mean of the prior."""
        if not self.model.architecture.sees_missing:
            return self.model.center.new_zeros(len(self.x), self.model.architecture.latents)
        seen = self.model.observe(self.x)
        return self.model.encode(seen.values, seen.missing).mean

    def error(self, z: Tensor) -> Tensor:
        """Known points less those at z, in the units of the model; 0 where a point is not known, [batch, D]."""
        return torch.nan_to_num(self.inner - self.model.natural(self.model.decode(z)))

    def jacobian(self, z: Tensor) -> Tensor:
        """Derivatives of all points by the latents, in the units of the model, [batch, D, latent]."""
        return torch.einsum("dr,brl->bdl", self.model.basis, self._decode_jacobian(z))

    def cost(self, z: Tensor) -> Tensor:
        return 0.5 * ((self.error(z).square() * self.precision).sum(1) + z.square().sum(1))

    def curvature(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """J'PJ + I, [batch, latent, latent], and minus the slope of the cost, [batch, latent]."""
        jacobian = self.jacobian(z)
        weighted = jacobian * self.precision.unsqueeze(-1)
        identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return jacobian.transpose(1, 2) @ weighted + identity, torch.einsum("bdl,bd->bl", weighted, self.error(z)) - z
