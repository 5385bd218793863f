"""The OpenAPI document of the routes in terms of surfaces, made from the types of their requests and answers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from deploy.server import answers
from deploy.server.answers import BINARY, JSON, LINES, SEED, SHAPE, TABLES, VERSION
from deploy.server.errors import DESCRIPTIONS
from deploy.server.requests import Complete, Sample, Scenarios, Score
from deploy.server.served import Served
from deploy.server.settings import Settings
from vae.runtime import SurfaceModel

_Json = dict[str, Any]
_SURFACES = (
    Sample, Scenarios, Complete, Score, answers.State, answers.Sampled, answers.SampledRow, answers.Paths, answers.Path,
    answers.Completed, answers.Scored,
)  # fmt: skip
_SURFACES_ARE = "Implied-volatility surfaces: vols are decimal, tenors in years (ACT/365), k = ln(K/F)."
_VECTORS_ARE = "Vectors: the routes are those of the Open Inference Protocol, and GET /v2/models/NAME describes each."
_PATHS = {"count": 2, "days": 5, "seed": 7}
_QUOTES = {"iv": [0.22, 0.25], "tenor": [0.25, 0.25], "log_moneyness": [0.0, -0.1]}


_POINTS = "tenor_years, log_moneyness, call_delta on a grid of deltas, and iv"


class _Tables(NamedTuple):
    """Columns of the tables of a route: of a body, if it may be one, and of an answer."""

    body: str | None
    answer: str


class _Stream(NamedTuple):
    """The parts of a streamed answer: a line, the axes in binary, and those in the header of its shape."""

    line: str
    binary: str
    shape: str


_SAMPLED = _Stream("SampledRow", "[surface, tenor, node]", "surfaces, tenors and nodes")
_PATH = _Stream(
    "Path",
    "[path, date, number]: of each date the log return since the start, 1 if the surface is free of static arbitrage "
    "and else 0, then the surface [tenor, node]",
    "paths, dates and numbers of a date",
)


def document(served: Served, settings: Settings) -> _Json:
    """The document as plain values, with the array lengths, conditions and an example of the served model.

    A model of vectors has the routes of the Open Inference Protocol alone, which describe themselves.
    """
    of_surfaces = isinstance(served.model, SurfaceModel)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "volvae",
            "version": served.version,
            "description": _SURFACES_ARE if of_surfaces else _VECTORS_ARE,
        },
        "security": [{}, {"token": []}] if settings.token is None else [{"token": []}],
        "paths": _paths(served.surfaces) if of_surfaces else {},
        "components": {
            "schemas": _schemas(served.surfaces, settings) if of_surfaces else {},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths(model: SurfaceModel) -> _Json:
    example = model.sample(1, seed=0).round(4).tolist()
    return {
        "/sample": _operation(
            Sample,
            answers.Sampled,
            "Surfaces drawn from the model",
            {"count": 2, "seed": 7},
            _Tables(None, f"a row for each point: surface, {_POINTS}"),
            streamed=_SAMPLED,
        ),
        "/scenarios": _operation(
            Scenarios,
            answers.Paths,
            "Paths of surfaces and returns through the next dates",
            _PATHS,
            _Tables(None, f"a row for each point: scenario, date, log_return, arbitrage_free, {_POINTS}"),
            streamed=_PATH,
        ),
        "/complete": _operation(
            Complete,
            answers.Completed,
            "The complete surface from a few quotes",
            _QUOTES,
            _Tables(
                "a row for each quote: iv, tenor_years, log_moneyness or call_delta, perhaps weight; market, previous "
                "(newest), elapsed and log_return are in the query of the address",
                f"a row for each point: {_POINTS}, std, outside; all else is JSON in the metadata `volvae`",
            ),
        ),
        "/score": _operation(
            Score,
            answers.Scored,
            "How likely surfaces are",
            {"iv": example},
            _Tables(
                f"a row for each point: perhaps surface, then {_POINTS}, null where it is missing",
                "a row for each surface: surface and the fields of the answer; error lists its points, tenor by tenor",
            ),
        ),
    }


def _schemas(model: SurfaceModel, settings: Settings) -> _Json:
    """Schemas of requests and answers, with the sizes, conditions and markets of the model and the limit on `count`."""
    tenors, nodes = model.grid.shape
    lengths = {"tenor": tenors, "node": nodes, "latent": model.latents}
    found: _Json = _sized(answers.schemas(*_SURFACES, answers.Error), lengths)
    sample = found["Sample"]["properties"]
    for name in ("Sample", "Scenarios"):
        found[name]["properties"]["count"]["maximum"] = settings.max_count
    sample["conditions"] |= {
        "properties": {
            name: {"type": "number", "minimum": low, "maximum": high}
            for name, (low, high) in model.condition_ranges.items()
        },
        "additionalProperties": False,
    }
    asked = model.markets if model.market_is_condition else ()
    for name in ("Sample", "Complete"):
        found[name]["properties"]["market"]["enum"] = [*asked, None]
    return found


def _sized(schema: Any, lengths: Mapping[str, int]) -> Any:  # noqa: ANN401 - any part of a schema
    """A schema in which each array with named axes has become lists within lists, of these lengths."""
    if isinstance(schema, list):
        return [_sized(part, lengths) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "axes" not in schema:
        return {key: _sized(part, lengths) for key, part in schema.items()}
    found = schema["number"]
    for axis in reversed(schema["axes"]):
        length = lengths.get(axis)
        bounds = {} if length is None else {"minItems": length, "maxItems": length}
        found = {"type": "array", "items": found, **bounds}
    described = {key: part for key, part in schema.items() if key not in {"axes", "number"}}
    return described | found


def _operation(
    request: type[msgspec.Struct],
    answer: type[msgspec.Struct],
    summary: str,
    example: _Json,
    tables: _Tables,
    *,
    streamed: _Stream | None = None,
) -> _Json:
    """POST of a request of this type, answered by that type or by an error."""
    content: _Json = {JSON: {"schema": _reference(answer)}, **_table_content(tables.answer)}
    headers = {VERSION: {"description": "the version that made the answer", "schema": {"type": "string"}}}
    if streamed:
        content |= {
            LINES: {"schema": {"type": "string", "description": f"one {streamed.line} in JSON per line"}},
            BINARY: {"schema": {"type": "string", "description": f"float32, little-endian, {streamed.binary}"}},
        }
        headers |= {
            SEED: {"description": "the same request with this seed has the same answer", "schema": {"type": "string"}},
            SHAPE: {"description": streamed.shape, "schema": {"type": "string"}},
        }
    refusals = {
        str(status): {"description": why, "content": {JSON: {"schema": _reference(answers.Error)}}}
        for status, why in DESCRIPTIONS.items()
    }
    bodies: _Json = {JSON: {"schema": _reference(request), "example": example}}
    bodies |= _table_content(tables.body) if tables.body else {}
    return {
        "post": {
            "operationId": request.__name__.lower(),
            "summary": summary,
            "requestBody": {"required": True, "content": bodies},
            "responses": {"200": {"description": summary, "headers": headers, "content": content}, **refusals},
        }
    }


def _table_content(columns: str) -> _Json:
    """A table with these columns, in each format that the server has."""
    return {kind: {"schema": {"type": "string", "format": "binary", "description": columns}} for kind in TABLES}


def _reference(kind: type[msgspec.Struct]) -> _Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
