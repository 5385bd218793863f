"""Types that the blocks of params.yaml share."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

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
