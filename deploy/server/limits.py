"""How busy a worker may be: its requests, the bytes of their bodies, and the size of each request and answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect, Request

from deploy.server import errors
from deploy.server.errors import BusyError, RefusedError
from deploy.server.settings import Settings

MAX_HEAD: Final = 64 * 1024  # bytes of the head of a request
MAX_PIPELINED: Final = 16  # requests of one connection that wait for the answer to the one before
QUICK_JSON: Final = 64 * 1024  # bytes that are read faster than they are handed over to a thread
_BYTES_OF_NUMBER = 16  # in JSON, without its bracket: what float32 numbers take as a rule
_BYTES_OF_ROW = 32  # of four numbers, as surfaces have
_MOST_OBJECTS = 1024  # in the JSON of a request
_BODIES_AT_ONCE = 4  # bodies of the largest size that fit into the memory for bodies


class Admission:
    """A bounded count of the requests of a worker; ``with`` counts one call.

    Attributes:
        waiting: requests whose head has arrived and whose route has not started.
        running: calls that are computed or wait for the thread that computes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.waiting = self.running = 0

    @property
    def count(self) -> int:
        """Requests that wait or run."""
        return self.waiting + self.running

    @property
    def full(self) -> bool:
        """Whether the next request should be rejected."""
        return self.count >= self._most

    def __enter__(self) -> None:
        if self.running >= self._most:
            raise BusyError
        self.running += 1

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.running -= 1

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Count a request whose head has arrived, until its route starts.

        Raises:
            BusyError: there is no place for it.
        """
        if self.full:
            raise BusyError
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    @contextmanager
    def readmitted(self) -> Iterator[None]:
        """Count a call of a stream that has begun, which is never refused: its answer could not say so any more."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class Limits:
    """All limits of a worker.

    Attributes:
        admission: requests that wait or run.
        streams: answers that are sent in pieces; a stream is no request that waits while its reader takes a piece.
        connections: the most that a worker serves.
        receive: seconds in which a request must arrive, and in which a reader must take some of an answer.
        body_bytes: bytes of all request bodies that are in memory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.admission, self.streams = Admission(settings.queue), Admission(settings.queue)
        self.connections, self.receive = settings.connections, settings.receive
        self.body_bytes = 0

    @property
    def most_rows(self) -> int:
        """Rows that the table of a request may have: unpacked, it takes as much as a body may."""
        return self._settings.max_body // _BYTES_OF_ROW

    def check_body(self, size: int) -> None:
        """Raise HTTPException for a body of more bytes than one may have."""
        if size > self._settings.max_body:
            raise errors.body_too_large(self._settings.max_body)

    def check_json(self, content: bytes, size: int, *, most: int | None = None, numbers: int | None = None) -> None:
        """Raise HTTPException where the JSON at the start of a body, of this size, takes too much to read.

        Beside bytes, its commas and brackets are counted: Python takes a hundred times as long for a list or an object
        as for their bytes.

        Args:
            content: the body.
            size: of its JSON.
            most: bytes that are allowed, if fewer than by the settings.
            numbers: that are allowed, likewise.
        """
        bytes_allowed = min(self._settings.max_json, most or self._settings.max_json)
        if size > bytes_allowed:
            raise errors.json_too_large(bytes_allowed)
        if size <= QUICK_JSON:
            return
        allowed = min(self._settings.max_json // _BYTES_OF_NUMBER, numbers or self._settings.max_json)
        for mark, number in ((b"{", _MOST_OBJECTS), (b"[", allowed), (b",", allowed)):
            if content.count(mark, 0, size) > number:
                raise errors.too_many_in_json(allowed, _MOST_OBJECTS)

    def check_count(self, surfaces: int, name: str = "count") -> None:
        """Raise RefusedError for more surfaces than a stream may have; ``name`` says what their number is."""
        if surfaces > self._settings.max_count:
            raise RefusedError(f"{name} is {surfaces}; allowed: 1 to {self._settings.max_count}")

    def check_answer(self, size: int, *, in_json: bool) -> None:
        """Raise RefusedError for an answer with more bytes of numbers, counted in binary, than one may have."""
        if size > self._settings.max_answer:
            raise RefusedError(
                f"the answer would have {size} bytes; allowed: {self._settings.max_answer}, ask for less"
            )
        if in_json and size > self._settings.max_json:
            raise RefusedError(
                f"the answer would have {size} bytes of numbers; in JSON {self._settings.max_json} are allowed, ask "
                f"for less or in binary"
            )

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a body of this size, which is in memory already.

        Raises:
            BusyError: the bodies of all requests together fill the memory for them.
        """
        self.body_bytes += size
        try:
            self.check_memory()
            yield
        finally:
            self.body_bytes -= size

    def check_memory(self) -> None:
        """Raise BusyError where the bodies of all requests together fill the memory for them."""
        if self.body_bytes > _BODIES_AT_ONCE * self._settings.max_body:
            raise BusyError


class Body:
    """The body of one request; leaving ``with`` gives its memory back."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._size = limits, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._limits.body_bytes -= self._size

    async def read(self, request: Request) -> bytes:
        """The complete body.

        Raises:
            HTTPException: it is too large.
            BusyError: the bodies of all requests together fill the memory for them.
            ClientDisconnect: the client left before its end.
        """
        chunks: list[bytes] = []
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message["body"])
            more = message["more_body"]
            size = len(chunks[-1])
            self._size += size
            self._limits.body_bytes += size
            self._limits.check_body(self._size)
            self._limits.check_memory()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
