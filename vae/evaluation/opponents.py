"""Linear opponents: Gaussians of the points or of their logarithms, of full covariance or of low rank.

A Gaussian with the full covariance is the best linear predictor of hidden points; one of low rank is
probabilistic PCA. A model is worth its network where it predicts better.

Reference: Bishop (2006), "Pattern Recognition and Machine Learning", equations 2.96 and 2.97 (conditional Gaussian).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vae.model import completion
from vae.model.autoencoder import Transform, transformed
from vae.model.linear import PrincipalComponents, age_weights, components_of_known
from vae.model.rows import any_of
from vae.surface.units import VOL_BP, Unit

Choice = TypeVar("Choice", int, float)

_RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)  # that pPCA chooses from
_MOST_TO_CHOOSE = 20_000  # training rows that ranks and ridges are chosen with
_LEAST_ERROR = 1e-12  # so that a ratio exists
_RIDGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # that the full covariance chooses from
_PREFIX: dict[Transform, str] = {"none": "", "log": "log_"}


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


class Opponent(NamedTuple):
    """A linear model with its name among the figures.

    Attributes:
        name: ``gaussian``, of full covariance, or ``ppca``; with ``log_`` before it where the logarithms are normal.
        law: of the points.
        rank: of pPCA; None for the full covariance.
    """

    name: str
    law: Gaussian
    rank: int | None = None


def usable_transforms(*rows: Tensor) -> tuple[Transform, ...]:
    """The transforms that all rows [n, D] have: ``log`` only where no point is at 0 or below."""
    return ("none",) if any(any_of(x, lambda block: block <= 0.0) for x in rows) else ("none", "log")


def linear_opponents(
    train: Tensor,
    validation: Tensor,
    transforms: Sequence[Transform],
    latents: int,
    days: Tensor | None = None,
    half_life: float | None = None,
) -> tuple[Opponent, ...]:
    """For each transform the Gaussian of full covariance, and pPCA of the best rank; all of maximum likelihood.

    They are fitted to training and validation rows together. Rank and ridge are those with which a fit to the training
    rows makes the validation rows most likely.

    Args:
        train: rows [n, D]; NaN where a point is missing.
        validation: likewise, [m, D].
        transforms: in which points are taken to be normal.
        latents: of the model that they are compared with: missing points are filled by a pPCA of this rank.
        days: of training and validation rows, [n + m]; with ``half_life``.
        half_life: days of age that halve the weight of a row; None: all weigh the same.
    """
    rows, validation = [train, validation], validation.double()
    weights = None if half_life is None or days is None else age_weights(days, half_life)
    found = []
    for transform in transforms:
        some = slice(0, len(train), 1 + len(train) // _MOST_TO_CHOOSE)
        early, components = (
            components_of_known(
                parts, latents, None if weights is None else weights[part], partial(transformed, transform=transform)
            )
            for parts, part in (([train[some]], some), (rows, slice(None)))
        )
        ranks = [rank for rank in _RANKS if rank < len(components.mean)]
        rank = _most_likely(ranks, _low_rank, early, validation, transform)
        ridge = _most_likely(_RIDGES, _full, early, validation, transform)
        for name, covariance, of_rank in (
            ("gaussian", _full(components, ridge), None),
            ("ppca", _low_rank(components, rank), rank),
        ):
            found.append(Opponent(_PREFIX[transform] + name, Gaussian(components.mean, covariance, transform), of_rank))
    return tuple(found)


def opponent_likelihood_metrics(opponents: Sequence[Opponent], x: Tensor) -> dict[str, float]:
    """Mean log density of rows x [batch, D] under each opponent, its rank, and the largest density, in nats."""
    densities = {one.name: one.law.log_likelihood(x).mean().item() for one in opponents}
    ranks = {f"opponent_{one.name}_rank": one.rank for one in opponents if one.rank is not None}
    each = {f"opponent_{name}_log_likelihood_nats": density for name, density in densities.items()}
    best = {"opponent_log_likelihood_nats": max(densities.values())} if densities else {}
    return ranks | each | best


def opponent_completion_metrics(
    opponents: Sequence[Opponent], x: Tensor, *, known: Sequence[int], seed: int, unit: Unit = VOL_BP
) -> dict[str, float]:
    """Mean absolute errors of completion of x [batch, D] by each opponent, and the least; empty without opponents.

    The known points are those that ``metrics.completion_metrics`` draws with the same seed. Errors are over all points,
    and over the hidden ones where there are any. The least is taken for each figure on x itself, so that no choice
    among the opponents could be better.
    """
    figures: dict[str, float] = {}
    if not opponents:
        return figures
    for count, seen in completion.random_points(x, known, seed=seed):
        hidden = seen.isnan() & ~x.isnan()
        errors = {one.name: unit.per_one * (one.law.complete(seen) - x).abs() for one in opponents}
        means = {"completion_mae": {name: error.nanmean().item() for name, error in errors.items()}}
        if hidden.any():
            means["completion_hidden_mae"] = {name: error[hidden].mean().item() for name, error in errors.items()}
        for figure, values in means.items():
            end = f"{figure}{unit.suffix}_{count}"
            figures |= {f"opponent_{name}_{end}": value for name, value in values.items()}
            figures[f"opponent_{end}"] = min(values.values())
    return figures


def opponent_error_ratio(figures: Mapping[str, float], *, unit: Unit = VOL_BP) -> dict[str, float]:
    """The best opponent's error at hidden points over the model's: the geometric mean over the numbers of known points.

    Args:
        figures: of ``opponent_completion_metrics`` and ``metrics.completion_metrics``; without errors at hidden points
            there is no ratio.
        unit: of the errors.
    """
    start = f"opponent_completion_hidden_mae{unit.suffix}_"
    ratios = [
        math.log(max(value, _LEAST_ERROR) / max(figures[name.removeprefix("opponent_")], _LEAST_ERROR))
        for name, value in figures.items()
        if name.startswith(start)
    ]
    return {"opponent_error_ratio": math.exp(sum(ratios) / len(ratios))} if ratios else {}


def _most_likely(
    candidates: Sequence[Choice],
    covariance: Callable[[PrincipalComponents, Choice], Tensor],
    components: PrincipalComponents,
    validation: Tensor,
    transform: Transform,
) -> Choice:
    """The candidate with whose covariance validation rows [m, D] are most likely."""
    densities = [
        Gaussian(components.mean, covariance(components, one), transform).log_likelihood(validation).mean().item()
        for one in candidates
    ]
    return candidates[max(range(len(candidates)), key=densities.__getitem__)]


def _full(components: PrincipalComponents, ridge: float) -> Tensor:
    """The sample covariance, [D, D], with a share of the mean variance of a point added to each.

    Directions without variance get that of rounding.
    """
    variances = torch.maximum(components.variances, components.rounding) + ridge * components.variances.mean()
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
