"""Spans and metrics of requests arrive at a collector of OpenTelemetry where one is named, and nowhere else."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from deploy import collector
from deploy.server import tracing
from tests.deploy.serving import serving
from tests.services import receiver

_KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
_TRACE, _CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # the example of W3C's Trace Context


async def _app(*_: object) -> None:
    """An application that answers nothing."""


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No collector is named."""
    for name in collector.COLLECTORS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.slow
def test_requests_are_told_to_the_collector(root: Path, tmp_path: Path) -> None:
    """A request is a child of its caller's span; probes are left out; the last spans are sent at the end."""
    with receiver(lambda path, body: _KINDS[path].FromString(body)) as (address, got):
        with serving(
            root / "deploy/demo/bundle", tmp_path, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": address}
        ) as server:
            asked = json.dumps({"count": 2, "seed": 7})
            headers = {"traceparent": f"00-{_TRACE}-{_CALLER}-01"}
            assert server.ask("POST", "/sample", asked, headers).status == 200
            assert server.ask("POST", "/sample", json.dumps({"count": -1}), headers).status == 400
        assert _told(got)


def _told(got: list[Any]) -> bool:
    traces = [sent for sent in got if isinstance(sent, ExportTraceServiceRequest)]
    resources = {a.key: a.value.string_value for t in traces for r in t.resource_spans for a in r.resource.attributes}
    assert resources["service.name"] == "volvae"
    spans = [span for t in traces for r in t.resource_spans for scope in r.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == ["POST /sample"] * 2
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans} == {(_TRACE, _CALLER)}
    statuses = {a.value.int_value for span in spans for a in span.attributes if a.key.endswith("status_code")}
    assert statuses == {200, 400}
    metrics = [sent for sent in got if isinstance(sent, ExportMetricsServiceRequest)]
    names = {m.name for sent in metrics for r in sent.resource_metrics for s in r.scope_metrics for m in s.metrics}
    return "http.server.duration" in names


def test_nothing_is_traced_where_no_collector_is_named(nowhere: pytest.MonkeyPatch) -> None:
    assert tracing.traced(_app) is _app


def test_missing_packages_are_found_at_the_start(nowhere: pytest.MonkeyPatch) -> None:
    nowhere.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)
    collector.check()
    nowhere.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    with pytest.raises(ValueError, match=r"TRACES_ENDPOINT is set, which needs .*: pip install 'volvae\[otel\]'"):
        collector.check()
