"""The time of health routes while somebody holds a thousand idle connections, or sends 8 MiB of small JSON lists.

python -m benchmarks.attacks
"""

import contextlib
import socket
import tempfile
import threading
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.server import BUNDLE, exchange, post
from benchmarks.soak import serving

_IDLE = 1000
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


def idle(port: int) -> list[float]:
    """Milliseconds of the health route while a thousand connections say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(_IDLE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        return [health(port) for _ in range(100)]


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
        serving(bundle, 1, Path(folder, "log")) as (_, port),
    ):
        found = {
            "alone": [health(port) for _ in range(100)],
            f"{_IDLE:,} idle connections": idle(port),
            f"{_BODIES} bodies of 8 MiB": bodies(port),
        }
    for name, times in found.items():
        print(f"{name:25} health: p50 {np.median(times):.1f} ms, most {max(times):.1f} ms of {len(times)}")


if __name__ == "__main__":
    main()
