"""A prepared data set: three splits of surfaces or vectors, and what holds for all of them.

docs/formats.md lists the files of its folder and the arrays of a split by source. The points of a split are read from
its file where they are used, as they may not fit into memory. Never imports torch: stages that compute with tensors
make these of the arrays.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import safetensors
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files import formats
from pipeline.files.mapped import mapped_array
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, OWN, VOL_BP, Unit

T = TypeVar("T")

SPLITS = ("train", "validation", "test")
REPORT = "report.json"
_GRID, _LAW, _PATH, _MARKETS = "grid.json", "law.json", "path.json", "markets.json"
_VALUES = "values"  # the array of a split that holds vectors instead of surfaces
_DATE = "date"
_TIME, _MARKET = "time", "market"  # arrays of a split whose dates have several surfaces
_PARAMETERS = "parameters"  # the array of a split that simulation writes beside its surfaces
_CONDITION = "condition."  # prefix of the arrays that hold one number for each date
_ROWS = 65_536  # surfaces that are looked at together: bounds the memory


class SimulatedLaw(NamedTuple):
    """The law of simulated surfaces: parameters uniform on a box, and independent normal noise on each vol.

    Attributes:
        model: its name, as in ``vae.pricing.simulated_models.MODELS``.
        low, high: ends of the sides of the box, in the order of the model's parameters.
        quote_noise_vol: standard deviation of the noise.
        vol_tolerance: a surface with a vol that is not known to it is left out.
    """

    model: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    quote_noise_vol: float
    vol_tolerance: float

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume of the box."""
        return sum(math.log(high - low) for low, high in zip(self.low, self.high, strict=True))

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "SimulatedLaw":
        """The law of a file.

        Raises:
            KeyError: a value is missing.
            TypeError: a value is of another type.
            ValueError: a value is no number, or a side of the box is empty.
        """
        law = cls(
            model=str(values["model"]),
            low=tuple(float(end) for end in values["low"]),
            high=tuple(float(end) for end in values["high"]),
            quote_noise_vol=float(values["quote_noise_vol"]),
            vol_tolerance=float(values["vol_tolerance"]),
        )
        if not law.low or len(law.low) != len(law.high) or any(a >= b for a, b in zip(law.low, law.high, strict=True)):
            raise ValueError(f"low {law.low} must be below high {law.high} on each side of the box")
        return law


class PathLaw(NamedTuple):
    """The law of a simulated path, whose days are consecutive: the parameters but for the variance of each day.

    Attributes:
        kappa, theta, vol_of_vol, rho: as in ``vae.pricing.heston.Heston``.
        vol_tolerance: accuracy of its vols.
    """

    kappa: float
    theta: float
    vol_of_vol: float
    rho: float
    vol_tolerance: float

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "PathLaw":
        """The law of a file.

        Raises:
            KeyError: a value is missing.
            TypeError: a value is of another type.
            ValueError: a value is no number.
        """
        return cls(**{name: float(values[name]) for name in cls._fields})


@dataclass(frozen=True)
class Dataset:
    """A prepared data set in a folder.

    Every reader raises InputError where a file is missing, damaged or of another format.
    """

    folder: Path

    def file(self, split: str) -> Path:
        """The safetensors file of one of ``SPLITS``."""
        return self.folder / f"{split}.safetensors"

    def arrays(self, split: str) -> dict[str, NDArray[Any]]:
        """All arrays of a split by name."""
        return formats.read_arrays(self.file(split)).arrays

    def points(self, split: str, name: str = "iv") -> NDArray[np.float32]:
        """All points of each surface or vector of a split, float32 [surface, D]; NaN where missing.

        They lie in the file and are read as they are used: the system may drop them again from memory.

        Args:
            split: one of ``SPLITS``.
            name: ``iv`` as quoted, or ``clean``, without noise; a split of vectors has its values alone.

        Raises:
            InputError: the split is empty, or a surface has no point.
        """
        path = self.file(split)
        with formats.reading(path), safetensors.safe_open(path, framework="numpy") as file:
            name = _VALUES if _VALUES in file.keys() else name  # noqa: SIM118
        found = mapped_array(path, name)
        if not len(found):
            raise InputError(f"{path} is empty; give the split {split} a larger share in params.yaml")
        points: NDArray[np.float32] = found.reshape(len(found), -1)
        for first in range(0, len(points), _ROWS):
            empty = np.isnan(points[first : first + _ROWS]).all(axis=1)
            if empty.any():
                number = first + empty.argmax() + 1
                raise InputError(f"{path}: surface {number} has no point; raise prepare.quotes.min_points")
        return points

    def truth(self, split: str) -> NDArray[np.float32]:
        """The points of each surface without noise where these are known, else as quoted, float32 [surface, D]."""
        with formats.reading(self.file(split)), safetensors.safe_open(self.file(split), framework="numpy") as file:
            name = "clean" if "clean" in file.keys() else "iv"  # noqa: SIM118
        return self.points(split, name)

    def conditions(self, split: str) -> dict[str, NDArray[np.float64]]:
        """The numbers of each date by name, float64 [surface], NaN where unknown; none where data has no dates."""
        path = self.file(split)
        with formats.reading(path), safetensors.safe_open(path, framework="numpy") as file:
            names = [name for name in sorted(file.keys()) if name.startswith(_CONDITION)]
            return {name.removeprefix(_CONDITION): file.get_tensor(name) for name in names}

    @property
    def markets(self) -> tuple[str, ...]:
        """The names of the markets, sorted; none where the data does not tell markets apart."""
        path = self.folder / _MARKETS
        if not path.exists():
            return ()
        names = formats.read_json(path).get("markets")
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise InputError(f"{path} must hold the list `markets` of names, but holds {names!r}")
        return tuple(names)

    def market(self, split: str) -> NDArray[np.int64] | None:
        """The market of each surface, a place in ``markets``, int64 [surface]; None where there are no markets."""
        if not self.markets:
            return None
        found = self._optional(split, _MARKET)
        if found is None or not ((found >= 0) & (found < len(self.markets))).all():
            raise InputError(f"{self.file(split)} does not name one of the {len(self.markets)} markets of each surface")
        return found

    def date(self, split: str) -> NDArray[np.int32] | None:
        """The date of each surface, days since 1970-01-01, int32 [surface], rising; None where it is not known."""
        return self._optional(split, _DATE)

    def parameters(self, split: str) -> NDArray[np.float64] | None:
        """The parameters of each simulated surface, float64 [surface, parameter]; None for other data."""
        return self._optional(split, _PARAMETERS)

    def time(self, split: str) -> NDArray[np.float64] | None:
        """The time of each surface, days since 1970-01-01, float64 [surface]; None where it is not known."""
        return self._optional(split, _TIME)

    @property
    def of_vectors(self) -> bool:
        """Whether the splits hold vectors, which have no grid, instead of surfaces."""
        path = self.file(SPLITS[0])
        with formats.reading(path), safetensors.safe_open(path, framework="numpy") as file:
            return _VALUES in file.keys()  # noqa: SIM118

    @property
    def unit(self) -> Unit:
        """The unit in which figures give errors and noise."""
        return OWN if self.of_vectors else VOL_BP

    @property
    def report(self) -> dict[str, Any]:
        """The figures that prepare wrote beside surfaces of quotes; empty where it made the surfaces itself."""
        path = self.folder / REPORT
        return formats.read_json(path) if path.exists() else {}

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
    def noise_bp(self) -> float | None:
        """Standard deviation of the noise of a quote in bp of vol, where it is known."""
        return None if self.law is None else BASIS_POINTS * self.law.quote_noise_vol

    @property
    def law(self) -> SimulatedLaw | None:
        """The law of simulated surfaces; None for other data."""
        return self._read_law(_LAW, SimulatedLaw.read, "a law")

    @property
    def path(self) -> PathLaw | None:
        """The law of a simulated path; None for other data."""
        return self._read_law(_PATH, PathLaw.read, "the law of a path")

    def _read_law(self, name: str, read: Callable[[Any], T], what: str) -> T | None:
        """The law in a file of this name; None where there is no such file."""
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return read(formats.read_json(path))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not {what}: {error}") from error

    def write_surfaces(
        self,
        split: str,
        iv: NDArray[np.float32],
        dates: NDArray[np.int32],
        conditions: Mapping[str, NDArray[np.float64]],
        time: NDArray[np.float64] | None = None,
        market: NDArray[np.int64] | None = None,
    ) -> None:
        """Write a split of surfaces.

        Args:
            split: one of ``SPLITS``.
            iv: vols [surface, tenor, node] in single precision, NaN where missing.
            dates: days since 1970-01-01, int32 [surface].
            conditions: numbers by name, float64 [surface], NaN where unknown.
            time: days since 1970-01-01 with the fraction of the day, float64 [surface].
            market: place of the surface's market in ``markets``, int64 [surface].
        """
        numbers = {f"{_CONDITION}{name}": values for name, values in conditions.items()}
        more = {name: values for name, values in ((_TIME, time), (_MARKET, market)) if values is not None}
        formats.write_arrays(self.file(split), {"iv": iv, _DATE: dates, **more, **numbers})

    def write_markets(self, names: Sequence[str]) -> None:
        """Write the names of the markets in their order."""
        formats.write_json(self.folder / _MARKETS, {"markets": list(names)})

    def write_vectors(self, split: str, values: NDArray[np.float32], *, likelihood: str) -> None:
        """Write a split of vectors [n, D]."""
        formats.write_arrays(self.file(split), {_VALUES: values}, {"likelihood": likelihood})

    def write_grid(self, grid: Grid) -> None:
        """Write the grid of the surfaces."""
        formats.write_json(self.folder / _GRID, grid.to_dict())

    def write_law(self, law: SimulatedLaw) -> None:
        """Write the law of simulated surfaces."""
        formats.write_json(self.folder / _LAW, law._asdict())

    def write_path(self, law: PathLaw) -> None:
        """Write the law of a simulated path."""
        formats.write_json(self.folder / _PATH, law._asdict())

    def _optional(self, split: str, name: str) -> NDArray[Any] | None:
        """An array of a split; None where the split has no such array."""
        path = self.file(split)
        with formats.reading(path), safetensors.safe_open(path, framework="numpy") as file:
            return file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
