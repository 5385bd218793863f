"""What happens to every request, whatever its route: the token, encodings, counters, and the end of connections."""

import hmac
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy import logs
from deploy.service import BUSY, Service, no

# Probes of an orchestrator carry no token, and the page must load before one can be typed into it.
OPEN = frozenset({"/", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
_CLOSE = (b"connection", b"close")
_GONE = 499  # nginx's number for a client that left


class Guard:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        token = service.settings.token
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, count, and log what fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = perf_counter(), _GONE

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._service.draining:
                    message["headers"] = [*message["headers"], _CLOSE]
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, tell)
        except ClientDisconnect:
            status = _GONE
        except Exception as error:  # noqa: BLE001 - it was answered; here it is told without what the request held
            logs.failure("a request failed", error, route=_route(scope))
        finally:
            self._count(scope, status, perf_counter() - start)

    async def busy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn a request away without a look at it."""
        self._service.metrics.requests.labels("none", BUSY.status_code).inc()
        await BUSY(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """The answer to a request that goes no further."""
        headers = dict(scope["headers"])
        if self._expected is not None and scope["path"] not in OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                return no(401, "a bearer token is needed", {"www-authenticate": "Bearer"})
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            return no(415, "a body must not be compressed", {"accept-encoding": "identity"})
        return None

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route, metrics = _route(scope), self._service.metrics
        metrics.requests.labels(route, status).inc()
        metrics.queue.set(self._service.queue.length)
        metrics.seconds.labels(route).observe(seconds)
        if self._service.settings.log_requests:
            logs.info("request", route=route, status=status, ms=round(1e3 * seconds, 3))


def _route(scope: Scope) -> str:
    """The name of the function that answers: unlike a path, one of few."""
    return getattr(scope.get("endpoint"), "__name__", "none")
