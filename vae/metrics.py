"""Held-out numbers of a model: arrays in, flat dictionaries out, units in the names."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae import arbitrage
from vae.elbo import bounds
from vae.grid import Grid
from vae.model import Vae
from vae.ppca import PrincipalComponents
from vae.units import BASIS_POINTS

_ACTIVE_VARIANCE = 0.01  # Burda et al. (2016), arXiv:1509.00519, section 5
_ROWS = 256  # surfaces evaluated at a time: bounds the memory of the importance samples


def likelihood_metrics(
    model: Vae, x: Tensor, *, samples: int, seed: int, ceiling: Tensor | None = None
) -> dict[str, float]:
    """ELBO and importance-weighted bound of observations x [batch, D], in nats of the density of decimal vols.

    Standard errors are across surfaces, which dominates the Monte Carlo error of ``samples`` draws for each. Where the
    true log density of each observation is known, ``ceiling`` [batch], its mean and the ELBO's distance to it stand
    beside; the error of the distance is that of the differences, which is smaller.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    parts = []
    with torch.no_grad():
        for rows in x.split(_ROWS):
            shape = (samples, len(rows), model.architecture.latents)
            noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
            found = bounds(model, model.coordinates(rows), noise)
            parts.append((found.elbo.value, found.elbo.kl, found.importance_weighted, found.effective_samples))
    elbo, kl, weighted, effective = (torch.cat(values) for values in zip(*parts, strict=True))
    bound, bound_se = _mean_and_error(elbo)
    iwae, iwae_se = _mean_and_error(weighted)
    oracle = {} if ceiling is None else _oracle_metrics(elbo, ceiling)
    return {
        "elbo_nats": bound,
        "elbo_se_nats": bound_se,
        **oracle,
        "iwae_nats": iwae,
        "iwae_se_nats": iwae_se,
        "iwae_samples": samples,
        "iwae_effective_samples": effective.mean().item(),
        "kl_nats": kl.mean().item(),
        "scale_bp": BASIS_POINTS * model.log_scale.exp().item(),
    }


def _oracle_metrics(elbo: Tensor, ceiling: Tensor) -> dict[str, float]:
    gap, gap_se = _mean_and_error(ceiling - elbo)
    return {
        "oracle_nats": ceiling.mean().item(),
        "elbo_gap_to_oracle_nats": gap,
        "elbo_gap_to_oracle_se_nats": gap_se,
    }


def latent_metrics(posterior_mean: Tensor) -> dict[str, float]:
    """How many latents the posterior means [batch, latent] use."""
    return {
        "latents": posterior_mean.shape[1],
        "active_units": int((posterior_mean.var(0) > _ACTIVE_VARIANCE).sum()),
    }


def error_metrics(name: str, approximation: Tensor, truth: Tensor) -> dict[str, float]:
    """Root mean square and largest error of vols, in basis points of vol."""
    error = (approximation - truth).abs() * BASIS_POINTS
    return {
        f"{name}_rmse_bp": error.square().mean().sqrt().item(),
        f"{name}_max_bp": error.max().item(),
    }


def pca_likelihood_metrics(components: PrincipalComponents, x: Tensor, *, latents: int) -> dict[str, float]:
    """Exact log-likelihood of pPCA with as many latents at observations x [batch, D]: a linear VAE's best ELBO."""
    likelihood, likelihood_se = _mean_and_error(components.log_likelihood(x, latents))
    return {
        "pca_log_likelihood_nats": likelihood,
        "pca_log_likelihood_se_nats": likelihood_se,
    }


def arbitrage_metrics(name: str, iv: NDArray[np.floating], grid: Grid, *, tolerance: float) -> dict[str, float]:
    """Static arbitrage of surfaces iv [surface, tenor, node]: the share free of it, and rate and sizes of each kind.

    Sizes are over the surfaces beyond the tolerance; see ``arbitrage.violations`` for the kinds.
    """
    found = arbitrage.violations(iv, grid)
    figures = {f"{name}_arbitrage_free_rate": arbitrage.free_rate(found, tolerance=tolerance)}
    for kind, summary in arbitrage.summarise(found, grid, tolerance=tolerance).items():
        unit, scale = ("_bp_of_forward", BASIS_POINTS) if kind in arbitrage.PRICE_KINDS else ("", 1.0)
        figures[f"{name}_{kind}_free_rate"] = summary.free_rate
        figures[f"{name}_{kind}_mean{unit}"] = scale * summary.mean
        figures[f"{name}_{kind}_max{unit}"] = scale * summary.largest
    return figures


def rmse_bp(
    approximation: NDArray[np.float64], truth: NDArray[np.float64], axes: tuple[int, ...]
) -> NDArray[np.float64]:
    """Root mean square error over ``axes``, in basis points of vol."""
    result: NDArray[np.float64] = BASIS_POINTS * np.sqrt(np.mean((approximation - truth) ** 2, axis=axes))
    return result


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    return values.mean().item(), values.std().item() / math.sqrt(len(values))
