"""A soak test of the server: whether memory or descriptors grow, or a request fails while models are exchanged.

python -m benchmarks.soak --minutes 120 --load 0.7
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import psutil

from benchmarks.clients import clients
from benchmarks.server import BUNDLE, exchange, infer, post
from pipeline.files import atomic
from vae.runtime import SurfaceModel

_CLIENTS = 2
_TRIED = 20.0  # seconds in which the clients find how much the server can do
_MIB = 2**20
_JSON = {"content-type": "application/json"}
_BINARY = _JSON | {"accept": "application/octet-stream"}


class Request(NamedTuple):
    """A request, and the status that its answer must have."""

    name: str
    content: bytes
    status: int


class Reading(NamedTuple):
    """The state of the server at a moment."""

    seconds: float
    mib: float
    descriptors: int
    answered: int
    failed: int
    swaps: int


def mixed(model: SurfaceModel) -> list[Request]:
    """One request of each kind."""
    z = np.random.default_rng(1).standard_normal((4, model.latents)).astype(np.float32)
    iv = model.sample(4, seed=1)
    tenor, k = float(model.grid.tenors[0]), float(model.grid.log_moneyness_of(iv[0])[0, model.grid.shape[1] // 2])
    quotes = {"iv": [float(iv[0, 0, model.grid.shape[1] // 2])], "tenor": [tenor], "log_moneyness": [k]}
    return [
        Request("decoder, binary", infer(z, binary=True), 200),
        Request("decoder, JSON", infer(z, binary=False), 200),
        Request("sample", post("/sample", b'{"count": 3, "seed": 7}', _JSON), 200),
        Request("sample, streamed", post("/sample", b'{"count": 4000, "seed": 7}', _BINARY), 200),
        Request("complete", post("/complete", json.dumps(quotes).encode(), _JSON), 200),
        Request("score", post("/score", json.dumps({"iv": iv.tolist()}).encode(), _JSON), 200),
        Request("not JSON", post("/score", b"{", _JSON), 400),
        Request("no such model", post("/v2/models/none/infer", b"{}", _JSON), 404),
    ]


class Load:
    """Clients that send requests in turns, each on one connection, and what they are answered.

    Attributes:
        answered: number of answers by kind of request.
        failed: number of other outcomes than the expected status, by outcome.
        pace: seconds between the requests of one client; 0 as fast as it is answered.
    """

    def __init__(self, port: int, requests: list[Request]) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._port, self._requests = port, requests
        self.pace = 0.0
        self._lock = threading.Lock()

    def ask(self, done: threading.Event) -> None:
        """Send requests until the end, as one client."""
        while not done.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
                    while not done.is_set():
                        for request in self._requests:
                            due = time.monotonic() + self.pace
                            self._count(request, exchange(connection, request.content)[9:12])
                            done.wait(max(0.0, due - time.monotonic()))
            except OSError as error:
                self._fail(repr(error))
                done.wait(0.1)

    def _count(self, request: Request, status: bytes) -> None:
        if status == b"%d" % request.status:
            with self._lock:
                self.answered[request.name] += 1
        else:
            self._fail(f"{request.name}: {status.decode()}")

    def _fail(self, what: str) -> None:
        with self._lock:
            self.failed[what] += 1


class Models:
    """A symbolic link that points to one of two copies of a bundle in turn."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.link, self.swaps = folder / "current", 0
        self._copies = [Path(shutil.copytree(bundle, folder / name)) for name in ("one", "two")]
        atomic.point(self.link, self._copies[0])

    def swap(self) -> None:
        """Point the link to the other copy in one step."""
        self.swaps += 1
        atomic.point(self.link, self._copies[self.swaps % 2])


@contextmanager
def serving(
    model: Path, workers: int, log: Path, *options: str, poll: float = 0.5
) -> Iterator[tuple[psutil.Process, int]]:
    """Run `volvae serve` with these options. Yields its process and its port."""
    command = [sys.executable, "-c", "from pipeline.cli.main import main; main()", "serve", "--model", str(model)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", "0", "--poll", str(poll), "--workers", str(workers), *options],
            stdout=output,
            stderr=output,
        )
    try:
        while (port := _port(log)) is None or not _answers(port):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        yield psutil.Process(process.pid), port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _port(log: Path) -> int | None:
    lines = (json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
    return next((line["port"] for line in lines if line["message"] == "listens"), None)


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return b" 200 " in exchange(connection, b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n")[:16]


def held(server: psutil.Process) -> tuple[float, int]:
    """Resident memory of all workers in MiB, and the number of their open descriptors."""
    workers = [child for child in server.children() if "spawn_main" in " ".join(child.cmdline())]
    return sum(worker.memory_info().rss for worker in workers) / _MIB, sum(worker.num_fds() for worker in workers)


def settle(load: Load, share: float) -> None:
    """Let the clients send a share of the requests that the server can answer, which is tried first."""
    if share < 1.0:
        before = load.answered.total()
        time.sleep(_TRIED)
        load.pace = _CLIENTS * _TRIED / (share * (load.answered.total() - before))


def watch(server: psutil.Process, load: Load, models: Models, *, seconds: float, swap: float) -> list[Reading]:
    """Read the state of the server and exchange its model, repeatedly; print a line a minute."""
    print(" minute      MiB  descriptors    answered  failed   swaps")
    readings, start, minute = [], time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        reading = Reading(passed, *held(server), load.answered.total(), load.failed.total(), models.swaps)
        readings.append(reading)
        if passed >= 60 * minute:
            minute += 1
            print(row(reading), flush=True)
        time.sleep(min(swap, seconds - passed))
        models.swap()
    return readings


def row(reading: Reading) -> str:
    """A reading as a line of text."""
    return (
        f"{reading.seconds / 60:7.2f} {reading.mib:8.1f} {reading.descriptors:12,} {reading.answered:11,} "
        f"{reading.failed:7,} {reading.swaps:7,}"
    )


def slope(readings: list[Reading]) -> float:
    """Growth of memory over the second half of the run, MiB an hour, by least squares."""
    half = readings[len(readings) // 2 :]
    hours = [reading.seconds / 3600 for reading in half]
    return float(np.polyfit(hours, [reading.mib for reading in half], 1)[0])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), default=BUNDLE)
@click.option("--minutes", type=click.FloatRange(min=0.0, min_open=True), default=30.0, show_default=True)
@click.option("--swap", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="Seconds of a model.")
@click.option(
    "--load", "share", type=click.FloatRange(0.01, 1.0), default=1.0, show_default=True, help="Of what it can."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
def main(bundle: Path, minutes: float, swap: float, share: float, workers: int) -> None:
    """Load a server of BUNDLE and report its memory and descriptors. The exit code is 1 if a request failed."""
    requests = mixed(SurfaceModel.load(bundle, provider="cpu", threads=1))
    with tempfile.TemporaryDirectory(prefix="volvae-soak-") as folder:
        models, log = Models(bundle, Path(folder)), Path(folder, "log")
        with serving(models.link, workers, log) as (server, port):
            load = Load(port, requests)
            with clients(_CLIENTS, load.ask):
                settle(load, share)
                readings = watch(server, load, models, seconds=60 * minutes, swap=swap)
        served = log.read_text().count('"serves a model"')
    print(f"\nmemory     {slope(readings):+.1f} MiB an hour over the second half, "
          f"{readings[-1].mib - readings[0].mib:+.1f} MiB from first to last")  # fmt: skip
    print(f"open files {min(r.descriptors for r in readings)} to {max(r.descriptors for r in readings)}")
    print(f"models     {served:,} served in {models.swaps:,} swaps")
    print("answered   " + ", ".join(f"{name} {count:,}" for name, count in load.answered.items()))
    print("failed     " + (", ".join(f"{what} ({count})" for what, count in load.failed.items()) or "none"))
    sys.exit(1 if load.failed else 0)


if __name__ == "__main__":
    main()
