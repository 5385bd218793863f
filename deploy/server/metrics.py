"""Metrics for Prometheus, summed over the workers, which share a folder of counters."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from deploy.server.children import use

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """A temporary folder has the counters of child processes; enter it before a child imports prometheus_client."""
    os.environ[_FOLDER] = str(folder)
    try:
        yield
    finally:
        del os.environ[_FOLDER]


class Metrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        # prometheus_client decides at its import whether counters are shared
        from prometheus_client import Counter, Gauge, Histogram, Summary  # noqa: PLC0415

        if _FOLDER in os.environ:
            use(Path(os.environ[_FOLDER]))
        self._seconds = Histogram(
            "volvae_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("route", "status"),
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0),
        )
        self._rows = Histogram(
            "volvae_rows", "Rows of a call.", ("model",), buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
        )
        self._queue_gauge = Gauge("volvae_queue", "Requests that wait or run.", multiprocess_mode="livesum")
        self.workers = Gauge(
            "volvae_workers", "Workers that serve a version.", ("version",), multiprocess_mode="livesum"
        )
        self.challengers = Gauge(
            "volvae_challengers", "Workers that compare a version.", ("version",), multiprocess_mode="livesum"
        )
        self.withdrawn = Counter("volvae_withdrawn_challengers", "Challengers withdrawn, by each worker.")
        self.challenger_failures = Counter(
            "volvae_challenger_failures", "Requests that the champion answers and the challenger does not."
        )
        self._crps = Summary(
            "volvae_hidden_quote_crps_bp",
            "Score of what a model predicted of a hidden quote; smaller is better.",
            ("role",),
        )
        self._comparison_seconds = Summary("volvae_comparison_seconds", "Time for a completion to compare.", ("role",))
        self.swaps = Counter("volvae_swaps", "Models exchanged for another version, by each worker.")
        self.refused = Counter("volvae_refused_bundles", "Bundles that were not fit to serve.")
        self._rejected = Counter(
            "volvae_turned_away", "Requests that were refused before they reached a route.", ("status",)
        )
        self._queue = 0
        # looking a counter up by its labels takes longer than counting
        self._seconds_of, self._rows_of = cache(self._seconds.labels), cache(self._rows.labels)
        self._rejected_with = cache(self._rejected.labels)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._seconds_of(route, status).observe(seconds)

    def rejected(self, status: int) -> None:
        """Count a request that was refused before it reached a route."""
        self._rejected_with(status).inc()

    def called(self, model: str, rows: int) -> None:
        """Count a call of a model."""
        self._rows_of(model).observe(rows)

    def compared(self, role: str, crps: float, seconds: float) -> None:
        """Count what champion or challenger predicted of a hidden quote; see ``challenger``."""
        self._crps.labels(role).observe(crps)
        self._comparison_seconds.labels(role).observe(seconds)

    def queue(self, requests: int) -> None:
        """Set the number of requests that wait or run."""
        if requests != self._queue:
            self._queue = requests
            self._queue_gauge.set(requests)


def exposition() -> bytes:
    """All counters of all workers, in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # noqa: PLC0415

    folder = os.environ[_FOLDER]
    for process in {int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("gauge_*.db")}:
        if not _alive(process):
            with suppress(FileNotFoundError):  # another worker removed it at the same time
                mark_process_dead(process, folder)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _alive(process: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):  # a dead worker's number may belong to another user now
        os.kill(process, 0)
        return True
    return False
