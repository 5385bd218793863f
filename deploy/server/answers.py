"""Answers in JSON as types, from which openapi.py makes the schemas of its document, so that the two cannot differ.

An array becomes nested lists, and NaN becomes null. The schema of an array names its axes, outermost first; openapi.py
puts in the lengths of the axes that the served model fixes: tenor, node and latent.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Self, TypeAlias

import msgspec
import numpy as np
import orjson
from msgspec import Meta
from numpy.typing import NDArray
from starlette.responses import Response

from deploy.server.json_arrays import in_pieces
from vae.quote_noise import Cause
from vae.surface import grid

JSON, LINES, BINARY = "application/json", "application/x-ndjson", "application/octet-stream"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
TABLES = (ARROW, PARQUET) if find_spec("pyarrow") else ()  # the image of the server leaves pyarrow out
VERSION, SEED, SHAPE = "volvae-model-version", "volvae-seed", "volvae-shape"  # headers

_Array = NDArray[Any]


def array_schema(*axes: str, **number: object) -> Meta:
    """Schema of an array with these axes, and of each number in it."""
    return Meta(extra_json_schema={"axes": axes, "number": number})


_Surface: TypeAlias = Annotated[_Array, array_schema("tenor", "node", type="number", minimum=0)]


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    """An answer in JSON."""


class Grid(_Answer):
    """Points of a surface: tenors in years (ACT/365), and nodes in the units of the convention."""

    convention: grid.Convention
    tenors: Annotated[_Array, array_schema("tenor", type="number")]
    nodes: Annotated[_Array, array_schema("node", type="number")]

    @classmethod
    def of(cls, points: grid.Grid) -> Self:
        """The grid of a model."""
        return cls(points.convention, points.tenors, points.nodes)


class Sampled(_Answer):
    """Surfaces drawn from the model: decimal vols.

    The law of a model without ``transform: log`` ends nowhere, so that a rare vol may be below 0;
    ``sample_non_positive_rate`` of the evaluation is the share of samples that have one.
    """

    model_version: str
    seed: int
    grid: Grid
    iv: Annotated[_Array, array_schema("surface", "tenor", "node", type="number")]


class SampledRow(_Answer):
    """One surface of a stream of lines; ``row`` is its place in the sequence of the seed."""

    row: int
    iv: Annotated[_Array, array_schema("tenor", "node", type="number")]


_Numbers: TypeAlias = list[float]
_Table: TypeAlias = list[list[float]]


class State(_Answer):
    """The state of the surface after quotes, which a client keeps and sends back with the next ones.

    ``model`` is the hash of the weights of the model that it is of; ``date`` that of the last close, of which
    ``elapsed`` working days have passed.
    """

    model: str
    date: str
    elapsed: float
    coordinates: _Numbers
    recent: _Numbers
    variances: _Table
    iv: _Table
    spread: _Table
    filtered: _Numbers
    covariance: _Table
    moved: _Numbers


class Completed(_Answer):
    """The surface through quotes.

    ``iv`` and ``std`` are decimal vols and their standard deviations on the grid; ``fitted`` has the surface's vol at
    each quote and ``fitted_std`` its standard deviation without noise, null for a quote that is not ``used`` because it
    lies outside the grid; ``p_value`` is the share of held-out surfaces that fit the model worse. ``noise`` is the
    standard deviation of a quote of weight 1, decimal: estimated where quotes without weights do not fit the model,
    else as the model learned it. ``warning`` says why quotes do not fit the model: because they are noisy or ``wild``,
    or because the surface is of another shape. ``state`` is what is known after the quotes, where the request has a
    previous one.
    """

    model_version: str
    grid: Grid
    iv: _Surface
    std: _Surface
    latents: Annotated[_Array, array_schema("latent", type="number")]
    fitted: Annotated[_Array, array_schema("quote", type=["number", "null"])]
    fitted_std: Annotated[_Array, array_schema("quote", type=["number", "null"])]
    misfit: float
    p_value: float
    used: Annotated[_Array, array_schema("quote", type="boolean")]
    noise: float
    wild: Annotated[_Array, array_schema("quote", type="boolean")]
    outside: bool
    cause: Cause
    warning: str | None
    state: State | None


class Paths(_Answer):
    """Paths of surfaces, decimal vols, and log returns of the underlying since the start, through the dates.

    ``arbitrage_free`` is whether each surface is free of static arbitrage, ``with_arbitrage`` how many are not;
    ``effective_size`` is how many equally probable paths say as much as those with a given return, else null.
    """

    model_version: str
    seed: int
    grid: Grid
    dates: list[str]
    iv: Annotated[_Array, array_schema("path", "date", "tenor", "node", type="number")]
    log_return: Annotated[_Array, array_schema("path", "date", type="number")]
    arbitrage_free: Annotated[_Array, array_schema("path", "date", type="boolean")]
    with_arbitrage: int
    effective_size: float | None


class Path(_Answer):
    """One path of a stream of lines; ``row`` is its place in the sequence of the seed."""

    row: int
    iv: Annotated[_Array, array_schema("date", "tenor", "node", type="number")]
    log_return: Annotated[_Array, array_schema("date", type="number")]
    arbitrage_free: Annotated[_Array, array_schema("date", type="boolean")]


class Scored(_Answer):
    """How likely, well fitted and common surfaces are, with percentiles among held-out surfaces."""

    model_version: str
    nats: Annotated[_Array, array_schema("surface", type="number")]
    percentile: Annotated[_Array, array_schema("surface", type=["number", "null"])]
    misfit: Annotated[_Array, array_schema("surface", type="number")]
    misfit_percentile: Annotated[_Array, array_schema("surface", type=["number", "null"])]
    distance: Annotated[_Array, array_schema("surface", type="number")]
    distance_percentile: Annotated[_Array, array_schema("surface", type=["number", "null"])]
    error: Annotated[_Array, array_schema("surface", "tenor", "node", type="number")]
    error_percentile: Annotated[_Array, array_schema("surface", type=["number", "null"])]
    odd: Annotated[_Array, array_schema("surface", type="boolean")]


class Error(_Answer):
    """Why a request is refused, in one line."""

    error: str


class ServerMetadata(_Answer):
    """Name, version and protocol extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class Live(_Answer):
    """Whether the server answers at all."""

    live: bool


class Ready(_Answer):
    """Whether the server should be sent requests."""

    ready: bool


class ModelReady(_Answer):
    """Whether a model can be called."""

    name: str
    ready: bool


class TensorMetadata(_Answer):
    """One input or output of a model; -1 in its shape is an axis of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Answer):
    """Inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def to_json(value: object) -> bytes:
    """JSON of answers, plain values and arrays; NaN becomes null."""
    return orjson.dumps(value, _fields, orjson.OPT_SERIALIZE_NUMPY)


def _fields(answer: msgspec.Struct) -> dict[str, Any]:
    """The fields of an answer, as orjson can write them."""
    values = msgspec.structs.asdict(answer).items()
    return {name: in_pieces(value) if isinstance(value, np.ndarray) else value for name, value in values}


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response that carries a value in JSON."""
    return Response(to_json(value), status, headers, JSON)


def model_response(
    answer: Sampled | Paths | Completed | Scored,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response that carries an answer of a model, and names its version in a header too."""
    return json_response(answer, 200, {VERSION: answer.model_version, **(headers or {})})


def schemas(*types: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON schemas of types and of all types in them, by name; arrays with the names of their axes."""
    reference = "#/components/schemas/{name}"
    _, found = msgspec.json.schema_components(types, schema_hook=lambda _: {}, ref_template=reference)
    return found
