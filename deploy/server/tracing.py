"""Traces and metrics of requests for OpenTelemetry: off, unless one of its standard variables names a collector.

A span has the route, the status and the client's address of a request, and is a child of the caller's span where the
request has a ``traceparent``. Bodies are in no span.

Reference: https://opentelemetry.io/docs/specs/otel/protocol/exporter.
"""

import asyncio
import os
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COLLECTORS = tuple(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT" for kind in ("", "TRACES_", "METRICS_"))
_QUIET = "/v2/health,/metrics"  # what probes ask every few seconds


def check() -> None:
    """Find missing packages before there are workers to fail.

    Raises:
        ValueError: a collector is named, and OpenTelemetry is not installed.
    """
    if not asked():
        return
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415  where it is asked for
        import opentelemetry.instrumentation.asgi  # noqa: F401, PLC0415
    except ImportError as error:
        raise ValueError(f"{asked()} is set, which needs OpenTelemetry: pip install 'volvae[otel]'") from error


def asked() -> str | None:
    """The variable that names a collector; None where none does."""
    return next((name for name in _COLLECTORS if os.environ.get(name)), None)


def traced(app: ASGIApp) -> ASGIApp:
    """The application whose requests are told to the collector; itself where none is named."""
    if not asked():
        return app
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", "volvae")
    resource = Resource.create()
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
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
