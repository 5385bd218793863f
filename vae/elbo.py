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
    """The bound at beta = 1: likelihood averaged over ``noise`` [*sample, batch, latent], KL in closed form."""
    posterior = model.encode(x.values)
    log_likelihood = gaussian_log_likelihood(model, x, posterior.sample(noise))
    samples = tuple(range(noise.ndim - 2))
    mean = log_likelihood.mean(samples) if samples else log_likelihood
    return Elbo(mean, kl_to_standard_normal(posterior))


def importance_weighted_bound(model: Vae, x: Coordinates, noise: Tensor) -> Tensor:
    """log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x), [batch], for noise [K, batch, latent] of N(0, I)."""
    posterior = model.encode(x.values)
    log_likelihood = gaussian_log_likelihood(model, x, posterior.sample(noise))
    return log_mean_exp(log_likelihood + log_density_ratio(posterior, noise))


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Logarithm of the mean of the weights over the first axis."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def log_density_ratio(posterior: Posterior, noise: Tensor) -> Tensor:
    """log p(z) / q(z|x) at z = mean + std noise, [*sample, batch]."""
    z = posterior.sample(noise)
    return (0.5 * (noise.square() - z.square()) + posterior.log_std).sum(-1)


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
