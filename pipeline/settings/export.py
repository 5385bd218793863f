"""The block ``export`` of params.yaml."""

from typing import Annotated

from pydantic import Field

from pipeline.settings.types import Block, Count, Positive, Seed


class ExportParams(Block):
    """Settings of the stage ``export``."""

    seed: Seed
    fp16: bool = False
    scored_surfaces: Annotated[int, Field(ge=2)] = 5000
    parity_samples: Count
    parity_scores: Count = 200
    parity_completions: Count = 20
    parity_tolerance_vol: Positive
    parity_tolerance_relative: Positive = 1e-5
    parity_tolerance_latent: Positive
