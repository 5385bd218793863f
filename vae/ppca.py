"""Probabilistic PCA: the exact optimum of a linear VAE, the basis a VAE works in and its baseline.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3);
Lucas, Tucker, Grosse, Norouzi (2019), "Don't blame the ELBO!" (pPCA is the optimum of the linear VAE).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 65_536  # observations in double precision at a time: bounds the memory


class PrincipalComponents(NamedTuple):
    """Mean [D], orthonormal eigenvectors [D, D] and eigenvalues [D], largest first, of a sample covariance."""

    mean: Tensor
    vectors: Tensor
    variances: Tensor

    def noise_variance(self, latents: int) -> Tensor:
        """Maximum-likelihood noise variance of pPCA with ``latents`` components: the mean of the other eigenvalues."""
        return self.variances[latents:].mean()

    def reconstruct(self, x: Tensor, latents: int) -> Tensor:
        """Orthogonal projection of x [*batch, D] on the first ``latents`` components."""
        vectors = self.vectors[:, :latents]
        return self.mean + ((x - self.mean) @ vectors) @ vectors.T

    def log_likelihood(self, x: Tensor, latents: int) -> Tensor:
        """Exact log density of pPCA at x [*batch, D] in nats, [*batch]."""
        noise = self.noise_variance(latents)
        centred = x - self.mean
        scores = centred @ self.vectors[:, :latents]
        variances = self.variances[:latents]
        dimension = x.shape[-1]
        log_determinant = torch.log(variances).sum() + (dimension - latents) * torch.log(noise)
        outside = centred.square().sum(-1) - scores.square().sum(-1)
        distance = (scores.square() / variances).sum(-1) + outside / noise
        return -0.5 * (dimension * math.log(2.0 * math.pi) + log_determinant + distance)


def principal_components(x: Tensor) -> PrincipalComponents:
    """Principal components of x [batch, D], in float64; each vector's largest entry is positive."""
    blocks = x.split(_ROWS)
    mean = torch.stack([block.to(torch.float64).sum(0) for block in blocks]).sum(0) / len(x)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=x.device)
    for block in blocks:
        centred = block.to(torch.float64) - mean
        covariance.addmm_(centred.T, centred)
    variances, vectors = torch.linalg.eigh(covariance / len(x))
    variances, vectors = variances.flip(0).clamp_min(0.0), vectors.flip(1)
    largest = vectors.abs().argmax(0, keepdim=True)
    return PrincipalComponents(mean, vectors * vectors.gather(0, largest).sign(), variances)
