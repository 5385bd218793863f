"""Linear opponents: Gaussians of the points in the model's own transform, of full covariance or of low rank.

A Gaussian with the full covariance predicts hidden points as well as any linear predictor does. A model is worth its
network where it predicts better.

Reference: Bishop (2006), "Pattern Recognition and Machine Learning", equations 2.96 and 2.97 (conditional Gaussian).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import completion
from vae.model.autoencoder import Transform, transformed
from vae.model.linear import PrincipalComponents, filled, principal_components
from vae.surface.units import BASIS_POINTS

_RANKS = (1, 2, 4)  # of opponents of low rank, in units of the model's latents


class Gaussian(NamedTuple):
    """The law of points whose transform is normal.

    Attributes:
        mean: of the transformed points, [D].
        covariance: of the transformed points, [D, D].
        transform: as of ``vae.model.autoencoder.Architecture``.
    """

    mean: Tensor
    covariance: Tensor
    transform: Transform

    def complete(self, x: Tensor) -> Tensor:
        """Conditional median of all points of x [batch, D], given those that are not NaN."""
        inner = transformed(x, self.transform)
        found = torch.empty_like(inner)
        for rows, known in _patterns(x):
            factor = torch.linalg.cholesky(self.covariance[known][:, known])
            distance = (inner[rows][:, known] - self.mean[known]).T
            weights = torch.cholesky_solve(distance, factor)
            found[rows] = self.mean + weights.T @ self.covariance[known]
        return found.exp() if self.transform == "log" else found

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Log density of the points of x [batch, D] that are not NaN, in nats and units of the data, [batch]."""
        inner = transformed(x, self.transform)
        found = x.new_empty(len(x))
        for rows, known in _patterns(x):
            factor = torch.linalg.cholesky(self.covariance[known][:, known])
            distance = (inner[rows][:, known] - self.mean[known]).T
            whitened = torch.linalg.solve_triangular(factor, distance, upper=False)
            constant = 0.5 * int(known.sum()) * math.log(2.0 * math.pi) + factor.diagonal().log().sum()
            found[rows] = -constant - 0.5 * whitened.square().sum(0)
        return found - inner.nansum(1) if self.transform == "log" else found


def linear_opponents(x: Tensor, latents: int, transform: Transform) -> tuple[Gaussian, ...]:
    """The Gaussians of maximum likelihood of full covariance, and of pPCA with some multiples of ``latents``.

    Args:
        x: surfaces that they are fitted to, [batch, D]; NaN where a point is missing.
        latents: of the model that they are compared with.
        transform: of that model.
    """
    components = principal_components(filled(transformed(x, transform), latents))
    ranks = [multiple * latents for multiple in _RANKS if multiple * latents < len(components.mean)]
    covariances = [_full(components), *(_low_rank(components, rank) for rank in ranks)]
    return tuple(Gaussian(components.mean, covariance, transform) for covariance in covariances)


def opponent_likelihood_metrics(opponents: Sequence[Gaussian], x: Tensor) -> dict[str, float]:
    """The largest mean log density of surfaces x [batch, D] under an opponent, in nats; empty without opponents."""
    densities = [one.log_likelihood(x).mean().item() for one in opponents]
    return {"opponent_log_likelihood_nats": max(densities)} if densities else {}


def opponent_completion_metrics(
    opponents: Sequence[Gaussian], x: Tensor, *, known: Sequence[int], seed: int
) -> dict[str, float]:
    """Completion of surfaces x [batch, D] by the best of the opponents; empty without opponents.

    The known points are those that ``metrics.completion_metrics`` draws with the same seed. The best opponent is chosen
    for each figure on x itself, so that none is stronger.
    """
    figures: dict[str, float] = {}
    if not opponents:
        return figures
    for count, seen in completion.random_points(x, known, seed=seed):
        errors = [BASIS_POINTS * (one.complete(seen) - x).abs() for one in opponents]
        hidden = seen.isnan()
        figures[f"opponent_completion_mae_bp_{count}"] = min(error.nanmean().item() for error in errors)
        if (hidden & ~x.isnan()).any():
            best = min(error[hidden].nanmean().item() for error in errors)
            figures[f"opponent_completion_hidden_mae_bp_{count}"] = best
    return figures


def _full(components: PrincipalComponents) -> Tensor:
    """The sample covariance, [D, D]; directions without variance get that of rounding."""
    variances = torch.maximum(components.variances, components.rounding)
    return (components.vectors * variances) @ components.vectors.T


def _low_rank(components: PrincipalComponents, rank: int) -> Tensor:
    """The covariance of pPCA, [D, D]."""
    noise = components.noise_variance(rank)
    variances = torch.cat([components.variances[:rank], noise.expand(len(components.mean) - rank)])
    return (components.vectors * torch.maximum(variances, noise)) @ components.vectors.T


def _patterns(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows that have the same known points, as masks [batch], with these points, [D]."""
    patterns, pattern = torch.unique(~x.isnan(), dim=0, return_inverse=True)
    for index, known in enumerate(patterns):
        yield pattern == index, known
