"""The OpenAPI document is made from the types of the answers, with the sizes of the served model."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.server import answers, app, openapi
from deploy.server.served import Served
from deploy.server.settings import Settings
from vae.runtime import SurfaceModel

_TYPES = {
    "/sample": answers.Sampled,
    "/scenarios": answers.Paths,
    "/complete": answers.Completed,
    "/score": answers.Scored,
}


@pytest.fixture
def document(model: SurfaceModel, bundle: Path) -> dict[str, Any]:
    return json.loads(answers.to_json(openapi.document(Served(bundle, model, {}, "one"), Settings(bundle))))


@pytest.mark.parametrize("path", _TYPES)
def test_the_schema_of_an_answer_has_the_fields_of_its_type(document: dict[str, Any], path: str) -> None:
    kind = _TYPES[path]
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": f"#/components/schemas/{kind.__name__}"}
    found = document["components"]["schemas"][kind.__name__]
    names = [field.name for field in msgspec.structs.fields(kind)]
    assert list(found["properties"]) == found["required"] == names
    assert not found["additionalProperties"]


def lengths(schema: dict[str, Any]) -> list[int | None]:
    """Length of each axis of an array, None for any."""
    if schema.get("type") != "array":
        return []
    assert schema.get("minItems") == schema.get("maxItems")
    return [schema.get("minItems"), *lengths(schema["items"])]


def test_arrays_have_the_lengths_of_the_model(document: dict[str, Any], model: SurfaceModel) -> None:
    (tenors, nodes), schemas = model.grid.shape, document["components"]["schemas"]
    completed = schemas["Completed"]["properties"]
    assert lengths(schemas["Sampled"]["properties"]["iv"]) == [None, tenors, nodes]
    assert lengths(completed["iv"]) == lengths(completed["std"]) == [tenors, nodes]
    assert lengths(completed["latents"]) == [model.latents]
    assert lengths(completed["fitted"]) == lengths(completed["used"]) == [None]
    assert lengths(schemas["Grid"]["properties"]["nodes"]) == [nodes]
    assert lengths(schemas["Score"]["properties"]["iv"]["items"]) == [tenors, nodes]
    assert '"axes"' not in json.dumps(document)


def test_an_answer_is_json_in_the_order_of_its_fields() -> None:
    answer = answers.SampledRow(7, np.array([[1.5, np.nan]], np.float32))
    assert answers.to_json(answer) == b'{"row":7,"iv":[[1.5,null]]}'
    assert answers.to_json(answers.Error("wrong")) == b'{"error":"wrong"}'


def test_the_document_is_made_once_for_each_model(
    model: SurfaceModel, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its example is drawn from the model, which would hold the event loop up at each request."""
    made: list[Served] = []
    monkeypatch.setattr(openapi, "document", lambda served, _: made.append(served) or {"version": served.version})
    service = SimpleNamespace(follower=SimpleNamespace(served=None), settings=None)
    document = app._Document(service)
    for version in ("one", "two"):
        service.follower.served = Served(bundle, model, {}, version)
        for _ in range(3):
            assert json.loads(asyncio.run(document.get(None)).body) == {"version": version}
    assert [served.version for served in made] == ["one", "two"]
