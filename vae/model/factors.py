"""Linear models of Gaussian data, in closed form or by EM: where a VAE starts.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", equation 7; with noise of its own size
at each point Rubin, Thayer (1982), "EM algorithms for ML factor analysis", Psychometrika 47(1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vae.model.linear import PrincipalComponents

_MOST_ITERATIONS = 5000
_SETTLED = 1e-9  # largest relative change of a variance
_LEAST_SHARE = 1e-4  # of a point's variance that is noise


class Factors(NamedTuple):
    """x = mean + W f + noise with f ~ N(0, I), W'P^-1 W diagonal for the covariance P of the noise, which is diagonal.

    So the posterior of f given x is diagonal, as that of a VAE.

    Attributes:
        loadings: W, [D, latent].
        noise: variances of the noise, the diagonal of P, [D].
    """

    loadings: Tensor
    noise: Tensor

    @property
    def information(self) -> Tensor:
        """The diagonal of W'P^-1 W, [latent]; the posterior of f has the variances 1 / (1 + information)."""
        return (self.loadings.square() / self.noise.unsqueeze(1)).sum(0)


def ppca(components: PrincipalComponents, latents: int) -> Factors:
    """Maximum likelihood where all points have the same noise."""
    noise = components.noise_variance(latents)
    signal = (components.variances[:latents] - noise).clamp_min(0.0).sqrt()
    return Factors(components.vectors[:, :latents] * signal, noise.expand(len(components.mean)))


def factor_analysis(components: PrincipalComponents, latents: int) -> Factors:
    """Maximum likelihood where each point has its own noise, by EM from pPCA."""
    covariance = (components.vectors * components.variances) @ components.vectors.T
    least = _LEAST_SHARE * covariance.diagonal()
    found = ppca(components, latents)
    identity = torch.eye(latents, dtype=covariance.dtype, device=covariance.device)
    for _ in range(_MOST_ITERATIONS):
        weighted = found.loadings / found.noise.unsqueeze(1)
        posterior = torch.linalg.inv(identity + found.loadings.T @ weighted)
        reading = posterior @ weighted.T  # E[f|x] = reading (x - mean)
        across = covariance @ reading.T
        loadings = across @ torch.linalg.inv(posterior + reading @ across)
        noise = torch.maximum((covariance - loadings @ across.T).diagonal(), least)
        change = ((noise - found.noise).abs() / noise).max()
        found = Factors(loadings, noise)
        if change <= _SETTLED:
            break
    return _diagonal(found)


def _diagonal(factors: Factors) -> Factors:
    """The same law with W'P^-1 W diagonal, largest first; of each factor the largest loading is positive."""
    weighted = factors.loadings / factors.noise.unsqueeze(1)
    _, rotation = torch.linalg.eigh(factors.loadings.T @ weighted)
    loadings = factors.loadings @ rotation.flip(1)
    largest = loadings.abs().argmax(0, keepdim=True)
    return Factors(loadings * loadings.gather(0, largest).sign(), factors.noise)
