"""A connection that is bounded: a request must arrive whole, its head small, and an answer must be taken, in time."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.queue import Queue

_ALWAYS = b"/v2/health/"  # a busy server is alive
_MOST_HEAD = 64 * 1024
_LARGE = 64 * 1024


def bounded(seconds: float, *, most: int, crowded: ASGIApp, queue: Queue, busy: ASGIApp) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with limits that it lacks.

    Args:
        seconds: in which a request must arrive, and in which a reader must take something.
        most: connections.
        crowded: answers where there are more.
        queue: where a request waits from its head on. Where it is full, the request never reaches the application, as
            to refuse it there costs almost as much as to answer.
        busy: answers instead.
    """
    limits = {"seconds": seconds, "most": most, "queue": queue}
    return type("Bounded", (_Bounded,), {**limits, "crowded": staticmethod(crowded), "busy": staticmethod(busy)})


class _Gathered:
    """A transport that sends head and body of a small answer at once: a packet for each is the dearest part of it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
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
        """Send what was gathered."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.writelines(parts)

    def close(self) -> None:
        """Send the rest and close."""
        self.flush()
        self._transport.close()


class _Bounded(HttpToolsProtocol):
    seconds: float
    most: int
    crowded: ASGIApp
    queue: Queue
    busy: ASGIApp
    _arrival: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _begun = 0  # requests so far
    _in_head = False
    _head = 0  # bytes of the head that is arriving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.transport = _Gathered(self.transport, self.loop)  # type: ignore[assignment]
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._took()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun = self._begun
        super().data_received(data)
        if self._in_head and self._begun == begun:
            self._head += len(data)
            if self._head > _MOST_HEAD:
                self._refuse(b"431 Request Header Fields Too Large", b"the head of the request is too large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun += 1
        self._in_head, self._head = True, 0
        self._expect()

    def on_headers_complete(self) -> None:
        behind = self.cycle is not None and not self.cycle.response_complete  # another on this connection
        self.app = self._turned_away() or (self.config.loaded_app if behind else self._begin)
        super().on_headers_complete()  # raises for an address that cannot be read
        self._in_head = False
        if self.app == self._begin:
            self.queue.waiting += 1

    def _turned_away(self) -> ASGIApp | None:
        """What answers in place of the application."""
        if self.url.startswith(_ALWAYS):
            return None
        if len(self.connections) > self.most:
            return self.crowded
        return self.busy if self.queue.full else None

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arrived()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it would be plain text
        self._refuse(b"400 Bad Request", b"this is not a request of HTTP/1.1")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._took()

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
        self._refuse(b"408 Request Timeout", b"the request did not arrive in time")

    def _refuse(self, status: bytes, why: bytes) -> None:
        """Close, with an answer where none is due or under way."""
        cycle = self.cycle
        idle = cycle is None or cycle.response_complete
        if idle if self._in_head or cycle is None else not cycle.response_started:
            content = b'{"error":"%s"}' % why
            head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, len(content)) + content)
        self.transport.close()
