"""Linear opponents: Gaussians of the points or of their logarithms, of full covariance or of low rank.

A Gaussian with the full covariance is the best linear predictor of hidden points; one of low rank is
probabilistic PCA. A model is worth its network where it predicts better.

Reference: Bishop (2006), "Pattern Recognition and Machine Learning", equations 2.96 and 2.97 (conditional Gaussian).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import completion
from vae.model.autoencoder import Transform, transformed
from vae.model.known_points import Variances, components_by_em
from vae.model.linear import PrincipalComponents, age_weights
from vae.model.rows import any_of, has_missing
from vae.surface.units import VOL_BP, Unit

_RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)  # that pPCA chooses from
_MOST_ROWS = 20_000  # with which ranks and ridges are chosen, and EM fits
_LEAST_ERROR = 1e-12  # so that a ratio exists
_RIDGES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0)  # that the full covariance chooses from
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
        name: ``gaussian``, of full covariance, or ``ppca``; with ``log_`` before it where the logarithms are normal,
            and ``_500_days`` behind it where 500 days of age halve the weight of a row.
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
    days: Tensor | None = None,
    half_lives: Sequence[float] = (),
) -> tuple[Opponent, ...]:
    """For each transform the Gaussian of full covariance, and pPCA of the best rank; all of maximum likelihood.

    They are fitted to the known points of training and validation rows together. Rank and ridge are those with which a
    fit to the training rows makes the validation rows most likely.

    Args:
        train: rows [n, D]; NaN where a point is missing. Of many rows with such points, some are taken.
        validation: likewise, [m, D].
        transforms: in which points are taken to be normal.
        days: of training and validation rows, [n + m]; with ``half_lives``.
        half_lives: days of age that halve the weight of a row, each of which has opponents of its own, besides those to
            which all rows are alike.
    """
    early, rows = _Rows((train,)), _Rows((train, validation))
    ages = [] if days is None else [(f"_{one:g}_days", age_weights(days, one)) for one in half_lives]
    return tuple(
        one._replace(name=f"{_PREFIX[transform]}{one.name}{end}")
        for end, weights in [("", None), *ages]
        for transform in transforms
        for one in _best(
            early._replace(weights=None if weights is None else weights[: len(train)]).some(),
            rows._replace(weights=weights).some(missing_only=True),
            validation.double(),
            transform,
        )
    )


class _Rows(NamedTuple):
    """Rows that a Gaussian is fitted to.

    Attributes:
        parts: of the rows, [n, D].
        weights: of all rows, [row]; None where they count alike.
    """

    parts: tuple[Tensor, ...]
    weights: Tensor | None = None

    def some(self, *, missing_only: bool = False) -> "_Rows":
        """So many that a choice, or EM, takes minutes at most; all, where only gaps would make it long and none is."""
        if missing_only and not any(map(has_missing, self.parts)):
            return self
        sizes = [len(part) for part in self.parts]
        each = slice(None, None, 1 + sum(sizes) // _MOST_ROWS)
        weights = None if self.weights is None else torch.cat([own[each] for own in self.weights.split(sizes)])
        return _Rows(tuple(part[each] for part in self.parts), weights)

    def components(
        self, transform: Transform, variances: Variances, start: PrincipalComponents | None = None
    ) -> PrincipalComponents:
        """Components of the covariance of the transformed rows under a law, as of ``components_by_em``."""
        return components_by_em(
            self.parts, variances, self.weights, partial(transformed, transform=transform), start=start
        )


def _best(early: _Rows, rows: _Rows, validation: Tensor, transform: Transform) -> Iterator[Opponent]:
    """The Gaussian and the pPCA, fitted to rows, whose ridge and rank suit validation rows when fitted to early ones.

    Where points are missing, ranks are compared under the covariance that the best ridge expects.
    """
    ridge, components = _best_ridge(early, validation, transform)
    ranks = [rank for rank in _RANKS if rank < len(components.mean)]
    densities = [_density(components, _low_rank(components, rank), validation, transform) for rank in ranks]
    rank = ranks[max(range(len(ranks)), key=densities.__getitem__)]
    full = partial(_full, ridge=ridge)
    components = rows.components(transform, full)
    yield Opponent("gaussian", _law(components, full(components), transform))
    low_rank = partial(_low_rank, rank=rank)
    if any(map(has_missing, rows.parts)):
        components = rows.components(transform, low_rank, components)
    yield Opponent("ppca", _law(components, low_rank(components), transform), rank)


def _best_ridge(early: _Rows, validation: Tensor, transform: Transform) -> tuple[float, PrincipalComponents]:
    """The ridge with which validation rows [m, D] are most likely, and the components under it.

    Where points are missing, ridges fall until the density does: each fit starts from the one before.
    """
    missing = any(map(has_missing, early.parts))
    tried: list[tuple[float, PrincipalComponents]] = []
    densities: list[float] = []
    for ridge in _RIDGES:
        components = tried[-1][1] if tried else None
        if components is None or missing:
            components = early.components(transform, partial(_full, ridge=ridge), components)
        tried.append((ridge, components))
        densities.append(_density(components, _full(components, ridge), validation, transform))
        if missing and densities[-1] < max(densities):
            break
    return tried[max(range(len(tried)), key=densities.__getitem__)]


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


def _density(components: PrincipalComponents, variances: Tensor, validation: Tensor, transform: Transform) -> float:
    """Mean log density of validation rows [m, D] under a law of these variances [D]."""
    return _law(components, variances, transform).log_likelihood(validation).mean().item()


def _law(components: PrincipalComponents, variances: Tensor, transform: Transform) -> Gaussian:
    """The Gaussian with these variances [D] along the components."""
    return Gaussian(components.mean, (components.vectors * variances) @ components.vectors.T, transform)


def _full(components: PrincipalComponents, ridge: float) -> Tensor:
    """The variances of the components, [D], with a share of the mean variance of a point added to each.

    Directions without variance get that of rounding.
    """
    return torch.maximum(components.variances, components.rounding) + ridge * components.variances.mean()


def _low_rank(components: PrincipalComponents, rank: int) -> Tensor:
    """The variances of pPCA along the components, [D]."""
    noise = components.noise_variance(rank)
    variances = torch.cat([components.variances[:rank], noise.expand(len(components.mean) - rank)])
    return torch.maximum(variances, noise)


def _patterns(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows that have the same known points, as masks [batch], with these points, [D]."""
    patterns, pattern = torch.unique(~x.isnan(), dim=0, return_inverse=True)
    for index, known in enumerate(patterns):
        yield pattern == index, known
