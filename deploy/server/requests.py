"""Requests in JSON as types, from which openapi.py makes the schemas of its document; answers.py has the answers."""

import datetime as dt
import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from deploy.server import answers, json_keys
from deploy.server.errors import ProtocolError, RefusedError
from vae.motion import MOST_STEPS
from vae.motion_state import WANTED
from vae.runtime import PriorName, State, SurfaceModel

MOST_QUOTES = 20_000
MOST_NUMBERS = 5 * MOST_QUOTES  # of a request with quotes: five columns; a state has fewer

_Positive = Annotated[float, Meta(gt=0.0)]
_Column = Annotated[list[_Positive], Meta(min_length=1, max_length=MOST_QUOTES)]
_LACKING_STATE = re.compile(r"missing required field `\w+` - at `\$\.(state|previous)`")  # as one of an earlier version
_VOL_OR_GAP: dict[str, object] = {"type": ["number", "null"], "exclusiveMinimum": 0}
_NOT_EMPTY = Meta(extra_json_schema={"minItems": 1})
T = TypeVar("T", bound=msgspec.Struct)


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Surfaces drawn from the model.

    Attributes:
        count: how many.
        seed: 0 to 2^64 - 1; the same seed gives the same surfaces. Without one it is random, and the answer has it.
        offset: rows to skip: row i depends on the seed and offset + i alone.
        temperature: below 1 the surfaces stay closer to the most common ones.
        prior: of the latents: fitted to those of the training surfaces, or standard_normal, N(0, I).
        conditions: values of the conditioning variables, by name.
        market: one of the model's markets; all of them by default.
        noise: whether each point has the noise of a quote, as the training surfaces have it.
    """

    count: Annotated[int, Meta(ge=1)] = 1
    seed: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] = 1.0
    prior: PriorName = "fitted"
    conditions: dict[str, float] = {}
    market: str | None = None
    noise: bool = False


class Scenarios(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths of surfaces and of the return of the underlying through the next dates.

    Attributes:
        count: how many.
        days: how many days from Monday to Friday; or else
        dates: themselves, as 2026-01-31.
        seed: 0 to 2^64 - 1; the same seed gives the same paths. Without one it is random, and the answer has it.
        offset: rows to skip: row i depends on the seed and offset + i alone.
        state: where paths start, from an answer of /complete, or newest for the end of the model's own data.
        log_return: of the underlying over all of these days, if it is given.
    """

    count: Annotated[int, Meta(ge=1)] = 1
    days: Annotated[int, Meta(ge=1, le=MOST_STEPS)] = 1
    dates: Annotated[list[dt.date], Meta(min_length=1, max_length=MOST_STEPS)] | None = None
    seed: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    state: answers.State | Literal["newest"] = "newest"
    log_return: float | None = None


class Complete(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The complete surface from quotes, all columns of one length.

    Attributes:
        iv: decimal vols.
        tenor: years.
        log_moneyness: k = ln(K/F); or else
        call_delta: forward call deltas, inside (0, 1).
        weight: precision of each quote, relative to that of a point of the training data; by default 1 or, where quotes
            do not fit the model with that, what they show themselves.
        market: one of the model's markets, whose surfaces are then the likely ones.
        previous: the state of an earlier answer, or newest for that at the end of the model's own data; the surface
            then starts from what it implied for now, and the answer has the next state.
        elapsed: working days from the previous state to the quotes.
        log_return: of the underlying on the last working day of that time, for a model with a return.
    """

    iv: _Column
    tenor: _Column
    log_moneyness: Annotated[list[float], Meta(min_length=1, max_length=MOST_QUOTES)] | None = None
    call_delta: _Column | None = None
    weight: _Column | None = None
    market: str | None = None
    previous: answers.State | Literal["newest"] | None = None
    elapsed: _Positive | None = None
    log_return: float | None = None


class TableOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rest of a request to complete a table of quotes, in the query of the address; see Complete."""

    market: str | None = None
    previous: Literal["newest"] | None = None
    elapsed: _Positive | None = None
    log_return: float | None = None


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How likely surfaces are.

    Attributes:
        iv: decimal vols on the model's grid, [surface, tenor, node]; null where a point is missing.
    """

    iv: Annotated[msgspec.Raw, answers.array_schema("surface", "tenor", "node", **_VOL_OR_GAP), _NOT_EMPTY]


def decoded(content: bytes, kind: type[T]) -> T:
    """The request of a body.

    Raises:
        ProtocolError: it cannot be read as such a request.
    """
    try:
        request = msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = f"; {WANTED}" if _LACKING_STATE.search(str(error)) else ""
        raise ProtocolError(f"the request cannot be read: {error}{hint}{allowed(error, kind)}") from error
    json_keys.check(content)
    return request


def allowed(error: Exception, kind: type[msgspec.Struct]) -> str:
    """The fields of a request, where the fault is one that it has not."""
    unknown = "unknown field" in str(error) and " - at " not in str(error)
    return f"; allowed: {', '.join(kind.__struct_fields__)}" if unknown else ""


def state_of(model: SurfaceModel, sent: answers.State | Literal["newest"]) -> State:
    """The state that a request starts from.

    Raises:
        RefusedError: the model has no law of motion, or it is no state of this model.
    """
    try:
        return model.state if isinstance(sent, str) else model.state_of_plain(msgspec.structs.asdict(sent))
    except ValueError as error:
        raise RefusedError(str(error)) from error
