"""Middleware of every request: checks its token, encoding and size, answers exceptions, and counts."""

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.server import errors, headers, logs, origin
from deploy.server.bearer import bears
from deploy.server.connection import CLOSE
from deploy.server.state import Service

# Routes that need no token: an orchestrator's probes carry none, and a page must load before one can be typed into it.
_OPEN = frozenset({"/", "/reference", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
_GONE = 499  # nginx's status for a client that left; it is only counted


class Middleware:
    """An application around another one; it answers the exceptions of the inner one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        token = service.settings.token
        self._token = None if token is None else token.encode()
        self._host_names = service.settings.host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, have it answered, answer exceptions, and count."""
        scope["app"] = self  # with it Starlette's Router raises HTTPException instead of sending a plain-text 404
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, extra = perf_counter(), 0, headers.of(scope["path"])

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                close = (CLOSE,) if self._service.draining else ()
                message = {**message, "headers": [*message["headers"], *extra, *close]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_noting_status)
        except ClientDisconnect:
            status = _GONE
        except Exception as error:
            answer = errors.response_to(error)
            if answer.status_code == 500:
                logs.failure("a request failed", error, route=_route(scope))
            if status:  # the answer has begun; breaking the connection is the only way to say that it failed
                raise
            await answer(scope, receive, send_noting_status)
        finally:
            self._count(scope, status or _GONE, perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        """Raise HTTPException for a request with a wrong token, encoding or size, or of another site."""
        given = dict(scope["headers"])
        if self._token is None:
            self._check_origin(scope["method"], given)
        elif not _is_open(scope["path"]) and not bears(self._token, given.get(b"authorization", b"")):
            raise errors.unauthorized()
        if given.get(b"content-encoding", b"identity").lower() != b"identity":
            raise errors.compressed_body()
        self._service.limits.check_body(int(given.get(b"content-length", 0)))

    def _check_origin(self, method: str, given: Mapping[bytes, bytes]) -> None:
        """Raise HTTPException for a request that a page of another site caused."""
        host = given.get(b"host")
        if host is not None and not origin.is_for(host, self._host_names):
            raise errors.other_host(host.decode("latin-1"))
        if method == "POST" and not origin.is_own(given):
            raise errors.other_site()

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route, metrics = _route(scope), self._service.metrics
        metrics.answered(route, status, seconds)
        metrics.queue(self._service.limits.admission.count)
        if self._service.settings.log_requests:
            logs.info("request", route=route, status=status, ms=round(1e3 * seconds, 3))


class _Handler:
    """A function of requests as an application; the middleware answers its exceptions."""

    def __init__(self, function: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        self._function, self.__name__ = function, function.__name__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        response = await self._function(Request(scope, receive))
        await response(scope, receive, send)


def route(path: str, function: Callable[[Request], Awaitable[ASGIApp]], method: str = "GET") -> Route:
    """A route to a function."""
    return Route(path, _Handler(function), methods=[method])


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(headers.BELOW_EXPLORER)


def _route(scope: Scope) -> str:
    """The name of the function that answers; unlike paths, there are few of them."""
    return getattr(scope.get("endpoint"), "__name__", "none")
