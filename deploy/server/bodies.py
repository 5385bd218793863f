"""Bodies of requests, read within bounds: of each, and of all that are in memory together."""

from types import TracebackType
from typing import Self

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from deploy.server.admission import BusyError

_TOGETHER = 4  # largest bodies that fit in memory at once


class Bodies:
    """What the requests of one worker hold in memory."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self.held = 0

    def check(self, size: int) -> None:
        """Raise HTTPException for a body that is too large."""
        if size > self._most:
            raise HTTPException(413, f"the body is too large; allowed: {self._most} bytes")

    @property
    def full(self) -> bool:
        """Whether there is no memory for more."""
        return self.held > _TOGETHER * self._most


class Body:
    """The body of one request; ``with`` gives its memory back at the end."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._size = bodies, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bodies.held -= self._size

    async def read(self, request: Request) -> bytes:
        """All of it.

        Raises:
            HTTPException: it is too large.
            BusyError: those that are being read fill the memory that is meant for them.
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
            self._take(len(chunks[-1]))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _take(self, size: int) -> None:
        self._size += size
        self._bodies.held += size
        self._bodies.check(self._size)
        if self._bodies.full:
            raise BusyError
