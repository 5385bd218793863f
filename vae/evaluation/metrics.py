"""Held-out figures of a model: arrays in, flat dictionaries out, units in the names."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from vae.evaluation import sample_fidelity
from vae.model import completion
from vae.model.autoencoder import Vae
from vae.model.elbo import bounds
from vae.model.laplace import LatentPrior
from vae.model.latent_law import LatentLaw
from vae.model.linear import PrincipalComponents
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, VOL_BP, Z90, Unit

_ACTIVE_VARIANCE = 0.01  # Burda et al. (2016), arXiv:1509.00519, section 5
_LEAST_SPREAD = 0.1  # of a point, in units of that of all points, where distances are measured
_DRAWS = 16_384  # importance samples at a time: bounds the memory


def likelihood_metrics(
    model: Vae, x: Tensor, *, samples: Sequence[int], seed: int, prior: LatentLaw, exact: Tensor | None = None
) -> dict[str, float]:
    """ELBO and importance-weighted bounds of observations x [batch, D], in nats of the density of decimal vols.

    Standard errors are across surfaces; the Monte Carlo error of the draws is small beside them. The bound of K samples
    is the mean over groups of K of the same draws, so that it never falls with K. ``prior_elbo_nats`` is the ELBO with
    the prior that ships. Where the exact log density is given, the figures include its mean and the distance of the
    ELBO to it; the standard error of the distance is that of the differences, which is smaller.

    Args:
        model: in the type of x.
        x: NaN where a point is missing.
        samples: numbers K of draws, each a multiple of the one before.
        seed: of the draws.
        prior: the one that ships.
        exact: exact log density of each observation, [batch]; None where it is not known.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for rows in x.split(max(1, _DRAWS // samples[-1])):
            shape = (samples[-1], len(rows), model.architecture.latents)
            noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
            found = bounds(model, model.observe(rows), noise)
            weighted = found.grouped(samples)
            gain = found.prior_gain(prior)
            parts.append((found.elbo.value, found.elbo.kl, gain, *(value for pair in weighted for value in pair)))
    elbo, kl, gain, *weighted_parts = (torch.cat(values) for values in zip(*parts, strict=True))
    bound, bound_se = _mean_and_error(elbo)
    figures = {
        "elbo_nats": bound,
        "elbo_se_nats": bound_se,
        **({} if exact is None else _exact_metrics(elbo, elbo + gain, exact)),
        "prior_elbo_nats": (elbo + gain).mean().item(),
        "prior_gain_nats": gain.mean().item(),
        "kl_nats": kl.mean().item(),
        "distortion_nats": -(elbo + kl).mean().item(),
    }
    for k, value, effective in zip(samples, weighted_parts[::2], weighted_parts[1::2], strict=True):
        figures |= {f"iwae_{k}_nats": value.mean().item(), f"iwae_{k}_effective_samples": effective.mean().item()}
    iwae, iwae_se = _mean_and_error(weighted_parts[-2])
    return figures | {"iwae_nats": iwae, "iwae_se_nats": iwae_se, "iwae_samples": samples[-1]}


def _exact_metrics(elbo: Tensor, prior_elbo: Tensor, exact: Tensor) -> dict[str, float]:
    """Mean of the exact log density, and the distance of both ELBOs to it."""
    gap, gap_se = _mean_and_error(exact - elbo)
    return {
        "oracle_nats": exact.mean().item(),
        "elbo_gap_to_oracle_nats": gap,
        "elbo_gap_to_oracle_se_nats": gap_se,
        "prior_elbo_gap_to_oracle_nats": (exact - prior_elbo).mean().item(),
    }


def latent_metrics(posterior_mean: Tensor) -> dict[str, float]:
    """Number of latents, and how many of them the posterior means [batch, latent] use."""
    return {
        "latents": posterior_mean.shape[1],
        "active_units": int((posterior_mean.var(0) > _ACTIVE_VARIANCE).sum()),
    }


def error_metrics(name: str, approximation: Tensor, truth: Tensor, unit: Unit = VOL_BP) -> dict[str, float]:
    """Root mean square and largest error over the points that are not NaN."""
    error = (approximation - truth).abs() * unit.per_one
    error = error[~error.isnan()]
    return {
        f"{name}_rmse{unit.suffix}": error.square().mean().sqrt().item(),
        f"{name}_max{unit.suffix}": error.max().item(),
    }


def pca_likelihood_metrics(components: PrincipalComponents, x: Tensor, *, latents: int) -> dict[str, float]:
    """Mean log-likelihood under pPCA of observations x [batch, D]: the best ELBO of a linear VAE with these latents."""
    likelihood, likelihood_se = _mean_and_error(components.log_likelihood(x, latents))
    return {
        "pca_log_likelihood_nats": likelihood,
        "pca_log_likelihood_se_nats": likelihood_se,
    }


def independent_metrics(train: Tensor, test: Tensor) -> dict[str, float]:
    """Mean log-likelihood of binary points test [batch, D], each alone with its frequency in train [n, D].

    Half an observation of each kind is added, so that no frequency is 0 or 1 (Krichevsky, Trofimov 1981).
    """
    frequency = (train.double().sum(0) + 0.5) / (len(train) + 1.0)
    likelihood = -binary_cross_entropy(frequency.expand_as(test), test, reduction="none").sum(1)
    return {"independent_log_likelihood_nats": likelihood.mean().item()}


def arbitrage_metrics(name: str, iv: NDArray[np.floating], grid: Grid, *, tolerance: float) -> dict[str, float]:
    """Static arbitrage of surfaces iv [surface, tenor, node]: the share without any, and rate and sizes of each kind.

    Sizes are over the surfaces beyond the tolerance; ``arbitrage.violations`` lists the kinds.
    """
    found = arbitrage.violations(iv, grid)
    figures = {f"{name}_arbitrage_free_rate": arbitrage.free_rate(found, tolerance=tolerance)}
    for kind, summary in arbitrage.summarise(found, grid, tolerance=tolerance).items():
        unit, scale = ("_bp_of_forward", BASIS_POINTS) if kind in arbitrage.PRICE_KINDS else ("", 1.0)
        figures[f"{name}_{kind}_free_rate"] = summary.free_rate
        figures[f"{name}_{kind}_mean{unit}"] = scale * summary.mean
        figures[f"{name}_{kind}_max{unit}"] = scale * summary.largest
    return figures


def completion_metrics(
    model: Vae,
    components: PrincipalComponents,
    x: Tensor,
    *,
    known: Sequence[int],
    seed: int,
    prior: LatentPrior | None = None,
    unit: Unit = VOL_BP,
) -> dict[str, float]:
    """Completion of observations x [batch, D] from few random points, and that of pPCA with as many latents.

    Mean absolute errors are over all observed points, those given included, as in Bergeron, Fung, Hull, Poulos (2021),
    arXiv:2102.03945; ``hidden`` errors are over the other points. Of these, the coverage is the share inside their
    90 % interval; Bernoulli points have no interval, but the mean of minus the log of their probability. Numbers in
    ``known`` that exceed the points of an observation are left out. The latents have the prior N(0, I) by default.
    """
    latents = model.architecture.latents
    figures: dict[str, float] = {}
    covered, hidden_points = 0, 0
    for count, seen in completion.random_points(x, known, seed=seed):
        found = completion.complete(model, seen, prior)
        hidden = seen.isnan() & ~x.isnan()
        figures[f"completion_mae{unit.suffix}_{count}"] = _mae(found.mean, x, unit)
        figures[f"pca_completion_mae{unit.suffix}_{count}"] = _mae(components.complete(seen, latents), x, unit)
        if not hidden.any():
            continue
        at_hidden = torch.where(hidden, found.mean, torch.nan)
        figures[f"completion_hidden_mae{unit.suffix}_{count}"] = _mae(at_hidden, x, unit)
        if model.architecture.likelihood == "bernoulli":
            lost = binary_cross_entropy(found.mean[hidden], x[hidden])
            figures[f"completion_log_loss_nats_{count}"] = lost.item()
            continue
        inside = ((x - found.mean).abs() <= Z90 * found.std) & hidden
        figures[f"interval_coverage_90_{count}"] = (inside.sum() / hidden.sum()).item()
        covered, hidden_points = covered + int(inside.sum()), hidden_points + int(hidden.sum())
    return figures if not hidden_points else figures | {"interval_coverage_90": covered / hidden_points}


def fidelity_metrics(
    samples: Mapping[str, Tensor], test: Tensor, train: Tensor, features: Tensor, *, seed: int
) -> dict[str, float]:
    """How much samples [n, D] resemble test surfaces, and how much training surfaces do, which is the floor.

    Each distance is the mean over all parts of the size of the test set, as that of one part is noisy.

    Args:
        samples: surfaces in random order, by name.
        test: likewise.
        train: likewise.
        features: directions along which classifiers see surfaces, [D, F].
        seed: of the classifiers.
    """
    spread = test.std(0)  # a point that hardly changes in the test set would outweigh all others
    unit = spread.clamp_min(_LEAST_SPREAD * spread.square().mean().sqrt().item() + torch.finfo(test.dtype).tiny)

    def accuracy(rows: Tensor) -> float:
        return sample_fidelity.classifier_accuracy((rows @ features).numpy(), (test @ features).numpy(), seed=seed)

    figures = {
        "sample_energy_floor": _mean_distance(train, test, unit),
        "sample_classifier_floor": accuracy(train),
    }
    for name, rows in samples.items():
        figures[f"{name}_energy_distance"] = _mean_distance(rows, test, unit)
        figures[f"{name}_classifier_accuracy"] = accuracy(rows)
    return figures


def _mean_distance(rows: Tensor, test: Tensor, unit: Tensor) -> float:
    """Mean energy distance of the test surfaces to consecutive parts of rows, each as large as the test set."""
    whole = max(1, len(rows) // len(test))
    parts = rows[: whole * len(test)].split(len(test))
    return sum(sample_fidelity.energy_distance(part, test, unit=unit) for part in parts) / whole


def _mae(approximation: Tensor, truth: Tensor, unit: Unit) -> float:
    return unit.per_one * (approximation - truth).abs().nanmean().item()


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    return values.mean().item(), values.std().item() / math.sqrt(len(values))
