"""Traces and metrics of runs for OpenTelemetry: off, unless one of its standard variables names a collector.

A run is one trace: the flow, each command of it, and the stages in their own processes, to which the environment
variable TRACEPARENT hands the span that they are part of.

Reference: https://opentelemetry.io/docs/specs/otel/context/env-carriers.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from deploy import collector
from pipeline.errors import InputError

if TYPE_CHECKING:
    from deploy.collector import Providers

OUTCOME = ("model", "version", "verdict")  # of a registration
_HEADER, _VARIABLE = "traceparent", "TRACEPARENT"
_COMMIT = "vcs.ref.head.revision"


def on() -> bool:
    """Whether a collector is named."""
    return collector.asked() is not None


def note(**facts: str) -> None:
    """Give the span around this call attributes: ``commit`` by OpenTelemetry's own name, others by ``volvae.NAME``."""
    if on():
        from opentelemetry import trace  # noqa: PLC0415  where it is asked for

        named = {_COMMIT if name == "commit" else f"volvae.{name}": value for name, value in facts.items()}
        trace.get_current_span().set_attributes(named)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Tell the collector when the block began and ended, and whether it failed.

    It is part of the span around it, of this process or of the one that started it; without any it is a trace of its
    own.

    Raises:
        InputError: a collector is named, and OpenTelemetry is not installed.
    """
    if not on():
        yield
        return
    spans, meters = _providers()
    from opentelemetry import propagate, trace  # noqa: PLC0415  where it is asked for

    outermost = not trace.get_current_span().get_span_context().is_valid
    around = propagate.extract({_HEADER: os.environ.get(_VARIABLE, "")}) if outermost else None
    seconds = meters.get_meter("volvae").create_histogram("volvae.run.duration", "s", "Time of a run and of its steps.")
    start, ended = time.monotonic(), {"volvae.step": name, "volvae.outcome": "done"}
    with spans.get_tracer("volvae").start_as_current_span(
        name, around, record_exception=False, set_status_on_exception=False
    ) as told:
        try:
            yield
        except BaseException as error:
            told.set_status(trace.StatusCode.ERROR, str(error) or type(error).__name__)
            ended["volvae.outcome"] = "failed"
            raise
        finally:
            seconds.record(time.monotonic() - start, ended)
            if outermost:
                meters.force_flush()


def handed_on() -> dict[str, str]:
    """The environment variables by which a child process continues the trace; none where there is none."""
    if not on():
        return {}
    from opentelemetry import propagate  # noqa: PLC0415

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {_VARIABLE: carrier[_HEADER]} if _HEADER in carrier else {}


@cache
def _providers() -> "Providers":
    try:
        collector.check()
    except ValueError as error:
        raise InputError(str(error)) from error
    return collector.providers(in_batches=False)
