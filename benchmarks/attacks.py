"""The time of health routes while somebody holds a thousand idle connections, over HTTP or gRPC, or sends large bodies.

python -m benchmarks.attacks
"""

import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import grpc
import numpy as np

from benchmarks.server import BUNDLE, exchange, post
from benchmarks.soak import serving

_IDLE = 1000
_TIMES = 100  # that each is asked
_BODY = 8 * 2**20 - 256  # bytes, with the head below the limit of a body
_BODIES = 10
_HEALTH = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
_JSON = {"content-type": "application/json"}


def health(port: int) -> float:
    """Milliseconds of the health route on a new connection."""
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        if b" 200 " not in exchange(connection, _HEALTH)[:16]:
            raise RuntimeError("the server is not healthy")
    return 1e3 * (time.perf_counter() - start)


def health_over_grpc(port: int) -> float:
    """Milliseconds of gRPC's ServerLive on a new connection."""
    start = time.perf_counter()
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=60)
    return 1e3 * (time.perf_counter() - start)


@contextlib.contextmanager
def idle(port: int) -> Iterator[None]:
    """Hold a thousand connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(_IDLE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        yield


@contextlib.contextmanager
def idle_over_grpc(port: int) -> Iterator[None]:
    """Hold a thousand connections that have begun HTTP/2, and say nothing more."""
    start = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0"
    )  # settings, acknowledged
    with contextlib.ExitStack() as stack:
        for _ in range(_IDLE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)).sendall(start)
        yield


def bodies(port: int) -> list[float]:
    """Milliseconds of the health route while bodies of 8 MiB come, one after the other."""
    body = b'{"iv": [' + b"[]," * (_BODY // 3 - 8) + b"[]]}"
    done, found = threading.Event(), []

    def send() -> None:
        for _ in range(_BODIES):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                exchange(connection, post("/score", body, _JSON))
        done.set()

    sender = threading.Thread(target=send)
    sender.start()
    while not done.is_set():
        found.append(health(port))
    sender.join()
    return found


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), default=BUNDLE)
def main(bundle: Path) -> None:
    """Time the health route of a server of BUNDLE: alone, beside idle connections, beside large bodies."""
    with (
        tempfile.TemporaryDirectory(prefix="volvae-attacks-") as folder,
        serving(bundle, 1, Path(folder, "log"), "--grpc-port", "0") as (_, port),
    ):
        lines = map(json.loads, Path(folder, "log").read_text().splitlines())
        listens = next(line for line in lines if line["message"] == "listens")
        over_grpc = listens["grpc_port"]
        found = {
            "health, alone": [health(port) for _ in range(_TIMES)],
            "health over gRPC, alone": [health_over_grpc(over_grpc) for _ in range(_TIMES)],
        }
        with idle(port):
            found[f"health, {_IDLE:,} idle connections"] = [health(port) for _ in range(_TIMES)]
        with idle_over_grpc(over_grpc):
            beside = f"{_IDLE:,} idle connections of gRPC"
            found[f"health, {beside}"] = [health(port) for _ in range(_TIMES)]
            found[f"health over gRPC, {beside}"] = [health_over_grpc(over_grpc) for _ in range(_TIMES)]
        found[f"health, {_BODIES} bodies of 8 MiB"] = bodies(port)
    for name, times in found.items():
        print(f"{name:50} p50 {np.median(times):.1f} ms, most {max(times):.1f} ms of {len(times)}")


if __name__ == "__main__":
    main()
