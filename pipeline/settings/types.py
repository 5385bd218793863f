"""Types that the blocks of params.yaml share."""

import math
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Block(BaseModel):
    """A mapping in params.yaml: strictly typed, frozen, without unknown keys.

    Attributes:
        result_free: keys that say how the work is done and cannot change its result. A change of them reruns no stage:
            they are not among the ``params`` of dvc.yaml, nor in the keys of checkpoints.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    result_free: ClassVar[frozenset[str]] = frozenset()


class Range(Block):
    """An interval of a parameter."""

    low: Number
    high: Number

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Shares(Block):
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
        """Consecutive slices of ``count`` rows by split."""
        ends = {"train": self.train, "validation": self.train + self.validation, "test": 1.0}
        stops = [math.floor(share * count + 0.5) for share in ends.values()]
        starts = [0, *stops[:-1]]
        return {split: slice(start, stop) for split, start, stop in zip(ends, starts, stops, strict=True)}
