"""The evidence lower bound and the importance-weighted bound, as named parts, in nats for each observation.

Reference: Kingma, Welling (2014), arXiv:1312.6114; Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import Coordinates, Posterior, Vae


class Elbo(NamedTuple):
    """E_q[log p(x|z)] and KL(q(z|x) || p(z)), both [batch], in nats."""

    log_likelihood: Tensor
    kl: Tensor

    @property
    def value(self) -> Tensor:
        """The bound, [batch]."""
        return self.log_likelihood - self.kl


def elbo(model: Vae, x: Coordinates, noise: Tensor) -> Elbo:
    """The bound at beta = 1 from one draw for each observation, noise [batch, latent]; the KL in closed form."""
    posterior = model.encode(x.values)
    log_likelihood = gaussian_log_likelihood(model, x, posterior.sample(noise))
    return Elbo(log_likelihood, kl_to_standard_normal(posterior))


class Bounds(NamedTuple):
    """The bound and log p(x|z) p(z) / q(z|x) of the draws it averages, [sample, batch]."""

    elbo: Elbo
    log_weights: Tensor

    @property
    def importance_weighted(self) -> Tensor:
        """log (1/K) sum_k of the weights, [batch]: at least the ELBO in expectation, and rising with K."""
        return torch.logsumexp(self.log_weights, dim=0) - math.log(len(self.log_weights))

    @property
    def effective_samples(self) -> Tensor:
        """1 / sum of the squared normalised weights, [batch]; near 1 the bound is loose."""
        return 1.0 / torch.softmax(self.log_weights, dim=0).square().sum(0)


def bounds(model: Vae, x: Coordinates, noise: Tensor) -> Bounds:
    """Both bounds from the same draws, noise [sample, batch, latent] of N(0, I)."""
    posterior = model.encode(x.values)
    z = posterior.sample(noise)
    log_likelihood = gaussian_log_likelihood(model, x, z)
    log_density_ratio = (0.5 * (noise.square() - z.square()) + posterior.log_std).sum(-1)  # log p(z) / q(z|x)
    elbo_parts = Elbo(log_likelihood.mean(0), kl_to_standard_normal(posterior))
    return Bounds(elbo_parts, log_likelihood + log_density_ratio)


def gaussian_log_likelihood(model: Vae, x: Coordinates, z: Tensor) -> Tensor:
    """log N(x; x(z), scale^2 I) in nats, [*sample, batch], for z [*sample, batch, latent]."""
    squared_error = (x.values - model.decode(z)).square().sum(-1) + x.remainder
    normaliser = math.log(2.0 * math.pi) + 2.0 * model.log_scale
    dimension = model.architecture.dimension
    return -0.5 * (dimension * normaliser + squared_error * torch.exp(-2.0 * model.log_scale))


def kl_to_standard_normal(posterior: Posterior) -> Tensor:
    """KL(q || N(0, I)) summed over latents, [batch]."""
    variance = torch.exp(2.0 * posterior.log_std)
    return 0.5 * (posterior.mean.square() + variance - 1.0 - 2.0 * posterior.log_std).sum(-1)
