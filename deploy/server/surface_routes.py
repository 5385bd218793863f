"""The routes that people write by hand: sample, complete, score."""

import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Annotated, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.server.answers import (
    BINARY,
    JSON,
    LINES,
    SEED,
    SHAPE,
    VERSION,
    Completed,
    Grid,
    Sampled,
    SampledRow,
    Scored,
    array_schema,
    json_response,
    to_json,
)
from deploy.server.bodies import Body
from deploy.server.endpoints import Array, RefusedError, refusing
from deploy.server.middleware import route
from deploy.server.oip_protocol import ProtocolError
from deploy.server.reload import Served
from deploy.server.state import Service

_PIECE = 1024  # surfaces of a stream that are made at a time
_LINES = 64  # the same where they are written as text

_Positive = Annotated[float, Meta(gt=0.0)]
_Column = Annotated[list[_Positive], Meta(min_length=1, max_length=20_000)]
_GAPPY = array_schema("tenor", "node", type=["number", "null"], exclusiveMinimum=0)
_Surface = Annotated[list[list[float | None]], _GAPPY]
T = TypeVar("T", bound=msgspec.Struct)


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Surfaces drawn from the model.

    Attributes:
        count: how many.
        seed: the same gives the same surfaces, 0 to 2^64 - 1; a random one where there is none, told in the answer.
        offset: rows to skip: row i depends on the seed and offset + i alone.
        temperature: less than 1 stays nearer to what is common.
        conditions: what the surfaces should have, by name.
    """

    count: Annotated[int, Meta(ge=1)] = 1
    seed: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] = 1.0
    conditions: dict[str, float] = {}


class Complete(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole surface from quotes, all columns of one length.

    Attributes:
        iv: decimal vols.
        tenor: years.
        log_moneyness: k = ln(K/F); or else
        call_delta: forward call deltas, inside (0, 1).
        weight: precision in units of that of a point of the data; 1 where there is none.
    """

    iv: _Column
    tenor: _Column
    log_moneyness: Annotated[list[float], Meta(min_length=1, max_length=20_000)] | None = None
    call_delta: _Column | None = None
    weight: _Column | None = None


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How likely surfaces are.

    Attributes:
        iv: decimal vols on the model's grid, [surface, tenor, node]; null where a point is missing.
    """

    iv: Annotated[list[_Surface], Meta(min_length=1)]


class Friendly:
    """Sample, complete and score over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """All of them by POST."""
        return [
            route("/sample", self.sample, "POST"),
            route("/complete", self.complete, "POST"),
            route("/score", self.score, "POST"),
        ]

    async def sample(self, request: Request) -> Response:
        """Surfaces in JSON, or streamed as lines of JSON or as float32, whichever the request accepts."""
        served, kind = self._service.follower.served, accepted(request.headers.get("accept", JSON))
        asked = await self._asked(request, Sample)
        if asked.count > self._service.settings.max_count:
            raise RefusedError(f"count is {asked.count}; allowed: 1 to {self._service.settings.max_count}")
        draws = _Draws(served, asked, secrets.randbits(63) if asked.seed is None else asked.seed)
        return await (self._sample(draws) if kind == JSON else self._stream(draws, kind))

    async def complete(self, request: Request) -> Response:
        """A whole surface from quotes."""
        served, asked = self._service.follower.served, await self._asked(request, Complete)
        columns = {name: column for name, column in msgspec.structs.asdict(asked).items() if column is not None}
        with self._service.queue:
            found = await self._service.engine.aside(partial(served.surfaces.complete, **columns))
        return _response(Completed(served.version, Grid.of(served.surfaces.grid), **found._asdict()))

    async def score(self, request: Request) -> Response:
        """Log densities, and percentiles among training surfaces."""
        served, iv = self._service.follower.served, _array(await self._asked(request, Score))
        with self._service.queue:
            found = await self._service.engine.aside(partial(served.surfaces.score, iv))
        return _response(Scored(served.version, **found._asdict()))

    async def _asked(self, request: Request, kind: type[T]) -> T:
        with Body(self._service.bodies) as body:
            content = await body.read(request)
            self._service.check_json(len(content))
            try:
                return msgspec.json.decode(content, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ProtocolError(f"the request cannot be read: {error}") from error

    async def _sample(self, draws: "_Draws") -> Response:
        self._service.check_size(draws.nbytes, in_json=True)
        with self._service.queue:
            iv = await self._service.engine.aside(partial(draws.rows, 0, draws.asked.count))
        served = draws.served
        return _response(Sampled(served.version, draws.seed, Grid.of(served.surfaces.grid), iv), draws.headers)

    async def _stream(self, draws: "_Draws", kind: str) -> Response:
        headers = draws.headers
        if kind == BINARY:
            headers["content-length"] = str(draws.nbytes)
        pieces = self._pieces(draws, kind)
        first = await anext(pieces)  # before the head of the answer is sent, which could not be taken back
        return _Stream(first, pieces, headers, kind)

    async def _pieces(self, draws: "_Draws", kind: str) -> AsyncGenerator[bytes]:
        """Surfaces as they are made."""
        size, write = (_LINES, draws.lines) if kind == LINES else (_PIECE, draws.binary)
        with self._service.queue:
            for start in range(0, draws.asked.count, size):
                yield await self._service.engine.aside(partial(write, start, min(start + size, draws.asked.count)))


class _Stream(StreamingResponse):
    """Pieces as an answer, after which, or when the reader leaves, they give back what they hold."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], headers: Mapping[str, str], kind: str) -> None:
        super().__init__(_joined(first, rest), 200, headers, kind)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


class _Draws(NamedTuple):
    """Samples of one model that were asked for."""

    served: Served
    asked: Sample
    seed: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.asked.count, *self.served.surfaces.grid.shape)

    @property
    def nbytes(self) -> int:
        return 4 * math.prod(self.shape)

    @property
    def headers(self) -> dict[str, str]:
        return {VERSION: self.served.version, SEED: str(self.seed), SHAPE: ",".join(map(str, self.shape))}

    def rows(self, start: int, stop: int) -> Array:
        return self.served.surfaces.sample(
            stop - start,
            seed=self.seed,
            conditions=self.asked.conditions,
            temperature=self.asked.temperature,
            offset=self.asked.offset + start,
        )

    def binary(self, start: int, stop: int) -> bytes:
        return self.rows(start, stop).tobytes()

    def lines(self, start: int, stop: int) -> bytes:
        first = self.asked.offset + start
        return b"".join(to_json(SampledRow(first + row, iv)) + b"\n" for row, iv in enumerate(self.rows(start, stop)))


def accepted(header: str) -> str:
    """The first of the kinds of answers that a header Accept names.

    Raises:
        HTTPException: it names none.
    """
    wanted = [part.partition(";")[0].strip().lower() for part in header.split(",")]
    for kind in wanted:
        if kind in (JSON, LINES, BINARY):
            return kind
        if kind in ("*/*", "application/*"):
            return JSON
    raise HTTPException(406, f"there is no such answer; Accept may name {JSON}, {LINES} or {BINARY}")


def _array(asked: Score) -> Array:
    """Surfaces as an array, a tenth of the memory of the lists, which nobody keeps."""
    with refusing():
        return np.array(asked.iv, np.float32)


def _response(answer: Sampled | Completed | Scored, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON, whose headers name the version of the model too."""
    return json_response(answer, 200, {VERSION: answer.model_version, **(headers or {})})


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
