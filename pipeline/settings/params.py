"""params.yaml -> frozen, strictly checked values: the only validator of settings."""

import datetime as dt
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import InputError
from vae.surface.grid import Convention, Grid

PARAMS = Path("params.yaml")
_DAYS_PER_YEAR = 365.0  # ACT/365

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Scale = Literal["shared", "point"]
Transform = Literal["none", "log"]
Noise = Annotated[float, Field(ge=0.0, le=50.0)]


def _day(value: object) -> object:
    """A day written as text, where it is one; YAML reads a bare 2023-02-15 as a date itself."""
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


Day = Annotated[dt.date, BeforeValidator(_day)]


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
    """Tenors in days and nodes; see ``vae.surface.grid.Grid``."""

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


class Shares(_Block):
    """Shares of the splits, which add up to 1; a share may be 0."""

    train: Share = 0.7
    validation: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"the shares of the splits must add up to 1, but add up to {total:g}")
        return self

    def stretches(self, count: int) -> dict[str, slice]:
        """Consecutive stretches of ``count`` things by split."""
        ends = {"train": self.train, "validation": self.train + self.validation, "test": 1.0}
        stops = [math.floor(share * count + 0.5) for share in ends.values()]
        starts = [0, *stops[:-1]]
        return {split: slice(start, stop) for split, start, stop in zip(ends, starts, stops, strict=True)}


class QuoteColumns(_Block):
    """The user's name of each canonical column; see docs/quotes.md."""

    date: Name | None = None
    tenor_years: Name | None = None
    days: Name | None = None
    expiry: Name | None = None
    log_moneyness: Name | None = None
    call_delta: Name | None = None
    strike: Name | None = None
    moneyness: Name | None = None
    forward: Name | None = None
    spot: Name | None = None
    rate: Name | None = None
    dividend_yield: Name | None = None
    iv: Name | None = None
    bid_iv: Name | None = None
    ask_iv: Name | None = None
    price: Name | None = None
    bid: Name | None = None
    ask: Name | None = None
    type: Name | None = None
    weight: Name | None = None
    exercise: Name | None = None
    quoted_at: Name | None = None

    @model_validator(mode="after")
    def _describes_quotes(self) -> Self:
        self._one_of("tenor_years", "days", "expiry")
        place = self._one_of("log_moneyness", "call_delta", "strike", "moneyness")
        quote = self._one_of("iv", "bid_iv", "price", "bid")
        for first, second in (("bid_iv", "ask_iv"), ("bid", "ask")):
            if (getattr(self, first) is None) != (getattr(self, second) is None):
                raise ValueError(f"{first} and {second} go together")
        if quote in ("price", "bid") and self.type is None:
            raise ValueError(f"{quote} needs type, a column of call and put")
        if quote in ("price", "bid") and place in ("log_moneyness", "call_delta"):
            raise ValueError(f"prices are read by strike or moneyness, not by {place}")
        if place == "moneyness" and self.spot is None:
            raise ValueError("moneyness (strike / spot) needs spot")
        if place == "strike" and self.forward is None and self.spot is None and not self.priced:
            raise ValueError("strike needs forward, or spot, or prices of calls and puts (price or bid and ask)")
        return self

    @property
    def priced(self) -> bool:
        """Whether quotes are prices rather than vols."""
        return self.price is not None or self.bid is not None

    def _one_of(self, *names: str) -> str:
        """The one canonical column of ``names`` that is set."""
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"exactly one of {', '.join(names)} must be set, not {got}")
        return given[0]


class QuotesParams(_Block):
    """Quotes in a file of the user, one row a quote; see docs/quotes.md."""

    path: Name
    columns: QuoteColumns
    conditions: dict[Name, Name] = {}
    date: Day | None = None
    vol_unit: Literal["decimal", "percent"] = "decimal"
    drop_where: Name | None = None
    max_relative_spread: Positive | None = None
    max_vol: Positive = 5.0
    max_age_days: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    min_points: Count = 5
    rate: Number = 0.0
    dividend_yield: Number = 0.0
    splits: Shares = Shares()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.columns.date is None) == (self.date is None):
            raise ValueError("exactly one of columns.date and date must be set")
        if self.vol_unit == "percent" and self.columns.priced:
            raise ValueError("vol_unit is for vols, but the columns are prices")
        if self.max_age_days is not None and self.columns.quoted_at is None:
            raise ValueError("max_age_days needs columns.quoted_at")
        return self


class ArrayParams(_Block):
    """An array [n, D] in a file of the user; see docs/quotes.md."""

    path: Name
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    key: Name | None = None
    columns: Annotated[list[Name], Field(min_length=1)] | None = None
    splits: Shares = Shares()
    shuffle: bool = True


class _Prepare(_Block):
    """Settings of all sources of the stage ``prepare``: a source overrides those that it requires."""

    seed: Seed | None = None
    surfaces: SplitSizes | None = None
    quote_noise_bp: Noise | None = None
    vol_tolerance: Positive | None = None
    grid: GridParams | None = None
    heston: HestonRanges | None = None
    surfaces_per_shard: Count = 4096
    compiled: bool = False
    engine: Literal["local", "dask"] = "local"
    workers: Count | None = None
    address: Name | None = None
    quotes: QuotesParams | None = None
    array: ArrayParams | None = None


class HestonPrepare(_Prepare):
    """Settings of exact Heston surfaces with quote noise."""

    source: Literal["heston"] = "heston"
    seed: Seed
    surfaces: SplitSizes
    quote_noise_bp: Noise
    vol_tolerance: Positive
    grid: GridParams
    heston: HestonRanges

    @model_validator(mode="after")
    def _has_an_engine(self) -> Self:
        if (self.engine == "dask") != (self.address is not None):
            raise ValueError(
                f"engine: {self.engine} {'needs' if self.address is None else 'has no'} address (tcp://host:8786)"
            )
        return self


class QuotesPrepare(_Prepare):
    """Settings of surfaces from quotes."""

    source: Literal["quotes"]
    grid: GridParams
    quotes: QuotesParams


class ArrayPrepare(_Prepare):
    """Settings of vectors without a grid."""

    source: Literal["array"]
    seed: Seed
    array: ArrayParams


def _source(values: object) -> object:
    """Which settings of the stage ``prepare`` a mapping means to be."""
    return values.get("source", "heston") if isinstance(values, Mapping) else "heston"


PrepareParams = Annotated[
    Annotated[HestonPrepare, Tag("heston")]
    | Annotated[QuotesPrepare, Tag("quotes")]
    | Annotated[ArrayPrepare, Tag("array")],
    Discriminator(
        _source,
        custom_error_type="source",
        custom_error_message="source: Input should be 'heston', 'quotes' or 'array'",
    ),
]


class ModelParams(_Block):
    """Sizes of the model; see ``vae.model.autoencoder.Architecture``."""

    latents: Count
    basis: Count
    width: Count
    depth: Annotated[int, Field(ge=0)]
    transform: Transform = "none"
    scale: Scale = "shared"
    scale_floor: NotNegative = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.latents > self.basis:
            raise ValueError(f"latents ({self.latents}) must not exceed basis ({self.basis})")
        return self


class PenaltyParams(_Block):
    """Epochs after the others in which the model learns to keep its samples free of arbitrage."""

    epochs: Whole = 0
    samples: Count = 64
    nats: Positive = 0.1


class PriorParams(_Block):
    """The mixtures of which the one that fits the validation codes best ships; see ``vae.model.mixture``."""

    components: Annotated[list[Count], Field(min_length=1)] = [1, 10, 100]
    surfaces: Annotated[int, Field(ge=2)] = 40_000


class TrainParams(_Block):
    """Settings of the stage ``train``; see ``vae.training.schedule.Schedule``."""

    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    compiled: bool = False
    deterministic: bool = True
    model: ModelParams
    scaffold_latents: Whole = 0
    epochs: Count
    batch: Count
    learning_rate: Positive
    scale_rate: Positive
    warmup_steps: Whole
    gradient_clip: Positive
    weight_decay: NotNegative = 0.0
    beta: NotNegative = 1.0
    beta_warmup_epochs: Whole = 0
    importance_samples: Count = 1
    hidden_share: Share = 0.0
    patience_epochs: Whole = 0
    checkpoint_epochs: Count
    arbitrage: PenaltyParams = PenaltyParams()
    prior: PriorParams = PriorParams()
    conditions: Annotated[list[Name], Field(max_length=8)] = []

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        latents, basis = self.model.latents + self.scaffold_latents, self.model.basis
        if latents > basis:
            raise ValueError(f"model.latents and scaffold_latents ({latents}) must not exceed model.basis ({basis})")
        if self.scaffold_latents and self.epochs < 2:
            raise ValueError("scaffold_latents needs 2 epochs or more")
        return self


class EvaluateParams(_Block):
    """Settings of the stage ``evaluate``."""

    seed: Seed
    importance_samples: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1)]
    prior_samples: Annotated[int, Field(ge=100)]
    completion_points: Annotated[list[Count], Field(min_length=1)] = [5, 10, 20, 40]
    completion_surfaces: Count = 500
    arbitrage_tolerance: Positive

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for less, more in pairwise(self.importance_samples):
            if more <= less or more % less:
                raise ValueError(f"importance_samples: each must be a multiple of the one before, not {less}, {more}")
        if self.importance_samples[-1] < 2:
            raise ValueError("importance_samples must end in 2 or more")
        return self


class ExportParams(_Block):
    """Settings of the stage ``export``."""

    seed: Seed
    fp16: bool = False
    scored_surfaces: Annotated[int, Field(ge=2)] = 5000
    parity_samples: Count
    parity_scores: Count = 200
    parity_completions: Count = 20
    parity_tolerance_vol: Positive
    parity_tolerance_latent: Positive


class ShareRange(_Block):
    """Shares from ``low`` to ``high``."""

    low: Share
    high: Share

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        return self


class GateParams(_Block):
    """What a version must reach before it may be champion; a check that is None is left out."""

    parity_vol: Positive
    coverage_90: ShareRange | None
    arbitrage_rate: Share | None
    pca_ratio: Positive | None
    decode_ms: Positive
    worse_nats: NotNegative
    worse_bp: NotNegative


class RegisterParams(_Block):
    """Settings of the stage ``register``."""

    experiment: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(pattern=r"^[\w. -]+$")]
    promote: bool
    gate: GateParams


class RetrainParams(_Block):
    """When a scheduled run that finds changes trains on them."""

    when: Annotated[list[Literal["change", "drift", "age"]], Field(min_length=1)]
    incoming: Annotated[str, Field(min_length=1)] | None
    odd_share: Share
    age_days: Positive

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if "drift" in self.when and self.incoming is None:
            raise ValueError("when: drift needs incoming, the path of the surfaces that are watched")
        return self


class Params(_Block):
    """All of params.yaml."""

    prepare: PrepareParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    register_: Annotated[RegisterParams, Field(alias="register")]
    retrain: RetrainParams

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if isinstance(self.prepare, ArrayPrepare):
            return self
        tenors, nodes = self.prepare.grid.build().shape
        if self.train.model.basis > tenors * nodes:
            raise ValueError(
                f"train.model.basis ({self.train.model.basis}) must not exceed the {tenors * nodes} points "
                "of prepare.grid"
            )
        if isinstance(self.prepare, HestonPrepare) and self.train.batch > self.prepare.surfaces.train:
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
    location, source = fault["loc"], None
    if location[:1] == ("prepare",) and len(location) > 1:
        source, location = location[1], ("prepare", *location[2:])  # pydantic names the source as if it were a key
    key = ".".join(str(part) for part in location)
    if fault["type"] == "source":
        return f"{key}.{fault['msg']} (got {fault['input']['source']!r})"
    if fault["type"] == "extra_forbidden":
        return f"{key} is not a key; allowed: {', '.join(_keys(location[:-1]))}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "missing" and source and len(location) == 2:
        message += f" where prepare.source is {source}"
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
