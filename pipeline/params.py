"""params.yaml -> frozen, strictly checked values: the only validator of settings."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import InputError
from vae.grid import Convention, Grid

PARAMS = Path("params.yaml")
_DAYS_PER_YEAR = 365.0  # ACT/365

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Block(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class EvenNodes(_Block):
    """``count`` nodes from ``start`` to ``stop``."""

    start: Number
    stop: Number
    count: Annotated[int, Field(ge=3, le=1000)]

    def values(self) -> NDArray[np.float64]:
        """The nodes."""
        return np.linspace(self.start, self.stop, self.count)


class GridParams(_Block):
    """Tenors in days and nodes; see ``vae.grid.Grid``."""

    convention: Convention
    tenors_days: Annotated[list[Positive], Field(min_length=2, max_length=1000)]
    nodes: EvenNodes | Annotated[list[Number], Field(min_length=3, max_length=1000)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        self.build()
        return self

    def build(self) -> Grid:
        """The grid, in years."""
        nodes = self.nodes
        values = nodes.values() if isinstance(nodes, EvenNodes) else np.array(nodes)
        return Grid(np.array(self.tenors_days) / _DAYS_PER_YEAR, values, self.convention)


class SplitSizes(_Block):
    """Surfaces designed for each split; rejected ones are missing from it."""

    train: Annotated[int, Field(ge=2)]
    validation: Annotated[int, Field(ge=2)]
    test: Annotated[int, Field(ge=2)]


class Range(_Block):
    """An interval of a parameter."""

    low: Number
    high: Number

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class HestonRanges(_Block):
    """Box of Heston parameters; v0 and theta are variances."""

    v0: Range
    kappa: Range
    theta: Range
    vol_of_vol: Range
    rho: Range

    @model_validator(mode="after")
    def _admissible(self) -> Self:
        for name in ("v0", "kappa", "theta", "vol_of_vol"):
            if getattr(self, name).low <= 0.0:
                raise ValueError(f"{name}.low must be above 0")
        if self.rho.low <= -1.0 or self.rho.high >= 1.0:
            raise ValueError("rho must stay inside (-1, 1)")
        return self


class PrepareParams(_Block):
    """Settings of the stage ``prepare``."""

    seed: Seed
    surfaces: SplitSizes
    quote_noise_bp: Annotated[float, Field(ge=0.0, le=50.0)]
    vol_tolerance: Positive
    grid: GridParams
    heston: HestonRanges


class ModelParams(_Block):
    """Sizes of the model; see ``vae.model.Architecture``."""

    latents: Count
    basis: Count
    width: Count
    depth: Count

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.latents > self.basis:
            raise ValueError(f"latents ({self.latents}) must not exceed basis ({self.basis})")
        return self


class TrainParams(_Block):
    """Settings of the stage ``train``; see ``vae.fit.Schedule``."""

    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    model: ModelParams
    epochs: Count
    batch: Count
    learning_rate: Positive
    scale_rate: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    gradient_clip: Positive
    checkpoint_epochs: Count


class EvaluateParams(_Block):
    """Settings of the stage ``evaluate``."""

    seed: Seed
    importance_samples: Annotated[int, Field(ge=2, le=100_000)]
    prior_samples: Annotated[int, Field(ge=100)]
    arbitrage_tolerance: Positive


class ExportParams(_Block):
    """Settings of the stage ``export``."""

    seed: Seed
    parity_samples: Count
    parity_tolerance_vol: Positive
    parity_tolerance_latent: Positive


class RegisterParams(_Block):
    """Settings of the stage ``register``."""

    experiment: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(pattern=r"^[\w. -]+$")]
    alias: Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]  # MLflow keeps v1, v2, ... for versions


class Params(_Block):
    """All of params.yaml."""

    prepare: PrepareParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    register_: Annotated[RegisterParams, Field(alias="register")]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        tenors, nodes = self.prepare.grid.build().shape
        if self.train.model.basis > tenors * nodes:
            raise ValueError(
                f"train.model.basis ({self.train.model.basis}) must not exceed the {tenors * nodes} points "
                "of prepare.grid"
            )
        if self.train.batch > self.prepare.surfaces.train:
            raise ValueError(
                f"train.batch ({self.train.batch}) must not exceed prepare.surfaces.train "
                f"({self.prepare.surfaces.train})"
            )
        return self


def read_params(path: Path = PARAMS) -> Params:
    """The settings in ``path``.

    Raises:
        InputError: the file is missing or not YAML, or keys are missing, unknown or out of range; all are named.
    """
    try:
        values = YAML(typ="safe").load(path)  # the parser that DVC reads params with
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors())
        raise InputError(f"{path}: {faults}") from error


def _fault(fault: ErrorDetails) -> str:
    """One fault as key: what is wrong, in the words a user can act on."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{key} is not a key; allowed: {', '.join(_keys(fault['loc'][:-1]))}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    got = f" (got {fault['input']!r})" if fault["type"] not in _SELF_EXPLAINING else ""
    return f"{key}: {message}{got}" if key else f"{message}{got}"


def _keys(location: tuple[str | int, ...]) -> list[str]:
    """Keys that the block at ``location`` may have."""
    block: Any = Params
    for part in location:
        names = {field.alias or name: field.annotation for name, field in block.model_fields.items()}
        annotation = names.get(str(part), block)
        choices = [c for c in get_args(annotation) if hasattr(c, "model_fields")]
        block = choices[0] if choices else annotation
    return [field.alias or name for name, field in block.model_fields.items()]


_SELF_EXPLAINING = {"value_error", "missing"}
