"""Held-out figures of a model: arrays in, flat dictionaries out, units in the names."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from vae.evaluation import estimate
from vae.evaluation.sample_fidelity import Blocks, boosting_accuracy, energy_distance, matched, network_accuracy
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
_MOST_BOOSTED, _MOST_IN_NETWORK = 16_000, 4000  # rows of each sample that a classifier sees
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
    bound, bound_se = estimate.mean(elbo)
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
    iwae, iwae_se = estimate.mean(weighted_parts[-2])
    return figures | {"iwae_nats": iwae, "iwae_se_nats": iwae_se, "iwae_samples": samples[-1]}


def _exact_metrics(elbo: Tensor, prior_elbo: Tensor, exact: Tensor) -> dict[str, float]:
    """Mean of the exact log density, and the distance of both ELBOs to it; of the ELBO's also how it is distributed."""
    gap = exact - elbo
    mean, error = estimate.mean(gap)
    return {
        "oracle_nats": exact.mean().item(),
        "elbo_gap_to_oracle_nats": mean,
        "elbo_gap_to_oracle_se_nats": error,
        "elbo_gap_to_oracle_median_nats": gap.median().item(),
        "elbo_gap_to_oracle_95_nats": gap.quantile(0.95).item(),
        "elbo_gap_to_oracle_99_nats": gap.quantile(0.99).item(),
        "elbo_gap_to_oracle_worst_nats": gap.max().item(),
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
    likelihood, likelihood_se = estimate.mean(components.log_likelihood(x, latents))
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
    pairs: Mapping[str, tuple[Blocks, Blocks]], reference: Tensor, directions: Tensor, *, seed: int
) -> dict[str, float]:
    """How far samples and data differ: for each pair the energy distance and the accuracies of two classifiers.

    Distances are in units of the spread of each point, averaged over points. All is measured along some directions, as
    in the others rows differ by their noise only.

    Args:
        pairs: two samples [n, D] each in blocks, by name.
        reference: rows whose spread is the unit of distances, [n, D].
        directions: orthonormal, [D, F].
        seed: of the classifiers.
    """
    spread = reference.std(0)  # a point that hardly changes would outweigh all others
    unit = spread.clamp_min(_LEAST_SPREAD * spread.square().mean().sqrt().item() + torch.finfo(spread.dtype).tiny)
    unit = unit * reference.shape[1] ** 0.5
    scaled = directions @ torch.linalg.qr(directions / unit.unsqueeze(1)).R.T
    figures: dict[str, float] = {}
    for name, (a, b) in pairs.items():
        found = {"energy_distance": energy_distance(_mapped(a, scaled), _mapped(b, scaled))}
        for kind, accuracy, most in (
            ("boosting_accuracy", boosting_accuracy, _MOST_BOOSTED),
            ("network_accuracy", network_accuracy, _MOST_IN_NETWORK),
        ):
            seen = matched(_mapped(a, directions), _mapped(b, directions), most)
            found[kind] = accuracy(*seen, seed=seed)
        for kind, (value, error) in found.items():
            figures |= {f"{name}_{kind}": value, f"{name}_{kind}_se": error}
    return figures


def _mapped(blocks: Blocks, directions: Tensor) -> list[Tensor]:
    return [block @ directions for block in blocks]


def _mae(approximation: Tensor, truth: Tensor, unit: Unit) -> float:
    return unit.per_one * (approximation - truth).abs().nanmean().item()
