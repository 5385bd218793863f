"""The block ``retrain`` of params.yaml: when a scheduled run trains."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.types import Block, Positive, Share


class RetrainParams(Block):
    """The reasons, one of which must hold where something changed, for a scheduled run to train."""

    when: Annotated[list[Literal["change", "drift", "age"]], Field(min_length=1)]
    incoming: Annotated[str, Field(min_length=1)] | None
    odd_share: Share
    age_days: Positive

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if "drift" in self.when and self.incoming is None:
            raise ValueError("when: drift needs incoming, the path of the surfaces that are watched")
        return self
