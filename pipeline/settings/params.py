"""All of params.yaml as frozen, strictly checked values: the only validator of settings."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline import yaml_text
from pipeline.errors import InputError
from pipeline.settings.evaluate import EvaluateParams
from pipeline.settings.export import ExportParams
from pipeline.settings.faults import in_words
from pipeline.settings.prepare import PrepareParams, SimulatedPrepare
from pipeline.settings.quotes import QuotesParams
from pipeline.settings.register import RegisterParams
from pipeline.settings.retrain import RetrainParams
from pipeline.settings.train import TrainParams
from pipeline.settings.types import Block

PARAMS = Path("params.yaml")
# Blocks of volvae in a text that is not YAML, as a template of another project may be.
_OURS = re.compile(rb"^(?:register|retrain):|^prepare:.*?[\s{](?:source|quotes):", re.MULTILINE | re.DOTALL)


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
        InputError: the file is missing or not YAML, says how to read quotes and nothing else, or keys are missing,
            unknown or out of range; all are named.
    """
    values = read_values(path)
    if _quotes_alone(values) is not None:
        raise InputError(
            f"{path} says how to read a file of quotes and nothing else, for `volvae complete` and `score`; for all "
            "settings, run `volvae init` on that file in a clone of the project"
        )
    return checked(values, path)


def read_values(path: Path) -> object:
    """The plain values in ``path``, unchecked.

    Raises:
        InputError: the file is missing or not YAML.
    """
    try:
        return yaml_text.load(path.read_bytes())
    except FileNotFoundError as error:
        step = "; run this in a checkout of volvae, which has one" if path == PARAMS else ""
        raise InputError(f"there is no {path}{step}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except yaml_text.TextError as error:
        raise InputError(f"{path} is not YAML: {error}") from error


def read_if_all(path: Path = PARAMS) -> Params | None:
    """The same; None where there is no such file of volvae, or one that only says how to read quotes."""
    return read_params(path) if is_of_volvae(path) and quotes_alone(path) is None else None


def is_of_volvae(path: Path) -> bool:
    """Whether ``path`` exists and holds settings of volvae, as many projects have a params.yaml with blocks of theirs.

    Raises:
        InputError: the file cannot be read, or has blocks of volvae and is not YAML.
    """
    if not path.exists():
        return False
    try:
        values = read_values(path)
    except InputError as error:
        if isinstance(error.__cause__, yaml_text.TextError) and not _OURS.search(path.read_bytes()):
            return False
        raise
    match values:
        case {"prepare": {"source": _} | {"quotes": _}} | {"register": _} | {"retrain": _}:
            return True
    return False


def quotes_alone(path: Path) -> Mapping[str, Any] | None:
    """The values of ``prepare.quotes`` where ``path`` holds that block and nothing else, as `volvae init` writes it.

    Raises:
        InputError: the file is missing or not YAML.
    """
    return _quotes_alone(read_values(path))


def _quotes_alone(values: object) -> Mapping[str, Any] | None:
    match values:
        case {"prepare": {"quotes": dict(block), **others}, **rest} if not others and not rest:
            return block
    return None


def checked(values: object, path: Path) -> Params:
    """The settings of plain values, which stand in ``path`` or shall.

    Raises:
        InputError: keys are missing, unknown or out of range; all are named.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {in_words(error.errors(), Params)}") from error


def read_quotes(values: Mapping[str, Any]) -> QuotesParams:
    """The block ``prepare.quotes`` from plain values.

    Raises:
        InputError: keys are missing, unknown or out of range; all are named.
    """
    try:
        return QuotesParams.model_validate(values)
    except ValidationError as error:
        raise InputError(_of_quotes(error.errors())) from error


def check_keys_of_quotes(values: Mapping[str, Any]) -> None:
    """Raise InputError for keys of ``prepare.quotes`` that are unknown or out of range; others may be missing."""
    try:
        QuotesParams.model_validate(values)
    except ValidationError as error:
        # the columns of a layout, and which columns go together, show only with all of them
        known = [
            fault for fault in error.errors() if fault["type"] != "missing" and fault["loc"] not in ((), ("columns",))
        ]
        if known:
            raise InputError(_of_quotes(known)) from error


def _of_quotes(found: Sequence[ErrorDetails]) -> str:
    """Faults of the block in words, as if it stood in params.yaml, under the name of its source."""
    faults: list[ErrorDetails] = [{**fault, "loc": ("prepare", "quotes", "quotes", *fault["loc"])} for fault in found]
    return in_words(faults, Params)
