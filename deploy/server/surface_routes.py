"""The routes in terms of surfaces: /sample, /scenarios, /complete, /score.

Bodies and answers are JSON or tables; large answers of the first two are streamed.
"""

import datetime as dt
import math
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, Self, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.server import answers, errors, json_arrays
from deploy.server.answers import BINARY, JSON, LINES, SEED, SHAPE, TABLES, VERSION, json_response, to_json
from deploy.server.challenger import Challenge
from deploy.server.endpoints import Array, check_time
from deploy.server.errors import ProtocolError, RefusedError
from deploy.server.limits import QUICK_JSON, Body
from deploy.server.middleware import route
from deploy.server.served import Served
from deploy.server.state import Service
from vae import runtime
from vae.motion import MOST_STEPS
from vae.motion_state import WANTED
from vae.runtime import PriorName, State, SurfaceModel

if TYPE_CHECKING:
    import pyarrow as pa

_LACKING_STATE = re.compile(r"missing required field `\w+` - at `\$\.(state|previous)`")  # as one of an earlier version
_CHUNK_BINARY = 1024  # surfaces of a stream that are computed at a time
_CHUNK_LINES = 64  # the same for text, which takes longer to write
_CHUNK_TABLE = 256  # the same for tables, which have a row for each point
_DRAWN = (JSON, LINES, BINARY, *TABLES)  # kinds of answers with rows of a seed
_FOUND = (JSON, *TABLES)  # kinds of other answers, and of bodies
_JSON_TOO = ("", "application/x-www-form-urlencoded", "text/plain", BINARY)  # what clients say that say nothing

_Positive = Annotated[float, Meta(gt=0.0)]
_MOST_QUOTES, _MOST_COLUMNS = 20_000, 5
_Column = Annotated[list[_Positive], Meta(min_length=1, max_length=_MOST_QUOTES)]
_VOL_OR_GAP: dict[str, object] = {"type": ["number", "null"], "exclusiveMinimum": 0}
_NOT_EMPTY = Meta(extra_json_schema={"minItems": 1})
T = TypeVar("T", bound=msgspec.Struct)
Drawn = TypeVar("Drawn", "Sample", "Scenarios")


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
    log_moneyness: Annotated[list[float], Meta(min_length=1, max_length=_MOST_QUOTES)] | None = None
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
        return await self._draw(request, Sample, _Samples)

    async def scenarios(self, request: Request) -> Response:
        """Paths of surfaces and returns, in JSON or streamed as samples are."""
        return await self._draw(request, Scenarios, _Paths.of, numbers=_MOST_COLUMNS * _MOST_QUOTES)

    async def _draw(
        self,
        request: Request,
        kind: type[Drawn],
        draws_of: "Callable[[Served, Drawn, int], _Draws]",
        *,
        numbers: int | None = None,
    ) -> Response:
        """The answer to a request for rows of a seed."""
        served, accept = self._service.follower.served, accepted(request, _DRAWN)
        sent(request, (JSON,))
        with Body(self._service.limits) as body:
            content = await body.read(request)
            if numbers is None:
                self._service.limits.check_json(content, len(content), most=QUICK_JSON)
            else:
                self._service.limits.check_json(content, len(content), numbers=numbers)
            wanted = _decoded(content, kind)
        draws = draws_of(served, wanted, secrets.randbits(63) if wanted.seed is None else wanted.seed)
        self._service.limits.check_count(draws.surfaces, "count" if kind is Sample else "count times days")
        if accept != JSON:
            return await self._stream(draws, accept)
        self._service.limits.check_answer(_nbytes(draws), in_json=True)
        return await self._compute(draws.answer)

    async def complete(self, request: Request) -> Response:
        """A complete surface from quotes."""
        return await self._answer(
            request, partial(_completed, self._service.challenge), numbers=_MOST_COLUMNS * _MOST_QUOTES
        )

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

    async def _stream(self, draws: "_Draws", kind: str) -> Response:
        headers = _headers(draws)
        if kind == BINARY:
            headers["content-length"] = str(_nbytes(draws))
        chunks = self._chunks(draws, kind)
        first = await anext(chunks)  # before the head of the answer is sent: a refusal has another status
        return _Stream(first, chunks, headers, kind)

    async def _chunks(self, draws: "_Draws", kind: str) -> AsyncGenerator[bytes]:
        """Surfaces of a stream, computed one chunk at a time.

        A stream has a place in the queue while a chunk is computed, and none while its reader takes it.
        """
        most, write = _writing(draws, kind)
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


class _Draws(Protocol):
    """Rows of a seed that a request wants of one model."""

    @property
    def served(self) -> Served:
        """The model."""
        ...

    @property
    def seed(self) -> int:
        """Of the rows."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows in binary."""
        ...

    @property
    def surfaces(self) -> int:
        """Number of surfaces in all rows."""
        ...

    def answer(self, deadline: float) -> Response:
        """All of them in JSON."""
        ...

    def binary(self, start: int, stop: int) -> bytes:
        """Some of them as float32."""
        ...

    def lines(self, start: int, stop: int) -> bytes:
        """Some of them as lines of JSON."""
        ...

    def table(self, start: int, stop: int) -> "pa.RecordBatch":
        """Some of them as rows of a table."""
        ...


class _Samples(NamedTuple):
    """The samples that a request wants of one model."""

    served: Served
    request: Sample
    seed: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.request.count, *self.served.surfaces.grid.shape)

    @property
    def surfaces(self) -> int:
        return self.request.count

    def answer(self, deadline: float) -> Response:
        model = self.served.in_time(deadline)
        iv = self.rows(0, self.request.count, model)
        answer = answers.Sampled(self.served.version, self.seed, answers.Grid.of(model.grid), iv)
        return _response(answer, _headers(self))

    def rows(self, start: int, stop: int, model: SurfaceModel) -> Array:
        return model.sample(
            stop - start,
            seed=self.seed,
            conditions=self.request.conditions,
            market=self.request.market,
            temperature=self.request.temperature,
            prior=self.request.prior,
            offset=self.request.offset + start,
            noise=self.request.noise,
        )

    def binary(self, start: int, stop: int) -> bytes:
        return self.rows(start, stop, self.served.surfaces).tobytes()

    def lines(self, start: int, stop: int) -> bytes:
        first = self.request.offset + start
        return b"".join(
            to_json(answers.SampledRow(first + row, iv)) + b"\n"
            for row, iv in enumerate(self.rows(start, stop, self.served.surfaces))
        )

    def table(self, start: int, stop: int) -> "pa.RecordBatch":
        from deploy.server import surface_tables

        model = self.served.surfaces
        first = self.request.offset + start
        return surface_tables.sample(self.rows(start, stop, model), model.grid, first, _headers(self))


class _Paths(NamedTuple):
    """The scenarios that a request wants of one model.

    A date of a path is its log return, 1 if its surface is free of static arbitrage and else 0, and its surface.
    """

    served: Served
    request: Scenarios
    seed: int
    state: State

    @classmethod
    def of(cls, served: Served, request: Scenarios, seed: int) -> Self:
        """The same with the state that the request starts from."""
        return cls(served, request, seed, _state(served.surfaces, request.state))

    @property
    def shape(self) -> tuple[int, int, int]:
        tenors, nodes = self.served.surfaces.grid.shape
        return self.request.count, self._steps, 2 + tenors * nodes

    @property
    def _steps(self) -> int:
        return self.request.days if self.request.dates is None else len(self.request.dates)

    @property
    def surfaces(self) -> int:
        return self.request.count * self._steps

    def answer(self, deadline: float) -> Response:
        model = self.served.in_time(deadline)
        found = self.rows(0, self.request.count, model)
        dates = [date.isoformat() for date in found.dates]
        own = self.served.version, self.seed, answers.Grid.of(model.grid)
        free = found.arbitrage_free(model.grid, check=partial(check_time, deadline))
        paths = answers.Paths(*own, dates, found.iv, found.log_return, free, int((~free).sum()), found.effective_size)
        return _response(paths, _headers(self))

    def rows(self, start: int, stop: int, model: SurfaceModel) -> runtime.Scenarios:
        asked = self.request
        return model.scenarios(
            self.state,
            asked.days if asked.dates is None else asked.dates,
            stop - start,
            seed=self.seed,
            offset=asked.offset + start,
            log_return=asked.log_return,
        )

    def binary(self, start: int, stop: int) -> bytes:
        found = self.rows(start, stop, self.served.surfaces)
        free = found.arbitrage_free(self.served.surfaces.grid).astype(np.float32)
        flat = found.iv.reshape(*found.log_return.shape, -1)
        return np.concatenate([found.log_return[..., None], free[..., None], flat], axis=2).tobytes()

    def lines(self, start: int, stop: int) -> bytes:
        first, found = self.request.offset + start, self.rows(start, stop, self.served.surfaces)
        paths = zip(found.iv, found.log_return, found.arbitrage_free(self.served.surfaces.grid), strict=True)
        return b"".join(to_json(answers.Path(first + row, *path)) + b"\n" for row, path in enumerate(paths))

    def table(self, start: int, stop: int) -> "pa.RecordBatch":
        from deploy.server import surface_tables

        found = self.rows(start, stop, self.served.surfaces)
        first = self.request.offset + start
        return surface_tables.paths(found, self.served.surfaces.grid, first, _headers(self))


def _writing(draws: _Draws, kind: str) -> tuple[int, Callable[[int, int], bytes]]:
    """How many surfaces of a stream are computed at a time, and what writes those from one row to another."""
    if kind == LINES:
        return _CHUNK_LINES, draws.lines
    if kind == BINARY:
        return _CHUNK_BINARY, draws.binary
    from deploy.server.tables import Writer

    writer = Writer(kind)
    return _CHUNK_TABLE, lambda start, stop: writer.write(draws.table(start, stop), last=stop == draws.shape[0])


def _nbytes(draws: _Draws) -> int:
    """Size of all rows in binary."""
    return 4 * math.prod(draws.shape)


def _headers(draws: _Draws) -> dict[str, str]:
    """Of the answer."""
    return {VERSION: draws.served.version, SEED: str(draws.seed), SHAPE: ",".join(map(str, draws.shape))}


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


def _kind(text: str) -> str:
    """A media type without its parameters."""
    return text.partition(";")[0].strip().lower()


def _decoded(content: bytes, kind: type[T]) -> T:
    """The request of a body.

    Raises:
        ProtocolError: it cannot be read as such a request.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = f"; {WANTED}" if _LACKING_STATE.search(str(error)) else ""
        raise ProtocolError(f"the request cannot be read: {error}{hint}{_allowed(error, kind)}") from error


def _allowed(error: Exception, kind: type[msgspec.Struct]) -> str:
    """The fields of a request, where the fault is one that it has not."""
    unknown = "unknown field" in str(error) and " - at " not in str(error)
    return f"; allowed: {', '.join(kind.__struct_fields__)}" if unknown else ""


def _completed(challenge: Challenge | None, served: Served, sent: _Sent, deadline: float) -> Response:
    """The answer to a request to complete a surface; a challenger takes part where no state of the champion does."""
    model = served.in_time(deadline)
    given = _asked_of_table(sent) if sent.kind in TABLES else msgspec.structs.asdict(_decoded(sent.content, Complete))
    given = {name: part for name, part in given.items() if part is not None}
    if "previous" in given:
        given["previous"] = _state(model, given["previous"])
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
        return _response(answer)
    from deploy.server import surface_tables

    return _table(surface_tables.completion(found, model.grid, answer), sent.accept, served)


def _asked_of_table(sent: _Sent) -> dict[str, Any]:
    """The request to complete a table of quotes, by the names of Complete."""
    try:
        options = msgspec.convert(dict(sent.query), TableOptions, strict=False)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the query of the address cannot be read: {error}{_allowed(error, TableOptions)}"
        ) from error
    from deploy.server import surface_tables

    columns = surface_tables.quotes(sent.content, sent.kind, most=min(_MOST_QUOTES, sent.most_rows))
    return {**columns, **msgspec.structs.asdict(options)}


def _table(batch: "pa.RecordBatch", kind: str, served: Served) -> Response:
    """An answer as a table."""
    from deploy.server.tables import Writer

    return Response(Writer(kind).write(batch, last=True), 200, {VERSION: served.version}, kind)


def _state(model: SurfaceModel, sent: answers.State | Literal["newest"]) -> State:
    """The state that a request starts from.

    Raises:
        RefusedError: the model has no law of motion, or it is no state of this model.
    """
    try:
        return model.state if isinstance(sent, str) else model.state_of_plain(msgspec.structs.asdict(sent))
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _scored(served: Served, sent: _Sent, deadline: float) -> Response:
    """The answer to a request to score surfaces."""
    model = served.in_time(deadline)
    if sent.kind == JSON:
        iv = _surfaces(bytes(_decoded(sent.content, Score).iv), model.grid.shape)
        numbers = np.arange(len(iv))
    else:
        from deploy.server import surface_tables

        iv, numbers = surface_tables.surfaces(sent.content, sent.kind, model.grid, most=sent.most_rows)
    found = model.score(iv)
    if sent.accept == JSON:
        return _response(answers.Scored(served.version, **found._asdict(), odd=found.odd))
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


def _response(
    answer: answers.Sampled | answers.Paths | answers.Completed | answers.Scored,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer in JSON, whose headers name the version of the model too."""
    return json_response(answer, 200, {VERSION: answer.model_version, **(headers or {})})


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
