"""The routes in terms of surfaces: /sample, /scenarios, /complete, /score.

Bodies and answers are JSON or tables; large answers of the first two are streamed.
"""

import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.server import answers, json_arrays
from deploy.server.answers import BINARY, JSON, LINES, TABLES, VERSION, model_response
from deploy.server.challenger import Challenge
from deploy.server.content_negotiation import accepted, sent
from deploy.server.draws import Draws, Paths, Samples, headers_of, nbytes, writer_of
from deploy.server.endpoints import Array
from deploy.server.errors import ProtocolError, RefusedError
from deploy.server.limits import QUICK_JSON, Body
from deploy.server.middleware import route
from deploy.server.requests import (
    MOST_NUMBERS,
    MOST_QUOTES,
    Complete,
    Sample,
    Scenarios,
    Score,
    TableOptions,
    allowed,
    decoded,
    state_of,
)
from deploy.server.served import Served
from deploy.server.state import Service

if TYPE_CHECKING:
    import pyarrow as pa

_DRAWN = (JSON, LINES, BINARY, *TABLES)  # kinds of answers with rows of a seed
_FOUND = (JSON, *TABLES)  # kinds of other answers, and of bodies

Drawn = TypeVar("Drawn", Sample, Scenarios)


class SurfaceRoutes:
    """The routes over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """All of them by POST."""
        return [
            route("/sample", self.sample, "POST"),
            route("/scenarios", self.scenarios, "POST"),
            route("/complete", self.complete, "POST"),
            route("/score", self.score, "POST"),
        ]

    async def sample(self, request: Request) -> Response:
        """Surfaces in JSON, or streamed as lines of JSON, as float32 or as a table, as the header Accept says."""
        return await self._draw(request, Sample, Samples, most=QUICK_JSON)

    async def scenarios(self, request: Request) -> Response:
        """Paths of surfaces and returns, in JSON or streamed as samples are."""
        return await self._draw(request, Scenarios, Paths.of, numbers=MOST_NUMBERS)

    async def _draw(
        self,
        request: Request,
        kind: type[Drawn],
        draws_of: Callable[[Served, Drawn, int], Draws],
        *,
        most: int | None = None,
        numbers: int | None = None,
    ) -> Response:
        """The answer to a request for rows of a seed, whose body has at most so many bytes or numbers."""
        served, accept, limits = self._service.follower.served, accepted(request, _DRAWN), self._service.limits
        sent(request, (JSON,))
        with Body(limits) as body:
            content = await body.read(request)
            limits.check_json(content, len(content), most=most, numbers=numbers)
            wanted = decoded(content, kind)
        draws = draws_of(served, wanted, secrets.randbits(63) if wanted.seed is None else wanted.seed)
        limits.check_count(draws.surfaces, draws.counted)
        if accept != JSON:
            return await self._stream(draws, accept)
        limits.check_answer(nbytes(draws), in_json=True)
        return await self._compute(draws.answer)

    async def complete(self, request: Request) -> Response:
        """A complete surface from quotes."""
        return await self._answer(request, partial(_completed, self._service.challenge), numbers=MOST_NUMBERS)

    async def score(self, request: Request) -> Response:
        """Log densities, misfits, distances and errors, and their percentiles among held-out surfaces."""
        return await self._answer(request, _scored)

    async def _answer(
        self, request: Request, work: "Callable[[Served, _Sent, float], Response]", *, numbers: int | None = None
    ) -> Response:
        """The response that work makes of the served model, the body and the deadline."""
        served, accept, kind = self._service.follower.served, accepted(request, _FOUND), sent(request, _FOUND)
        limits = self._service.limits
        with Body(limits) as body:
            content = await body.read(request)
            if kind == JSON:
                limits.check_json(content, len(content), numbers=numbers)
            whole = _Sent(content, kind, accept, request.query_params, limits.most_rows)
            return await self._compute(partial(work, served, whole))

    async def _compute(self, work: Callable[[float], Response]) -> Response:
        """The response that work makes before the deadline that it is given, in the thread of the engine."""
        deadline = self._service.engine.deadline()
        with self._service.limits.admission:
            return await self._service.engine.in_thread(partial(work, deadline), deadline)

    async def _stream(self, draws: Draws, kind: str) -> Response:
        headers = headers_of(draws)
        if kind == BINARY:
            headers["content-length"] = str(nbytes(draws))
        chunks = self._chunks(draws, kind)
        first = await anext(chunks)  # before the head of the answer is sent: a refusal has another status
        return _Stream(first, chunks, headers, kind)

    async def _chunks(self, draws: Draws, kind: str) -> AsyncGenerator[bytes]:
        """Surfaces of a stream, computed one chunk at a time.

        A stream has a place in the queue while a chunk is computed, and none while its reader takes it.
        """
        most, write = writer_of(draws, kind)
        count, size = draws.shape[0], max(1, most * draws.shape[0] // draws.surfaces)
        limits, engine = self._service.limits, self._service.engine
        with limits.streams:
            for start in range(0, count, size):
                stop = min(start + size, count)
                with limits.admission if start == 0 else limits.admission.readmitted():
                    chunk = await engine.in_thread(partial(write, start, stop), engine.deadline())
                yield chunk


class _Stream(StreamingResponse):
    """A streamed answer that closes its generator at the end, or when the reader leaves, which frees its place."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], headers: Mapping[str, str], kind: str) -> None:
        super().__init__(_joined(first, rest), 200, headers, kind)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


class _Sent(NamedTuple):
    """Body and wishes of a client.

    Attributes:
        content: of the body.
        kind: of the body.
        accept: kind of the answer.
        query: of the address.
        most_rows: of a table.
    """

    content: bytes
    kind: str
    accept: str
    query: Mapping[str, str]
    most_rows: int


def _completed(challenge: Challenge | None, served: Served, sent: _Sent, deadline: float) -> Response:
    """The answer to a request to complete a surface; a challenger takes part where no state of the champion does."""
    model = served.in_time(deadline)
    given = _asked_of_table(sent) if sent.kind in TABLES else msgspec.structs.asdict(decoded(sent.content, Complete))
    given = {name: part for name, part in given.items() if part is not None}
    if "previous" in given:
        given["previous"] = state_of(model, given["previous"])
    elif "elapsed" in given or "log_return" in given:
        raise RefusedError("elapsed and log_return say what passed since a state; send it as previous")
    if challenge is None or "previous" in given:
        found = model.complete(**given)
    else:
        served, found = challenge.complete(served, given, deadline)
        model = served.surfaces
    state = None if found.state is None else answers.State(**model.state_to_plain(found.state))
    facts = found._asdict() | {"outside": found.outside, "state": state}
    answer = answers.Completed(served.version, answers.Grid.of(model.grid), **facts)
    if sent.accept == JSON:
        return model_response(answer)
    from deploy.server import surface_tables

    return _table(surface_tables.completion(found, model.grid, answer), sent.accept, served)


def _asked_of_table(sent: _Sent) -> dict[str, Any]:
    """The request to complete a table of quotes, by the names of Complete."""
    try:
        options = msgspec.convert(dict(sent.query), TableOptions, strict=False)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the query of the address cannot be read: {error}{allowed(error, TableOptions)}"
        ) from error
    from deploy.server import surface_tables

    columns = surface_tables.quotes(sent.content, sent.kind, most=min(MOST_QUOTES, sent.most_rows))
    return {**columns, **msgspec.structs.asdict(options)}


def _table(batch: "pa.RecordBatch", kind: str, served: Served) -> Response:
    """An answer as a table."""
    from deploy.server.tables import Writer

    return Response(Writer(kind).write(batch, last=True), 200, {VERSION: served.version}, kind)


def _scored(served: Served, sent: _Sent, deadline: float) -> Response:
    """The answer to a request to score surfaces."""
    model = served.in_time(deadline)
    if sent.kind == JSON:
        iv = _surfaces(bytes(decoded(sent.content, Score).iv), model.grid.shape)
        numbers = np.arange(len(iv))
    else:
        from deploy.server import surface_tables

        iv, numbers = surface_tables.surfaces(sent.content, sent.kind, model.grid, most=sent.most_rows)
    found = model.score(iv)
    if sent.accept == JSON:
        return model_response(answers.Scored(served.version, **found._asdict(), odd=found.odd))
    from deploy.server import surface_tables

    return _table(surface_tables.scores(found, numbers, served.version), sent.accept, served)


def _surfaces(text: bytes, shape: tuple[int, int]) -> Array:
    """The surfaces of a request.

    Raises:
        RefusedError: they are not of the model's grid.
    """
    count = max(1, json_arrays.count_numbers(text) // math.prod(shape))
    try:
        return json_arrays.read(text, (count, *shape), np.dtype(np.float32), may_be_flat=False)
    except json_arrays.ShapeError as error:
        tenors, nodes = shape
        raise RefusedError(
            f"iv must be nested lists [surface][tenor][node] of {tenors} tenors and {nodes} nodes"
        ) from error
    except json_arrays.KindError as error:
        raise RefusedError("iv may hold numbers and null only") from error


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
