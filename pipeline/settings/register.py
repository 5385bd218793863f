"""The block ``register`` of params.yaml."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.settings.types import Block, NotNegative, Positive, Share


class ShareRange(Block):
    """Shares from ``low`` to ``high``."""

    low: Share
    high: Share

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        return self


class GateParams(Block):
    """Checks that a version must pass before it may be champion; None leaves out a check that allows it."""

    parity_vol: Positive
    parity_relative: Positive = 1e-5
    coverage_90: ShareRange | None
    arbitrage_rate: Share | None
    data_arbitrage: Share | None = 0.05
    opponent_ratio: Positive | None
    scenario_ratio: Positive | None = 1.0
    decode_ms: Positive
    worse_nats: NotNegative
    worse_bp: NotNegative
    worse_error: NotNegative = 0.01


class RegisterParams(Block):
    """Settings of the stage ``register``."""

    experiment: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(pattern=r"^[\w. -]+$")]
    promote: bool
    gate: GateParams
