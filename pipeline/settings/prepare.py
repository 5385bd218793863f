"""The block ``prepare`` of params.yaml: one class for each source."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from pipeline.settings.quotes import QuotesParams
from pipeline.settings.types import Block, Count, Name, Number, Positive, Range, Seed, Shares
from vae.surface.grid import Convention, Grid
from vae.surface.units import DAYS_PER_YEAR

Noise = Annotated[float, Field(ge=0.0, le=50.0)]


class EvenNodes(Block):
    """``count`` nodes from ``start`` to ``stop``."""

    start: Number
    stop: Number
    count: Annotated[int, Field(ge=3, le=1000)]

    def values(self) -> NDArray[np.float64]:
        """The nodes."""
        return np.linspace(self.start, self.stop, self.count)


class GridParams(Block):
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
        return Grid(np.array(self.tenors_days) / DAYS_PER_YEAR, values, self.convention)


class SplitSizes(Block):
    """Surfaces designed for each split; rejected ones are missing from it."""

    train: Annotated[int, Field(ge=2)]
    validation: Annotated[int, Field(ge=2)]
    test: Annotated[int, Field(ge=2)]


class HestonRanges(Block):
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


class HestonPath(Block):
    """Heston parameters of a path, and the variance at its first date; v0 and theta are variances."""

    v0: Positive
    kappa: Positive
    theta: Positive
    vol_of_vol: Positive
    rho: Annotated[float, Field(gt=-1.0, lt=1.0)]


class ArrayParams(Block):
    """An array [n, D] in a file of the user; see docs/quotes.md."""

    path: Name
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    key: Name | None = None
    columns: Annotated[list[Name], Field(min_length=1)] | None = None
    splits: Shares = Shares()
    shuffle: bool = True


class _Prepare(Block):
    """Settings of all sources of the stage ``prepare``: a source overrides those that it requires."""

    result_free: ClassVar[frozenset[str]] = frozenset({"engine", "address", "workers"})

    seed: Seed | None = None
    surfaces: SplitSizes | None = None
    quote_noise_bp: Noise | None = None
    vol_tolerance: Positive | None = None
    grid: GridParams | None = None
    heston: HestonRanges | None = None
    heston_paths: HestonPath | None = None
    surfaces_per_shard: Count = 4096
    compiled: bool = False
    engine: Literal["local", "dask"] = "local"
    workers: Count | None = None
    address: Name | None = None
    quotes: QuotesParams | None = None
    array: ArrayParams | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: object) -> object:
        """A key that is null counts as absent: dvc.yaml needs all keys, a source only its own."""
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values


class SimulatedPrepare(_Prepare):
    """Settings of exact surfaces with quote noise; ``source`` names the model, and the block of its ranges."""

    source: str
    seed: Seed
    surfaces: SplitSizes
    quote_noise_bp: Noise
    vol_tolerance: Positive
    grid: GridParams

    @model_validator(mode="after")
    def _has_an_engine(self) -> Self:
        if (self.engine == "dask") != (self.address is not None):
            raise ValueError(
                f"engine: {self.engine} {'needs' if self.address is None else 'has no'} address (tcp://host:8786)"
            )
        return self

    def range_of(self, parameter: str) -> Range:
        """The range of a parameter of the model."""
        found: Range = getattr(getattr(self, self.source), parameter)
        return found


class HestonPrepare(SimulatedPrepare):
    """Settings of Heston surfaces."""

    source: Literal["heston"] = "heston"
    heston: HestonRanges


class HestonPathsPrepare(_Prepare):
    """Settings of the surfaces of consecutive days of one Heston path; ``surfaces`` are days."""

    source: Literal["heston_paths"]
    seed: Seed
    surfaces: SplitSizes
    quote_noise_bp: Noise
    vol_tolerance: Positive
    grid: GridParams
    heston_paths: HestonPath


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
    """The source that settings name, a mapping when they are read or a block when they are written."""
    return values.get("source", "heston") if isinstance(values, Mapping) else getattr(values, "source", "heston")


PrepareParams = Annotated[
    Annotated[HestonPrepare, Tag("heston")]
    | Annotated[HestonPathsPrepare, Tag("heston_paths")]
    | Annotated[QuotesPrepare, Tag("quotes")]
    | Annotated[ArrayPrepare, Tag("array")],
    Discriminator(
        _source,
        custom_error_type="source",
        custom_error_message="source: Input should be 'heston', 'heston_paths', 'quotes' or 'array'",
    ),
]
