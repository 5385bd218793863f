"""A prepared data set: three splits of surfaces or vectors, and what holds for all of them.

docs/formats.md lists the files of its folder and the tensors of a split by source. A split is read when it is asked
for, as all three together may not fit into memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors
from torch import Tensor

from pipeline.errors import InputError
from pipeline.files import formats
from vae.surface.grid import Grid

SPLITS = ("train", "validation", "test")
_GRID, _LAW = "grid.json", "law.json"
_VALUES = "values"  # the tensor of a split that holds vectors instead of surfaces
_CONDITION = "condition."  # prefix of the tensors that hold one number for each date


class Law(NamedTuple):
    """Numbers that fix the exact density of simulated surfaces.

    Attributes:
        quote_noise_vol: standard deviation of the noise on each vol.
        log_volume: logarithm of the volume of the box of the model's parameters.
    """

    quote_noise_vol: float
    log_volume: float


@dataclass(frozen=True)
class Dataset:
    """A prepared data set in a folder.

    Every reader raises InputError where a file is missing, damaged or of another format.
    """

    folder: Path

    def file(self, split: str) -> Path:
        """The safetensors file of one of ``SPLITS``."""
        return self.folder / f"{split}.safetensors"

    def tensors(self, split: str) -> dict[str, Tensor]:
        """All tensors of a split by name."""
        return formats.read_tensors(self.file(split)).tensors

    def points(self, split: str, name: str = "iv") -> Tensor:
        """All points of each surface or vector of a split, float32 [surface, D]; NaN where missing.

        Args:
            split: one of ``SPLITS``.
            name: ``iv`` as quoted, or ``clean``, without noise; a split of vectors has its values alone.

        Raises:
            InputError: the split is empty, or a surface has no point.
        """
        path = self.file(split)
        with formats.reading(path), safetensors.safe_open(path, framework="pt") as file:
            points: Tensor = file.get_tensor(_VALUES if _VALUES in file.keys() else name).flatten(1)  # noqa: SIM118
        if not len(points):
            raise InputError(f"{path} is empty; give the split {split} a larger share in params.yaml")
        empty = points.isnan().all(1)
        if empty.any():
            first = int(empty.nonzero()[0]) + 1
            raise InputError(f"{path}: surface {first} has no point; raise prepare.quotes.min_points")
        return points

    def truth(self, split: str) -> Tensor:
        """The points of each surface without noise where these are known, else as quoted, float32 [surface, D]."""
        with formats.reading(self.file(split)), safetensors.safe_open(self.file(split), framework="pt") as file:
            name = "clean" if "clean" in file.keys() else "iv"  # noqa: SIM118
        return self.points(split, name)

    def conditions(self, split: str) -> dict[str, Tensor]:
        """The numbers of each date by name, float64 [surface], NaN where unknown; none where data has no dates."""
        tensors = self.tensors(split)
        return {name.removeprefix(_CONDITION): x for name, x in tensors.items() if name.startswith(_CONDITION)}

    @property
    def likelihood(self) -> str:
        """The likelihood of a point given z: ``gaussian``, or for vectors perhaps ``bernoulli``."""
        return formats.read_text(self.file(SPLITS[0])).get("likelihood", "gaussian")

    @property
    def grid(self) -> Grid:
        """The grid of the surfaces."""
        path = self.folder / _GRID
        if self.folder.is_dir() and not path.exists():
            raise InputError(
                f"{self.folder} holds no {_GRID}: prepare.source: array makes vectors; allowed: surfaces on a grid"
            )
        try:
            return Grid.from_dict(formats.read_json(path))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is not a grid: {error}") from error

    @property
    def law(self) -> Law | None:
        """The law of simulated surfaces; None for other data."""
        path = self.folder / _LAW
        if not path.exists():
            return None
        try:
            return Law(**{name: float(value) for name, value in formats.read_json(path).items()})
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is not a law: {error}") from error

    def write_surfaces(self, split: str, iv: Tensor, dates: Tensor, conditions: Mapping[str, Tensor]) -> None:
        """Write a split of surfaces iv [date, tenor, node] with their dates and, by name, their conditions, [date]."""
        numbers = {f"{_CONDITION}{name}": values for name, values in conditions.items()}
        formats.write_tensors(self.file(split), {"iv": iv, "date": dates, **numbers})

    def write_vectors(self, split: str, values: Tensor, *, likelihood: str) -> None:
        """Write a split of vectors [n, D]."""
        formats.write_tensors(self.file(split), {_VALUES: values}, {"likelihood": likelihood})

    def write_grid(self, grid: Grid) -> None:
        """Write the grid of the surfaces."""
        formats.write_json(self.folder / _GRID, grid.to_dict())

    def write_law(self, law: Law) -> None:
        """Write the law of simulated surfaces."""
        formats.write_json(self.folder / _LAW, law._asdict())
