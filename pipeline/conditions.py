"""Conditioning variables of the prior: features of a surface, and numbers that the data has for its date."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import InputError
from pipeline.files.dataset import Dataset
from vae.model.linear import PrincipalComponents
from vae.surface import smile_features

MARKET = "market"


class TargetConditions(NamedTuple):
    """Conditions on which samples are drawn in evaluation, and linear maps that measure them on any surface.

    Attributes:
        values: conditions of the test surfaces, [surface, condition]; NaN where unknown.
        weights, constant: a surface [D] has the conditions constant + weights @ surface, [condition, D], [condition].
    """

    values: Tensor
    weights: Tensor
    constant: Tensor

    def measure(self, x: Tensor) -> Tensor:
        """Conditions of surfaces x [batch, D], [batch, condition]."""
        return x @ self.weights.T + self.constant


class Conditions(NamedTuple):
    """Conditions of the surfaces of a split.

    Attributes:
        names: as in ``train.conditions``, in this order.
        functionals: weights of the points [D] for each condition that is a feature of the surface, by name.
        numbers: values of each other condition by name, float64 [surface], NaN where unknown.
    """

    names: tuple[str, ...]
    functionals: dict[str, Tensor]
    numbers: dict[str, Tensor]

    def of(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """All conditions [row, condition] of surfaces x [row, D], which stand at ``rows`` of the split."""
        return torch.stack([self._one(name, x, rows) for name in self.names], dim=1) if self.names else x[:, :0]

    def at(self, chosen: Tensor) -> "Conditions":
        """The conditions of some surfaces of the split, by their places."""
        return self._replace(numbers={name: values[chosen] for name, values in self.numbers.items()})

    def known(self, count: int) -> Tensor:
        """Which of the first ``count`` surfaces have all conditions, [count]."""
        columns = [numbers[:count].isfinite() for numbers in self.numbers.values()]
        return torch.stack(columns).all(0) if columns else torch.ones(count, dtype=torch.bool)

    def _one(self, name: str, x: Tensor, rows: slice) -> Tensor:
        return x @ self.functionals[name] if name in self.functionals else self.numbers[name][rows]


def conditioning_markets(names: Sequence[str], data: Dataset) -> tuple[str, ...]:
    """The markets of the data where ``market`` is one of the conditions; none otherwise.

    Raises:
        InputError: the market is a condition, but the data does not tell markets apart.
    """
    if MARKET in names and not data.markets:
        raise InputError(
            f"params.yaml: train.conditions: {MARKET!r}, but the data does not tell markets apart; "
            f"prepare.quotes.columns.market names the column that does"
        )
    return data.markets if MARKET in names else ()


def numbers_among(names: Sequence[str]) -> tuple[str, ...]:
    """The conditions that are numbers: all but the market."""
    return tuple(name for name in names if name != MARKET)


def read_conditions(names: tuple[str, ...], data: Dataset, split: str) -> Conditions:
    """The conditions of a split of the prepared data.

    Raises:
        InputError: a name is neither a feature that the grid has nor a number of the data.
    """
    if not names:  # vectors have no grid to read features with
        return Conditions(names, {}, {})
    found = {name: torch.from_numpy(values) for name, values in data.conditions(split).items()}
    for name in names:
        if name not in (*smile_features.FEATURES, *found):
            raise InputError(
                f"params.yaml: train.conditions: {name!r} is neither a feature of surfaces nor one of "
                f"prepare.quotes.conditions; allowed: {', '.join((*smile_features.FEATURES, *found))}"
            )
    functionals = {name: _functional(name, data) for name in names if name not in found}
    return Conditions(names, functionals, {name: found[name] for name in names if name in found})


def _functional(name: str, data: Dataset) -> Tensor:
    try:
        return torch.from_numpy(smile_features.functionals((name,), data.grid)).flatten()
    except ValueError as error:
        raise InputError(f"params.yaml: train.conditions: {error}") from error


def target_conditions(
    names: tuple[str, ...], data: Dataset, truth: Tensor, fitted: Tensor, components: PrincipalComponents, latents: int
) -> TargetConditions | None:
    """The conditions of the test surfaces ``truth`` [surface, D]; None where the prior has none.

    A number that came with the dates is measured by its regression on the scores of the training surfaces ``fitted``
    [surface, D] along the first principal components.
    """
    if not names:
        return None
    train, test = (read_conditions(names, data, split) for split in ("train", "test"))
    weights, constant = (
        torch.zeros(len(names), truth.shape[1], dtype=truth.dtype),
        torch.zeros(len(names)).double(),
    )
    vectors = components.vectors[:, :latents]
    for index, name in enumerate(names):
        if name in train.functionals:
            weights[index] = train.functionals[name]
            continue
        known = train.numbers[name].isfinite()
        scores = (fitted[known].double() - components.mean) @ vectors
        constant[index], slope = _regression(scores, train.numbers[name][known])
        weights[index] = vectors @ slope
        constant[index] -= components.mean @ weights[index]
    return TargetConditions(test.of(truth), weights, constant)


def _regression(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Constant and slope [d] of the least squares of y [n] on x [n, d]."""
    design = torch.cat([torch.ones(len(x), 1).to(x), x], dim=1)
    constant, slope = torch.linalg.lstsq(design, y.unsqueeze(1), driver="gelsd").solution[:, 0].split([1, x.shape[1]])
    return constant[0], slope
