"""All refusals: which exist, their status and text, and the responses that carry them."""

from collections.abc import Iterable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from deploy.server.answers import Error, json_response

#: Statuses of refusals, as the OpenAPI document describes them.
DESCRIPTIONS: Final = {
    400: "the request cannot be read, or its values cannot be used",
    401: "no bearer token, or a wrong one",
    403: "a page of another site sent it, and there is no token",
    406: "no such kind of answer",
    408: "the request did not arrive in time",
    413: "the body is too large",
    415: "the body is compressed, or of a type that the route does not read",
    421: "it is for a host of another name, and there is no token",
    429: "the queue is full",
    503: "too many connections",
    504: "no answer before the deadline",
}


_LONGEST = 1000  # letters of a reason


class ProtocolError(ValueError):
    """400: a request that breaks the protocol; the message says where."""


class RefusedError(ValueError):
    """400: inputs that a model cannot read, or an answer that would be too large; the message says why."""


class BusyError(Exception):
    """429: the worker holds as many calls, or as many bytes of bodies, as it may."""


class LateError(Exception):
    """504: the deadline of a call passed."""


def error_response(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    """A response that carries the reason of a refusal, which may quote the request: of a long one the start."""
    return json_response(Error(reason[:_LONGEST]), status, headers)


# Responses that a connection sends by itself, before a request reaches the application.
NOT_HTTP: Final = error_response(400, "this is not a request of HTTP/1.1", {"connection": "close"})
REQUEST_TIMEOUT: Final = error_response(408, "the request did not arrive in time", {"connection": "close"})
HEAD_TOO_LARGE: Final = error_response(431, "the head of the request is too large", {"connection": "close"})
QUEUE_FULL: Final = error_response(429, "the queue is full; ask again later", {"retry-after": "1"})
TOO_MANY_CONNECTIONS: Final = error_response(
    503, "there are too many connections; ask again later", {"retry-after": "1", "connection": "close"}
)


def response_to(error: Exception) -> Response:
    """The response to an exception of a route."""
    match error:
        case HTTPException():
            return error_response(error.status_code, error.detail, dict(error.headers or {}))
        case ProtocolError() | RefusedError():
            return error_response(400, str(error))
        case BusyError():
            return QUEUE_FULL
        case LateError():
            return error_response(504, "there was no answer before the deadline")
        case _:
            return error_response(500, "the server failed; its log says where")


def unauthorized() -> HTTPException:
    """401: the token is missing or wrong."""
    return HTTPException(401, "a bearer token is needed", {"www-authenticate": "Bearer"})


def other_site() -> HTTPException:
    """403: a page of another site sent the request."""
    return HTTPException(403, "a page of another site may send nothing here")


def other_host(host: str) -> HTTPException:
    """421: the request is for another host."""
    return HTTPException(
        421, f"this server is not {host[:100]!r}; --hosts names what it is called, and with a token it needs no name"
    )


def unknown_model(name: str, known: Iterable[str]) -> HTTPException:
    """404: no model of this name."""
    return HTTPException(404, f"there is no model {name!r}; there are {', '.join(known)}")


def no_surfaces(models: Iterable[str]) -> HTTPException:
    """404: a route in terms of surfaces, where the model is of vectors."""
    paths = ", ".join(f"/v2/models/{name}/infer" for name in models)
    return HTTPException(404, f"the model that is served is of vectors, so there are no surfaces here; use {paths}")


def unknown_version(model: str, version: str, served: str) -> HTTPException:
    """404: not the version that is served."""
    return HTTPException(404, f"{model} has no version {version!r}; it has {served!r}")


def unknown_file(name: str, known: Iterable[str]) -> HTTPException:
    """404: no file of this name is served."""
    return HTTPException(404, f"there is no {name} here; allowed: {', '.join(known)}")


def no_card() -> HTTPException:
    """404: nothing near the served bundle is its model card."""
    return HTTPException(404, "this bundle has no model card: `dvc repro` registers a version, which has one")


def unknown_page(path: str) -> HTTPException:
    """404: no file of the pages has this path."""
    return HTTPException(404, f"there is no {path[:100]} here")


def not_acceptable(*kinds: str) -> HTTPException:
    """406: the header Accept names no kind of answer that exists."""
    *first, last = kinds
    return HTTPException(406, f"there is no such answer; Accept may name {', '.join(first)} or {last}")


def request_timeout() -> HTTPException:
    """408: the request did not arrive in time."""
    return HTTPException(408, "the request did not arrive in time")


def body_too_large(most: int) -> HTTPException:
    """413: the body has more bytes than this."""
    return HTTPException(413, f"the body is too large; allowed: {most} bytes")


def json_too_large(most: int) -> HTTPException:
    """413: the JSON of the body has more bytes than this."""
    return HTTPException(413, f"JSON has at most {most} bytes here; send tensors in binary")


def too_many_in_json(numbers: int, objects: int) -> HTTPException:
    """413: the JSON of the body has more numbers or objects than this."""
    return HTTPException(
        413, f"JSON has at most {numbers} numbers or lists and {objects} objects here; send tensors in binary"
    )


def grpc_too_large(fields: int, most: int) -> HTTPException:
    """413: a message of gRPC has more fields, or more bytes beside raw tensors, than this."""
    return HTTPException(
        413, f"a message has at most {fields} fields, and {most} bytes beside raw_input_contents; send tensors in these"
    )


def compressed_body() -> HTTPException:
    """415: a small compressed body could fill the memory."""
    return HTTPException(415, "a body must not be compressed", {"accept-encoding": "identity"})


def table_too_large(allowed: str) -> HTTPException:
    """413: the table of the body has more rows, or takes more bytes, than this."""
    return HTTPException(413, f"the table is too large; allowed: {allowed}")


def compressed_arrow() -> HTTPException:
    """415: a small compressed batch could fill the memory."""
    return HTTPException(415, "batches of Arrow must not be compressed; write the stream without a codec")


def unknown_kind(kind: str, *allowed: str) -> HTTPException:
    """415: the route reads no body of this type."""
    return HTTPException(415, f"a body of type {kind[:100]!r} is not read here; allowed: {', '.join(allowed)}")


def model_exchanged() -> HTTPException:
    """503: the bundle changed while one of its files was read."""
    return HTTPException(503, "the model is being exchanged; ask again", {"retry-after": "1"})
