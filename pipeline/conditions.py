"""Conditions that samples can be asked for: features read off a surface, and numbers that came with its date."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import InputError
from pipeline.files import formats
from vae.surface import smile_features


class Conditions(NamedTuple):
    """Conditions of the surfaces of a split, in the order of their names.

    Attributes:
        names: as in ``train.conditions``.
        functionals: of those that are features the weights of the points, [D], by name.
        numbers: of the others the number of each surface, float64 [surface], NaN where unknown, by name.
    """

    names: tuple[str, ...]
    functionals: dict[str, Tensor]
    numbers: dict[str, Tensor]

    def of(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """All conditions of surfaces x [row, D], which are those of the split at ``rows``; [row, condition]."""
        return torch.stack([self._one(name, x, rows) for name in self.names], dim=1) if self.names else x[:, :0]

    def known(self, count: int) -> Tensor:
        """Which of the first ``count`` surfaces have all conditions, [count]."""
        columns = [numbers[:count].isfinite() for numbers in self.numbers.values()]
        return torch.stack(columns).all(0) if columns else torch.ones(count, dtype=torch.bool)

    def _one(self, name: str, x: Tensor, rows: slice) -> Tensor:
        return x @ self.functionals[name] if name in self.functionals else self.numbers[name][rows]


def read_conditions(names: tuple[str, ...], surfaces: Path, split: str) -> Conditions:
    """The conditions of a split of the prepared data.

    Raises:
        InputError: a name is neither a feature that the grid has nor a number of the data.
    """
    if not names:  # vectors have no grid to read features with
        return Conditions(names, {}, {})
    found = formats.read_conditions(surfaces, split)
    for name in names:
        if name not in (*smile_features.FEATURES, *found):
            raise InputError(
                f"params.yaml: train.conditions: {name!r} is neither a feature of surfaces nor one of "
                f"prepare.quotes.conditions; allowed: {', '.join((*smile_features.FEATURES, *found))}"
            )
    functionals = {name: _functional(name, surfaces) for name in names if name not in found}
    return Conditions(names, functionals, {name: found[name] for name in names if name in found})


def _functional(name: str, surfaces: Path) -> Tensor:
    try:
        return torch.from_numpy(smile_features.functionals((name,), formats.read_grid(surfaces))).flatten()
    except ValueError as error:
        raise InputError(f"params.yaml: train.conditions: {error}") from error
