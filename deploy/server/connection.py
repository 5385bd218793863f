"""A connection that is bounded: a request must arrive whole, its head small, and an answer must be taken, in time."""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from deploy.server.admission import Queue

_ALIVE, _HOW_BUSY = b"/v2/health/", b"/metrics"  # what a full server answers too
_MOST_BEHIND = 16  # requests of a packet that wait for the one before, or are turned away
_MOST_HEAD = 64 * 1024
_LARGE = 64 * 1024
CLOSE = (b"connection", b"close")


def bounded(
    seconds: float,
    *,
    most: int,
    crowded: Response,
    queue: Queue,
    busy: Response,
    draining: Callable[[], bool],
    turned_away: Callable[[int], None],
) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with limits that it lacks.

    Args:
        seconds: in which a request must arrive, and in which a reader must take something.
        most: connections.
        crowded: what is answered where there are more.
        queue: where a request waits from its head on.
        busy: what is answered where the queue is full.
        draining: whether clients should leave.
        turned_away: is told the status of each answer that the application does not give.
    """
    limits = {"seconds": seconds, "most": most, "queue": queue, "crowded": crowded, "busy": busy}
    functions = {"draining": staticmethod(draining), "turned_away": staticmethod(turned_away)}
    return type("Bounded", (_Bounded,), {**limits, **functions})


class _Gathered:
    """A transport that sends head and body of a small answer at once: a packet for each is the dearest part of it.

    Args:
        closing: is called after it is told to close, when what is left to send has gone or waits for the reader.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closing: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._closing = transport, loop, closing
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send at the end of this turn of the event loop, large parts now."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        if len(data) > _LARGE:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered, unless the other side has left."""
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.writelines(parts)

    def close(self) -> None:
        """Send the rest and close."""
        self.flush()
        self._transport.close()
        self._loop.call_soon(self._closing)


@lru_cache
def _bytes_of(answer: Response, headers: tuple[tuple[bytes, bytes], ...], *, whole: bool) -> bytes:
    """An answer as it goes over the wire, with headers that change once a second, as the date does."""
    lines = [b"%s: %s\r\n" % header for header in (*headers, *answer.raw_headers)]
    return b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body) if whole else b""])


class _Answered:
    """In place of uvicorn's cycle of a request that was refused at its head: what else comes of it is dropped."""

    response_started = response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class _Bounded(HttpToolsProtocol):
    seconds: float
    most: int
    crowded: Response
    queue: Queue
    busy: Response
    draining: Callable[[], bool]
    turned_away: Callable[[int], None]
    _arrival: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _begun = 0  # requests so far
    _in_head = _in_body = False
    _head = 0  # bytes of the head that is arriving
    _refused = 0  # requests of the packet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.transport = _Gathered(self.transport, self.loop, self._closing)  # type: ignore[assignment]
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._took()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun, self._refused = self._begun, 0
        super().data_received(data)
        if self._in_head and self._begun == begun:
            self._head += len(data)
            if self._head > _MOST_HEAD:
                self._refuse(431, b"the head of the request is too large")
        idle = self._idle and self.timeout_keep_alive_task is None
        if self._arrival is None and not self.flow.read_paused and (self._in_head or self._in_body or idle):
            self._expect()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arrived()  # those before
        self._begun += 1
        self._in_head, self._head = True, 0

    def on_headers_complete(self) -> None:
        if self.transport.is_closing() or max(len(self.pipeline), self._refused) >= _MOST_BEHIND:
            raise ConnectionAbortedError  # the parser ends with that, and the connection
        if self._idle:
            if answer := self._turning_away():
                self._turn_away(answer)
            else:
                self.app = self._begin
                super().on_headers_complete()  # raises for an address that cannot be read
                self.queue.waiting += 1
        else:  # another on this connection
            self.app = self.config.loaded_app
            super().on_headers_complete()
        self._in_head, self._in_body = False, True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._arrived()
        if isinstance(self.cycle, _Answered):
            self.on_response_complete()
            if self.flow.write_paused:
                self.flow.pause_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:  # of the next, which could not arrive before
            self._expect()

    @property
    def _idle(self) -> bool:
        """Whether no answer is due."""
        return self.cycle is None or self.cycle.response_complete

    def _turning_away(self) -> Response | None:
        """What is answered in place of the application."""
        if self.url.startswith(_ALIVE):
            return None
        if len(self.connections) > self.most:
            return self.crowded
        return self.busy if self.queue.full and self.url != _HOW_BUSY else None

    def _turn_away(self, answer: Response) -> None:
        """Answer a request that never reaches the application: to refuse it there costs almost as much as to answer."""
        self.cycle = _Answered()  # type: ignore[assignment]
        headers, draining = tuple(self.server_state.default_headers), self.draining()
        if draining:
            headers += (CLOSE,)
        self.transport.write(_bytes_of(answer, headers, whole=self.parser.get_method() != b"HEAD"))
        stays = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        if draining or answer is self.crowded or not stays:
            self.transport.close()
        self._refused += 1
        self.turned_away(answer.status_code)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it would be plain text
        self._refuse(400, b"this is not a request of HTTP/1.1")

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()  # who does not read is not read
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()
        self._took()
        if self.transport.is_closing():
            self._closing()

    def _closing(self) -> None:
        """A closed connection, too, does not wait for ever for its reader."""
        left = self.transport.get_write_buffer_size()
        if left and self._taking is None:
            self._await_reader(left)

    def _await_reader(self, left: int) -> None:
        """Close unless a reader takes some of what is left, again and again."""

        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if now < left:
                self._await_reader(now)
            else:
                self.transport.abort()

        self._taking = self.loop.call_later(self.seconds, look)

    def _took(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.queue.waiting -= 1
        await self.config.loaded_app(scope, receive, send)

    def _expect(self) -> None:
        self._arrived()
        self._arrival = self.loop.call_later(self.seconds, self._late)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _late(self) -> None:
        self._refuse(408, b"the request did not arrive in time")

    def _refuse(self, status: int, why: bytes) -> None:
        """Close, with an answer where none is due or under way."""
        if self.transport.is_closing():
            return
        due = self._idle if self._in_head or self.cycle is None else not self.cycle.response_started
        if due and not self.pipeline:  # or it would stand in place of the answer to a request before, or within
            content = b'{"error":"%s"}' % why
            head = b"%scontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (STATUS_LINE[status], len(content)) + content)
            self.turned_away(status)
        self.transport.close()
