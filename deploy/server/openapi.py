"""The OpenAPI document of the routes that people write by hand, with the sizes of the model that is served."""

from typing import Any

import msgspec

from deploy.server.reload import Served
from deploy.server.settings import Settings
from deploy.server.state import VERSION
from deploy.server.surface_routes import BINARY, JSON, LINES, SEED, SHAPE, Complete, Sample, Score

_Json = dict[str, Any]
_QUOTES = {"iv": [0.22, 0.25], "tenor": [0.25, 0.25], "log_moneyness": [0.0, -0.1]}


def document(served: Served, settings: Settings) -> _Json:
    """The document as plain values."""
    tenors, nodes = served.surfaces.grid.shape
    latents = _list(_NUMBER, served.surfaces.latents)
    surface, samples = _list(_list(_VOL, nodes), tenors), {"type": "array", "items": _list(_list(_VOL, nodes), tenors)}
    _, schemas = msgspec.json.schema_components((Sample, Complete, Score), ref_template="#/components/schemas/{name}")
    schemas["Sample"]["properties"]["count"]["maximum"] = settings.max_count
    schemas["Sample"]["properties"]["conditions"] = _conditions(served.surfaces.conditions)
    gappy = _list(_list({"type": ["number", "null"], "exclusiveMinimum": 0}, nodes), tenors)
    schemas["Score"]["properties"]["iv"] |= {"items": gappy}
    grid = {"$ref": "#/components/schemas/Grid"}
    example = served.surfaces.sample(1, seed=0).round(4).tolist()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "volvae",
            "version": served.version,
            "description": "Implied-volatility surfaces: vols are decimal, tenors in years (ACT/365), k = ln(K/F).",
        },
        "security": [{}, {"token": []}] if settings.token is None else [{"token": []}],
        "paths": {
            "/sample": _operation(
                "Sample",
                "Surfaces drawn from the model",
                {"count": 2, "seed": 7},
                {"seed": {"type": "integer"}, "grid": grid, "iv": samples},
                streamed=True,
            ),
            "/complete": _operation(
                "Complete",
                "The whole surface from a few quotes",
                _QUOTES,
                {
                    "grid": grid,
                    "iv": surface,
                    "std": surface,
                    "latents": latents,
                    "fitted": {"type": "array", "items": {"type": ["number", "null"]}},
                    "used": {"type": "array", "items": {"type": "boolean"}},
                },
            ),
            "/score": _operation(
                "Score",
                "How likely surfaces are",
                {"iv": example},
                {
                    "nats": {"type": "array", "items": _NUMBER},
                    "percentile": {"type": "array", "items": {"type": ["number", "null"]}},
                },
            ),
        },
        "components": {
            "schemas": {**schemas, "Error": _object({"error": {"type": "string"}}), "Grid": _grid(tenors, nodes)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_NUMBER: _Json = {"type": "number"}
_VOL: _Json = {"type": "number", "minimum": 0}
_REFUSALS = {
    "400": "the request cannot be read, or its values cannot be used",
    "401": "no bearer token, or a wrong one",
    "408": "the request did not arrive in time",
    "413": "the body is too large",
    "415": "the body is compressed",
    "429": "the queue is full",
    "503": "too many connections",
    "504": "no answer before the deadline",
}


def _operation(name: str, summary: str, example: _Json, values: _Json, *, streamed: bool = False) -> _Json:
    """POST with a body of this name, and an answer of these values."""
    answer = _object({"model_version": {"type": "string"}, **values})
    content: _Json = {JSON: {"schema": answer}}
    headers = {VERSION: {"description": "the version that made the answer", "schema": {"type": "string"}}}
    if streamed:
        content |= {
            LINES: {"schema": {"type": "string", "description": "a line for each surface, with its row and iv"}},
            BINARY: {"schema": {"type": "string", "description": "float32, little-endian, [surface, tenor, node]"}},
        }
        headers |= {
            SEED: {"description": "with which the same request has the same answer", "schema": {"type": "string"}},
            SHAPE: {"description": "surfaces, tenors and nodes", "schema": {"type": "string"}},
        }
    refusals = {
        status: {"description": why, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
        for status, why in ({**_REFUSALS, "406": "no such kind of answer"} if streamed else _REFUSALS).items()
    }
    body = {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}
    return {
        "post": {
            "operationId": name.lower(),
            "summary": summary,
            "requestBody": {"required": True, "content": {JSON: body}},
            "responses": {"200": {"description": summary, "headers": headers, "content": content}, **refusals},
        }
    }


def _grid(tenors: int, nodes: int) -> _Json:
    return _object(
        {
            "convention": {"enum": ["log_moneyness", "sqrt_time", "delta"]},
            "tenors": _list(_NUMBER, tenors),
            "nodes": _list(_NUMBER, nodes),
        }
    )


def _conditions(names: tuple[str, ...]) -> _Json:
    properties = dict.fromkeys(names, _NUMBER)
    return {"type": "object", "properties": properties, "additionalProperties": False, "default": {}}


def _object(properties: _Json) -> _Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: _Json, length: int) -> _Json:
    return {"type": "array", "items": items, "minItems": length, "maxItems": length}
