"""The media types of bodies and answers: what a request sends, and what it accepts.

Reference: RFC 9110, section 12 (content negotiation).
"""

from collections.abc import Sequence

from starlette.requests import Request

from deploy.server import errors
from deploy.server.answers import BINARY, JSON

_JSON_TOO = ("", "application/x-www-form-urlencoded", "text/plain", BINARY)  # what clients say that say nothing


def accepted(request: Request, kinds: Sequence[str]) -> str:
    """The first kind of answer that a request names; the first of all where it does not mind.

    Raises:
        HTTPException: it names none of these.
    """
    wanted = [_kind(part) for part in request.headers.get("accept", "*/*").split(",")]
    for kind in wanted:
        if kind in kinds:
            return kind
        if kind in ("*/*", "application/*"):
            return kinds[0]
    raise errors.not_acceptable(*kinds)


def sent(request: Request, kinds: Sequence[str]) -> str:
    """The kind of body that a request has; JSON where it names none.

    Raises:
        HTTPException: it names another kind.
    """
    kind = _kind(request.headers.get("content-type", ""))
    if kind in kinds:
        return kind
    if kind in _JSON_TOO:
        return JSON
    raise errors.unknown_kind(kind, *kinds)


def _kind(header: str) -> str:
    """A media type without its parameters."""
    return header.partition(";")[0].strip().lower()
