"""uvicorn's HTTP protocol with limits: on connections, on the queue, on the head of a request and on time.

A request must arrive within some seconds, and a reader must take some of its answer within as many.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from deploy.server.errors import HEAD_TOO_LARGE, NOT_HTTP, QUEUE_FULL, REQUEST_TIMEOUT, TOO_MANY_CONNECTIONS
from deploy.server.headers import ANSWER
from deploy.server.limits import MAX_HEAD, MAX_PIPELINED, Limits
from deploy.server.open_files import SPARE

_HEALTH, _METRICS = b"/v2/health/", b"/metrics"  # routes that a full server answers too
_LARGE = 64 * 1024  # bytes of a write that is sent at once
CLOSE = (b"connection", b"close")


def bounded_protocol(
    limits: Limits, *, draining: Callable[[], bool], rejected: Callable[[int], None]
) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with limits that it lacks.

    Args:
        limits: of the worker.
        draining: whether the worker is about to stop, so that clients should close their connections.
        rejected: called with the status of each answer that a connection sends in place of the application.
    """
    attributes = {"limits": limits, "draining": staticmethod(draining), "rejected": staticmethod(rejected)}
    return type("BoundedProtocol", (_BoundedProtocol,), attributes)


class _BufferedTransport:
    """A transport that sends head and body of a small answer together: two packets would cost more than the rest of it.

    Args:
        closing: called after ``close``, once the rest of the data is sent or waits for the reader.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closing: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._closing = transport, loop, closing
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of a transport
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send at the end of this turn of the event loop; large parts at once."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        if len(data) > _LARGE:
            self.flush()

    def flush(self) -> None:
        """Send the buffered parts, unless the other side has left."""
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.writelines(parts)

    def close(self) -> None:
        """Send the rest and close."""
        self.flush()
        self._transport.close()
        self._loop.call_soon(self._closing)


@lru_cache
def _encoded(answer: Response, headers: tuple[tuple[bytes, bytes], ...] = (), *, with_body: bool = True) -> bytes:
    """An answer as it goes over the wire. It is cached until a header changes, as the date does once a second."""
    lines = [b"%s: %s\r\n" % header for header in (*headers, *answer.raw_headers)]
    return b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body) if with_body else b""])


class _RejectedCycle:
    """In place of uvicorn's cycle, for a request that was rejected at its head: the rest of the request is dropped."""

    response_started = response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class _BoundedProtocol(HttpToolsProtocol):
    limits: Limits
    draining: Callable[[], bool]
    rejected: Callable[[int], None]
    _arrival_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _made = 0.0  # time of the event loop
    _requests = 0  # whose first byte has arrived
    _in_head = _in_body = False
    _head_size = 0  # bytes of the head that is arriving
    _rejected_in_packet = 0  # requests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.transport = _BufferedTransport(self.transport, self.loop, self._await_last_reader)  # type: ignore[assignment]
        self._made = self.loop.time()
        if len(self.connections) > self.limits.connections + SPARE:
            self._make_room()
        self._start_arrival_timer()

    def _make_room(self) -> None:
        """End the oldest connection that waits for nothing, so that there are descriptors for health checks."""
        idle = [each for each in self.connections if isinstance(each, _BoundedProtocol) and each._idle]  # noqa: SLF001
        min(idle, key=lambda each: each._made).transport.abort()  # noqa: SLF001

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_arrival_timer()
        self._stop_reader_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        requests, self._rejected_in_packet = self._requests, 0
        super().data_received(data)
        if self._in_head and self._requests == requests:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._refuse(HEAD_TOO_LARGE)
        idle = self._idle and self.timeout_keep_alive_task is None
        if self._arrival_timer is None and not self.flow.read_paused and (self._in_head or self._in_body or idle):
            self._start_arrival_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stop_arrival_timer()  # of the request before
        self._requests += 1
        self._in_head, self._head_size = True, 0

    def on_headers_complete(self) -> None:
        if self.transport.is_closing() or max(len(self.pipeline), self._rejected_in_packet) >= MAX_PIPELINED:
            raise ConnectionAbortedError  # which ends the parser and the connection
        if self._idle:
            if answer := self._rejection():
                self._reject(answer)
            else:
                self.app = self._call_app
                super().on_headers_complete()  # raises for an address that cannot be read
                self.limits.admission.waiting += 1
        else:  # pipelined: the request before is not answered yet
            self.app = self.config.loaded_app
            super().on_headers_complete()
        self._in_head, self._in_body = False, True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._stop_arrival_timer()
        if isinstance(self.cycle, _RejectedCycle):
            self.on_response_complete()
            if self.flow.write_paused:
                self.flow.pause_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:  # of the next request, whose reading was paused
            self._start_arrival_timer()

    @property
    def _idle(self) -> bool:
        """Whether every request on the connection is answered."""
        return self.cycle is None or self.cycle.response_complete

    def _rejection(self) -> Response | None:
        """The answer in place of the application's, where the worker is full."""
        if self.url.startswith(_HEALTH):
            return None
        if len(self.connections) > self.limits.connections:
            return TOO_MANY_CONNECTIONS
        return QUEUE_FULL if self.limits.admission.full and self.url != _METRICS else None

    def _reject(self, answer: Response) -> None:
        """Answer before the application is called: a refusal there would cost almost as much as an answer."""
        self.cycle = _RejectedCycle()  # type: ignore[assignment]
        headers, draining = (*self.server_state.default_headers, *ANSWER), self.draining()
        if draining:
            headers += (CLOSE,)
        self.transport.write(_encoded(answer, headers, with_body=self.parser.get_method() != b"HEAD"))
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        if draining or answer is TOO_MANY_CONNECTIONS or not keep_alive:
            self.transport.close()
        self._rejected_in_packet += 1
        self.rejected(answer.status_code)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not JSON
        self._refuse(NOT_HTTP)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()  # a client that does not read its answers is not read
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()
        self._stop_reader_timer()
        if self.transport.is_closing():
            self._await_last_reader()

    def _await_last_reader(self) -> None:
        """Limit the time in which a reader must take the rest of a closed connection's data, too."""
        left = self.transport.get_write_buffer_size()
        if left and self._reader_timer is None:
            self._await_reader(left)

    def _await_reader(self, left: int) -> None:
        """Abort the connection unless its reader takes some of the bytes that are left, in each span of time."""

        def check() -> None:
            now = self.transport.get_write_buffer_size()
            if now < left:
                self._await_reader(now)
            else:
                self.transport.abort()

        self._reader_timer = self.loop.call_later(self.limits.receive, check)

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    async def _call_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.limits.admission.waiting -= 1
        await self.config.loaded_app(scope, receive, send)

    def _start_arrival_timer(self) -> None:
        self._stop_arrival_timer()
        self._arrival_timer = self.loop.call_later(self.limits.receive, self._refuse, REQUEST_TIMEOUT)

    def _stop_arrival_timer(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _refuse(self, answer: Response) -> None:
        """Close the connection, after this answer unless the client could take it for that to another request."""
        if self.transport.is_closing():
            return
        no_answer_begun = self._idle if self._in_head or self.cycle is None else not self.cycle.response_started
        if no_answer_begun and not self.pipeline:
            self.transport.write(_encoded(answer, ANSWER))
            self.rejected(answer.status_code)
        self.transport.close()
