"""Spans of runs: one trace from the flow to the stages in their own processes, and nothing where none is asked for."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deploy import collector
from pipeline import __main__ as stages
from pipeline import tracing
from pipeline.errors import InputError, StageError
from pipeline.registry import dvc_lock
from pipeline.runs import command
from tests.repositories import init
from tests.services import receiver
from tests.workspace import write_tiny_params

_KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """All that is sent to the collector that the environment names."""
    for name in (*collector.COLLECTORS, "TRACEPARENT"):
        monkeypatch.delenv(name, raising=False)
    tracing._providers.cache_clear()
    with receiver(lambda path, body: _KINDS[path].FromString(body)) as (address, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        yield got
    tracing._providers.cache_clear()


def spans_of(told: list[Any]) -> dict[str, Span]:
    traces = [sent for sent in told if isinstance(sent, ExportTraceServiceRequest)]
    return {span.name: span for t in traces for r in t.resource_spans for s in r.scope_spans for span in s.spans}


def facts_of(span: Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def test_a_child_process_continues_the_trace(told: list[Any], root: Path, tmp_path: Path) -> None:
    """As a stage does under DVC, which the flow starts; its failure is in its span and in those around it."""
    (tmp_path / "child.py").write_text(
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from pipeline import tracing\n"
        "with tracing.span('train'):\n"
        "    tracing.note(stage='train', commit='0123abc')\n"
        "    sys.exit('train failed: on purpose')\n"
    )
    with (
        (tmp_path / "lock").open("w") as lock,
        pytest.raises(StageError),
        tracing.span("volvae"),
        tracing.span("dvc repro train"),
    ):
        command.run(["child"], folder=tmp_path, log=lambda _: None, lock=lock.fileno())
    spans = spans_of(told)
    assert {span.trace_id for span in spans.values()} == {spans["volvae"].trace_id}
    assert spans["volvae"].parent_span_id == b""
    assert spans["dvc repro train"].parent_span_id == spans["volvae"].span_id
    assert spans["train"].parent_span_id == spans["dvc repro train"].span_id
    assert facts_of(spans["train"]) == {"volvae.stage": "train", "vcs.ref.head.revision": "0123abc"}
    assert {span.status.code for span in spans.values()} == {Status.STATUS_CODE_ERROR}
    assert spans["train"].status.message == "train failed: on purpose"
    assert spans["volvae"].status.message == "child ended with exit code 1: train failed: on purpose"


def test_times_and_outcomes_are_metrics(told: list[Any]) -> None:
    with tracing.span("volvae"), contextlib.suppress(StageError), tracing.span("dvc repro train"):
        raise StageError("on purpose")
    metrics = [sent for sent in told if isinstance(sent, ExportMetricsServiceRequest)]
    (found,) = (m for sent in metrics for r in sent.resource_metrics for s in r.scope_metrics for m in s.metrics)
    assert (found.name, found.unit) == ("volvae.run.duration", "s")
    points = [{each.key: each.value.string_value for each in point.attributes} for point in found.histogram.data_points]
    assert {(point["volvae.step"], point["volvae.outcome"]) for point in points} == {
        ("volvae", "done"),
        ("dvc repro train", "failed"),
    }


def test_a_stage_notes_what_it_worked_on(told: list[Any], root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Its commit, its data as DVC names them, and the verdict of the gate."""
    write_tiny_params(root, tmp_path)
    init(tmp_path)
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "a"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    outcome = {"model": "volvae", "version": "7", "verdict": "refused", "reason": "it was worse"}
    (tmp_path / "register.json").write_text(json.dumps(outcome))
    with tracing.span("register"):
        stages._trace("register", {"surfaces": Path("data"), "metrics": Path("register.json")})
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True).strip()
    assert facts_of(spans_of(told)["register"]) == {
        "volvae.stage": "register",
        "vcs.ref.head.revision": commit,
        "volvae.data": dvc_lock.md5(tmp_path / "data"),
        "volvae.model": "volvae",
        "volvae.version": "7",
        "volvae.verdict": "refused",
    }


def test_a_refused_stage_is_told_too(told: list[Any], root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    write_tiny_params(root, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert stages.main(["export", *(f"--{name}=nothing" for name in ("model", "surfaces", "bundle", "metrics"))]) == 2
    status = spans_of(told)["export"].status
    assert status.code == Status.STATUS_CODE_ERROR
    assert "nothing" in status.message


def test_off_it_costs_no_import(root: Path) -> None:
    program = (
        "import sys; from pipeline import tracing\n"
        "with tracing.span('a'): tracing.note(stage='b')\n"
        "assert tracing.handed_on() == {}; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True,
        env={"PATH": "", "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_missing_packages_are_one_line(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(InputError, match=r"ENDPOINT is set, which needs OpenTelemetry: pip install"), tracing.span("a"):
        pass


def test_a_collector_that_is_gone_fails_nothing_and_says_so_once(told: list[Any], root: Path) -> None:
    program = "from pipeline import tracing\nwith tracing.span('a'): pass"
    gone = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True,
        env={"PATH": "", "PYTHONPATH": str(root), **gone},
    )  # fmt: skip
    assert "Failed to export" in done.stderr
    assert "refused" not in done.stderr, "a failed stage would be tried again"
