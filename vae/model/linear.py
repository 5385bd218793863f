"""Probabilistic PCA: the exact optimum of a linear VAE, the basis a VAE works in and its baseline.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3);
Lucas, Tucker, Grosse, Norouzi (2019), "Don't blame the ELBO!" (pPCA is the optimum of the linear VAE).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 65_536  # observations in double precision at a time: bounds the memory
_MOST_FILLS = 200
_FILLED = 1e-6  # largest change of a filled point, in standard deviations of its column


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

    def complete(self, x: Tensor, latents: int) -> Tensor:
        """Means of all points of x [batch, D] without noise, under pPCA given the points that are not NaN."""
        given = self._given(x, latents)
        scores = torch.cholesky_solve(given.projection.unsqueeze(-1), given.factor).squeeze(-1)
        return self.mean + scores @ given.loadings.T

    def log_likelihood(self, x: Tensor, latents: int) -> Tensor:
        """Exact log density of pPCA at x [batch, D] in nats, [batch]; of the points that are not NaN."""
        given, noise = self._given(x, latents), self.noise_variance(latents)
        whitened = torch.linalg.solve_triangular(given.factor, given.projection.unsqueeze(-1), upper=False).squeeze(-1)
        log_factor = given.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        log_determinant = (given.known - latents) * torch.log(noise) + 2.0 * log_factor
        distance = (given.square - whitened.square().sum(1)) / noise
        density: Tensor = -0.5 * (given.known * math.log(2.0 * math.pi) + log_determinant + distance)
        return density

    def _given(self, x: Tensor, latents: int) -> "_Given":
        noise = self.noise_variance(latents)
        loadings = self.vectors[:, :latents] * (self.variances[:latents] - noise).clamp_min(0.0).sqrt()
        known = ~x.isnan()
        centred = torch.where(known, x - self.mean, 0.0)
        products = (loadings.unsqueeze(2) * loadings.unsqueeze(1)).flatten(1)
        precision = (known.to(x.dtype) @ products).unflatten(1, (latents, latents))
        precision = precision + noise * torch.eye(latents, dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky(precision)
        count = known.sum(1).to(x.dtype)
        return _Given(loadings, factor, centred @ loadings, count, centred.square().sum(1))


class _Given(NamedTuple):
    """What known points say of the latents f of x = mean + W f + noise, f ~ N(0, I), over the known rows of W.

    Attributes:
        loadings: W, [D, latent].
        factor: lower factor of W'W + noise variance I, [batch, latent, latent].
        projection: W'(x - mean), [batch, latent].
        known: number of points, [batch].
        square: |x - mean|^2, [batch].
    """

    loadings: Tensor
    factor: Tensor
    projection: Tensor
    known: Tensor
    square: Tensor


def filled(x: Tensor, latents: int) -> Tensor:
    """x [batch, D] with its missing points, which are NaN, filled in agreement with its own pPCA, then in float64.

    Reference: Josse, Husson (2012), "Handling missing values in exploratory multivariate data analysis methods",
    Journal de la SFdS 153(2), section 1.2 (regularised iterative PCA).

    Raises:
        ValueError: a column has no known point.
    """
    missing = x.isnan()
    if not missing.any():
        return x
    x = x.to(torch.float64)
    empty = missing.all(0)
    if empty.any():
        raise ValueError(f"column {int(empty.nonzero()[0]) + 1} of {x.shape[1]} has no known point")
    spread = torch.where(missing, x.nanmean(0), x).std(0).clamp_min(torch.finfo(x.dtype).tiny)
    full = torch.where(missing, x.nanmean(0), x)
    for _ in range(_MOST_FILLS):
        before, full = full, torch.where(missing, principal_components(full).complete(x, latents), x)
        if ((full - before).abs() <= _FILLED * spread).all():
            break
    return full


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
