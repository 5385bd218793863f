"""The collector of OpenTelemetry that spans and metrics go to: none, unless one of its standard variables names one.

Reference: https://opentelemetry.io/docs/specs/otel/protocol/exporter.
"""

import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

COLLECTORS: Final = tuple(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT" for kind in ("", "TRACES_", "METRICS_"))

_PATIENCE = "2"  # seconds that a run waits for its collector; OpenTelemetry's own 10 for each span would be minutes


class Providers(NamedTuple):
    """Makers of spans and of metrics, which know the collector."""

    spans: "TracerProvider"
    meters: "MeterProvider"


def asked() -> str | None:
    """The variable that names a collector; None where none does."""
    return next((name for name in COLLECTORS if os.environ.get(name)), None)


def check() -> None:
    """Find missing packages.

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


def providers(*, in_batches: bool) -> Providers:
    """Providers of this process.

    Args:
        in_batches: whether threads send what has gathered every few seconds, as a server needs it; else each span is
            sent when it ends, and metrics when they are flushed, so that a process that forks has no threads.
    """
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", "volvae")
    if not in_batches:
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _PATIENCE)
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # a line at the end, none for each attempt
    resource = Resource.create()
    spans = TracerProvider(resource=resource)
    spans.add_span_processor((BatchSpanProcessor if in_batches else SimpleSpanProcessor)(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(), export_interval_millis=None if in_batches else float("inf")
    )
    return Providers(spans, MeterProvider([reader], resource=resource))
