"""Linear models of Gaussian data: PCA, probabilistic PCA (pPCA) and factor analysis.

They give a VAE the basis that it works in, the weights that it starts from, and the baseline that it must beat.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3), equation 7;
Rubin, Thayer (1982), "EM algorithms for ML factor analysis", Psychometrika 47(1);
Lucas, Tucker, Grosse, Norouzi (2019), "Don't blame the ELBO!" (pPCA is the optimum of the linear VAE).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model.rows import ROWS, has_missing

_MOST_FILLS = 200
_FILLED = 1e-6  # largest change of a filled point at convergence, in standard deviations of its column
_MOST_EM_STEPS = 5000
_EM_SETTLED = 1e-9  # largest relative change of a noise variance at convergence
_LEAST_NOISE_SHARE = 1e-4  # of a point's variance
_ROUNDING = 1e-6  # standard deviation of a direction, in units of the largest, that single precision cannot tell from 0


class PrincipalComponents(NamedTuple):
    """Mean [D], orthonormal eigenvectors [D, D] and eigenvalues [D] of a sample covariance, largest first."""

    mean: Tensor
    vectors: Tensor
    variances: Tensor

    @property
    def rounding(self) -> Tensor:
        """Variance up to which a direction holds nothing but the rounding of single precision."""
        return _ROUNDING**2 * self.variances[0]

    @property
    def directions(self) -> int:
        """Number of directions in which the data vary by more than rounding."""
        return int((self.variances > self.rounding).sum())

    def noise_variance(self, latents: int) -> Tensor:
        """Maximum-likelihood noise variance of pPCA with ``latents`` components: the mean of the other eigenvalues.

        It is never below ``rounding``: where the data lie in a plane, the likelihood has no maximum.
        """
        others = self.variances[latents:]
        return torch.maximum(others.sum() / max(len(others), 1), self.rounding)

    def reconstruct(self, x: Tensor, latents: int) -> Tensor:
        """Orthogonal projection of x [*batch, D] on the first ``latents`` components."""
        vectors = self.vectors[:, :latents]
        return self.mean + ((x - self.mean) @ vectors) @ vectors.T

    def complete(self, x: Tensor, latents: int) -> Tensor:
        """Posterior mean under pPCA of all points of x [batch, D], given the points that are not NaN."""
        given = self._given(x, latents)
        scores = torch.cholesky_solve(given.projection.unsqueeze(-1), given.factor).squeeze(-1)
        return self.mean + scores @ given.loadings.T

    def log_likelihood(self, x: Tensor, latents: int) -> Tensor:
        """Exact log density under pPCA of the points of x [batch, D] that are not NaN, in nats, [batch]."""
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
    """Sufficient statistics of the latents f in x = mean + W f + noise, f ~ N(0, I), given the known points of x.

    W and x stand for their known rows.

    Attributes:
        loadings: W, [D, latent].
        factor: lower factor of W'W + noise variance I, [batch, latent, latent].
        projection: W'(x - mean), [batch, latent].
        known: number of known points, [batch].
        square: |x - mean|^2, [batch].
    """

    loadings: Tensor
    factor: Tensor
    projection: Tensor
    known: Tensor
    square: Tensor


def filled(x: Tensor, latents: int) -> Tensor:
    """x [batch, D] with its missing points (NaN) filled by the pPCA of the filled data, iterated to convergence.

    Returns float64 where a point was missing, and x itself where none was.

    Reference: Josse, Husson (2012), "Handling missing values in exploratory multivariate data analysis methods",
    Journal de la SFdS 153(2), section 1.2 (regularised iterative PCA).

    Raises:
        ValueError: a column has no known point.
    """
    if not has_missing(x):
        return x
    missing, x = x.isnan(), x.to(torch.float64)
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


def age_weights(days: Tensor, half_life: float) -> Tensor:
    """Weights of rows of these days, [n], 1 for the latest; they halve with each ``half_life`` days of age."""
    return torch.exp2((days.double() - days.max()) / half_life)


def as_is(x: Tensor) -> Tensor:
    """x itself."""
    return x


def components_of_known(
    parts: Sequence[Tensor], latents: int, weights: Tensor | None = None, inner: Callable[[Tensor], Tensor] = as_is
) -> PrincipalComponents:
    """``components_of_parts``, whose missing points (NaN) are ``filled`` by the pPCA of this rank."""
    if any(map(has_missing, parts)):
        parts, inner = [filled(inner(torch.cat([*parts])), latents)], as_is
    return components_of_parts(parts, weights, inner)


def principal_components(x: Tensor, weights: Tensor | None = None) -> PrincipalComponents:
    """Principal components of x [batch, D], in float64; the largest entry of each vector is made positive.

    Observations count alike by default, else by their weights [batch].
    """
    return components_of_parts([x], weights)


def components_of_parts(
    parts: Sequence[Tensor], weights: Tensor | None = None, inner: Callable[[Tensor], Tensor] = as_is
) -> PrincipalComponents:
    """``principal_components`` of rows in several parts [n, D], with one block of them in memory at a time.

    Args:
        parts: of the rows, which may lie in files.
        weights: of all rows, [row]; they count alike by default.
        inner: applied to the rows first.
    """
    device, rows = parts[0].device, [block for part in parts for block in part.split(ROWS)]
    if weights is None:
        weights = torch.ones(sum(map(len, rows)), dtype=torch.float64, device=device)
    shares = (weights.double() / weights.double().sum()).split([len(block) for block in rows])
    blocks = list(zip(rows, shares, strict=True))
    mean = torch.stack([share @ inner(block).to(torch.float64) for block, share in blocks]).sum(0)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=device)
    for block, share in blocks:
        centred = inner(block).to(torch.float64) - mean
        covariance.addmm_(centred.T * share, centred)
    return components_of_covariance(mean, covariance)


def components_of_covariance(mean: Tensor, covariance: Tensor) -> PrincipalComponents:
    """The components of a mean [D] and a covariance [D, D]; the largest entry of each vector is made positive."""
    variances, vectors = torch.linalg.eigh(covariance)
    variances, vectors = variances.flip(0).clamp_min(0.0), vectors.flip(1)
    largest = vectors.abs().argmax(0, keepdim=True)
    return PrincipalComponents(mean, vectors * vectors.gather(0, largest).sign(), variances)


class Factors(NamedTuple):
    """The linear model x = mean + W f + noise, with f ~ N(0, I) and independent noise at each point.

    The noise has the diagonal covariance P. The factors are rotated so that W'P^-1 W is diagonal: then the posterior
    of f given x is diagonal, like the encoder of a VAE.

    Attributes:
        loadings: W, [D, latent].
        noise: variances of the noise, the diagonal of P, [D].
    """

    loadings: Tensor
    noise: Tensor

    @property
    def information(self) -> Tensor:
        """Diagonal of W'P^-1 W, [latent]; the posterior of f has the variances 1 / (1 + information)."""
        return (self.loadings.square() / self.noise.unsqueeze(1)).sum(0)


def ppca(components: PrincipalComponents, latents: int) -> Factors:
    """Probabilistic PCA: the maximum-likelihood model in which all points have the same noise variance."""
    noise = components.noise_variance(latents)
    signal = (components.variances[:latents] - noise).clamp_min(0.0).sqrt()
    return Factors(components.vectors[:, :latents] * signal, noise.expand(len(components.mean)))


def factor_analysis(components: PrincipalComponents, latents: int) -> Factors:
    """Factor analysis: the maximum-likelihood model in which each point has its own noise variance, by EM from pPCA."""
    covariance = (components.vectors * components.variances) @ components.vectors.T
    least = torch.maximum(_LEAST_NOISE_SHARE * covariance.diagonal(), components.rounding)
    found = ppca(components, latents)
    identity = torch.eye(latents, dtype=covariance.dtype, device=covariance.device)
    for _ in range(_MOST_EM_STEPS):
        weighted = found.loadings / found.noise.unsqueeze(1)
        posterior = torch.linalg.inv(identity + found.loadings.T @ weighted)
        regression = posterior @ weighted.T  # E[f|x] = regression (x - mean)
        across = covariance @ regression.T
        loadings = across @ torch.linalg.inv(posterior + regression @ across)
        noise = torch.maximum((covariance - loadings @ across.T).diagonal(), least)
        change = ((noise - found.noise).abs() / noise).max()
        found = Factors(loadings, noise)
        if change <= _EM_SETTLED:
            break
    return _diagonal(found)


def _diagonal(factors: Factors) -> Factors:
    """The same distribution, its factors rotated so that W'P^-1 W is diagonal, largest first.

    The largest loading of each factor is made positive.
    """
    weighted = factors.loadings / factors.noise.unsqueeze(1)
    _, rotation = torch.linalg.eigh(factors.loadings.T @ weighted)
    loadings = factors.loadings @ rotation.flip(1)
    largest = loadings.abs().argmax(0, keepdim=True)
    return Factors(loadings * loadings.gather(0, largest).sign(), factors.noise)
