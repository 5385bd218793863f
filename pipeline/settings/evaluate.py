"""The block ``evaluate`` of params.yaml."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.settings.types import Block, Count, Positive, Seed


class EvaluateParams(Block):
    """Settings of the stage ``evaluate``."""

    seed: Seed
    importance_samples: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1)]
    prior_samples: Annotated[int, Field(ge=100)]
    completion_points: Annotated[list[Count], Field(min_length=1)] = [5, 10, 20, 40]
    completion_surfaces: Count = 500
    opponent_half_life_days: Positive | None = None
    arbitrage_tolerance: Positive

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for less, more in pairwise(self.importance_samples):
            if more <= less or more % less:
                raise ValueError(f"importance_samples: each must be a multiple of the one before, not {less}, {more}")
        if self.importance_samples[-1] < 2:
            raise ValueError("importance_samples must end in 2 or more")
        return self
