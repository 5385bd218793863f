"""Refusals: each exception has its response, and only errors.py makes them."""

import ast
import json
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from deploy.server import errors

_SERVER = Path(errors.__file__).parent


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (errors.ProtocolError("no JSON"), 400, "no JSON"),
        (errors.RefusedError("too large"), 400, "too large"),
        (errors.unauthorized(), 401, "a bearer token is needed"),
        (errors.unknown_model("x", ["a", "b"]), 404, "there is no model 'x'; there are a, b"),
        (errors.unknown_version("a", "1", "2"), 404, "a has no version '1'; it has '2'"),
        (errors.unknown_file("x", ["a", "b"]), 404, "there is no x here; allowed: a, b"),
        (HTTPException(405), 405, "Method Not Allowed"),
        (errors.not_acceptable("a", "b", "c"), 406, "there is no such answer; Accept may name a, b or c"),
        (errors.body_too_large(7), 413, "the body is too large; allowed: 7 bytes"),
        (errors.json_too_large(7), 413, "JSON has at most 7 bytes here; send tensors in binary"),
        (errors.compressed_body(), 415, "a body must not be compressed"),
        (errors.BusyError(), 429, "the queue is full; ask again later"),
        (errors.model_exchanged(), 503, "the model is being exchanged; ask again"),
        (errors.LateError(), 504, "there was no answer before the deadline"),
        (KeyError("a secret"), 500, "the server failed; its log says where"),
    ],
)
def test_each_exception_has_its_response(error: Exception, status: int, text: str) -> None:
    response = errors.response_to(error)
    assert (response.status_code, json.loads(response.body)) == (status, {"error": text})
    for name, value in (getattr(error, "headers", None) or {}).items():
        assert response.headers[name] == value


def statuses(path: Path) -> set[int]:
    """Statuses of 400 and above with which a module makes exceptions or responses."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {"HTTPException", "Response", "error_response"}
    made = [part.value for call in calls if ast.unparse(call.func) in names
            for part in call.args if isinstance(part, ast.Constant)]  # fmt: skip
    return {value for value in made if isinstance(value, int) and value >= 400}


def test_only_one_module_makes_refusals() -> None:
    makers = {path.name for path in _SERVER.glob("*.py") if statuses(path)}
    assert makers == {"errors.py"}


def test_the_document_describes_each_refusal_of_its_routes() -> None:
    """404 is for other paths; 431 and 500 are answers to broken clients and to faults of the server."""
    assert statuses(_SERVER / "errors.py") - {404, 431, 500} <= errors.DESCRIPTIONS.keys()
