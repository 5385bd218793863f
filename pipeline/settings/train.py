"""The block ``train`` of params.yaml."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.types import Block, Count, Name, NotNegative, Positive, Seed, Share, Whole


class ModelParams(Block):
    """Sizes of the model; see ``vae.model.autoencoder.Architecture``."""

    latents: Count
    basis: Count
    width: Count
    depth: Annotated[int, Field(ge=0)]
    transform: Literal["none", "log"] = "none"
    scale: Literal["shared", "point", "decoded"] = "shared"
    residual_factors: Whole = 0
    scale_floor: NotNegative = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.latents > self.basis:
            raise ValueError(f"latents ({self.latents}) must not exceed basis ({self.basis})")
        return self


class PenaltyParams(Block):
    """Last epochs, in which arbitrage of samples is penalised."""

    epochs: Whole = 0
    samples: Count = 64
    nats: Positive = 0.1


class PriorParams(Block):
    """The laws of the latents to try: mixtures and a flow; see ``vae.model.mixture`` and ``vae.model.flow``."""

    components: Annotated[list[Count], Field(min_length=1)] = [1, 10, 100]
    flow_layers: Whole = 6
    surfaces: Annotated[int, Field(ge=2)] = 100_000


class DynamicsParams(Block):
    """How surfaces move from one date to the next; see ``vae.dynamics.law``.

    Attributes:
        form: of the law, a name in ``vae.dynamics.law.FORMS``.
        underlying: the name in prepare.quotes.conditions of the underlying's price; null for a law without a return.
    """

    form: Literal["reverting", "filtered_historical", "historical"] = "reverting"
    underlying: Name | None = None


class TrainParams(Block):
    """Settings of the stage ``train``; see ``vae.training.schedule.Schedule``."""

    result_free: ClassVar[frozenset[str]] = frozenset({"checkpoint_epochs"})

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
    half_life_days: Positive | None = None
    refit: bool = False
    hidden_share: Share = 0.0
    patience_epochs: Whole = 0
    checkpoint_epochs: Count
    arbitrage: PenaltyParams = PenaltyParams()
    prior: PriorParams = PriorParams()
    conditions: Annotated[list[Name], Field(max_length=8)] = []
    dynamics: DynamicsParams | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        latents, basis = self.model.latents + self.scaffold_latents, self.model.basis
        if latents > basis:
            raise ValueError(f"model.latents and scaffold_latents ({latents}) must not exceed model.basis ({basis})")
        if self.scaffold_latents and self.epochs < 2:
            raise ValueError("scaffold_latents needs 2 epochs or more")
        if self.dynamics is not None and self.model.transform != "log":
            raise ValueError("dynamics moves the logarithms of vols: model.transform must be log")
        return self

    def schedule(self) -> dict[str, Any]:
        """All settings by the names that ``vae.training.schedule.Schedule`` has for its own."""
        return self.model_dump() | {
            "penalty_epochs": self.arbitrage.epochs,
            "penalty_samples": self.arbitrage.samples,
        }
