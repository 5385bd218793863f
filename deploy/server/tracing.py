"""Traces and metrics of requests for OpenTelemetry: off, unless one of its standard variables names a collector.

A span has the route, the status and the client's address of a request, and is a child of the caller's span where the
request has a ``traceparent``. Bodies are in no span.
"""

import asyncio
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy import collector

_QUIET = "/v2/health,/metrics"  # what probes ask every few seconds


def traced(app: ASGIApp) -> ASGIApp:
    """The application whose requests are told to the collector; itself where none is named."""
    if not collector.asked():
        return app
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415

    spans, meters = collector.providers(in_batches=True)
    told = OpenTelemetryMiddleware(
        app, excluded_urls=_QUIET, tracer_provider=spans, meter_provider=meters, exclude_spans=["receive", "send"]
    )
    return _ToldToTheLast(told, app, (spans.shutdown, meters.shutdown))


class _ToldToTheLast:
    """An application that sends what its collector does not have yet before it says that it has ended.

    uvicorn raises the signal that stopped it anew, so that nothing runs in the process after that.
    """

    def __init__(self, requests: ASGIApp, life: ASGIApp, ends: Sequence[Callable[[], object]]) -> None:
        self._requests, self._life, self._ends = requests, life, ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "lifespan":
            await self._requests(scope, receive, send)
            return

        async def send_after_all(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await asyncio.gather(*(asyncio.to_thread(end) for end in self._ends))
            await send(message)

        await self._life(scope, receive, send_after_all)
