"""All of params.yaml as frozen, strictly checked values: the only validator of settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline import yaml_text
from pipeline.errors import InputError
from pipeline.settings.evaluate import EvaluateParams
from pipeline.settings.export import ExportParams
from pipeline.settings.prepare import PrepareParams, SimulatedPrepare
from pipeline.settings.quotes import QuotesParams
from pipeline.settings.register import RegisterParams
from pipeline.settings.retrain import RetrainParams
from pipeline.settings.train import TrainParams
from pipeline.settings.types import Block

PARAMS = Path("params.yaml")
_SELF_EXPLAINING = {"value_error", "missing"}


class Params(Block):
    """All of params.yaml."""

    prepare: PrepareParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    register_: Annotated[RegisterParams, Field(alias="register")]
    retrain: RetrainParams

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not isinstance(self.prepare, SimulatedPrepare):  # train sees how many surfaces and points a file has
            return self
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
    return checked(read_values(path), path)


def read_values(path: Path) -> object:
    """The plain values in ``path``, unchecked.

    Raises:
        InputError: the file is missing or not YAML.
    """
    try:
        return yaml_text.load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except yaml_text.TextError as error:
        raise InputError(f"{path} is not YAML: {error}") from error


def checked(values: object, path: Path) -> Params:
    """The settings of plain values, which stand in ``path`` or shall.

    Raises:
        InputError: keys are missing, unknown or out of range; all are named.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors())
        raise InputError(f"{path}: {faults}") from error


def read_quotes(values: Mapping[str, Any]) -> QuotesParams:
    """The block ``prepare.quotes`` from plain values.

    Raises:
        InputError: keys are missing, unknown or out of range; all are named.
    """
    try:
        return QuotesParams.model_validate(values)
    except ValidationError as error:
        place = (
            "prepare",
            "quotes",
            "quotes",
        )  # as if the block stood in params.yaml, with the source as pydantic has it
        faults = (_fault({**fault, "loc": (*place, *fault["loc"])}) for fault in error.errors())
        raise InputError("; ".join(faults)) from error


def _fault(fault: ErrorDetails) -> str:
    """One fault as ``key: message``, with what the user can do about it."""
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
