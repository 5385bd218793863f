"""A Prefect server on this machine, for schedules where no other server is configured."""

import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import StageError

_SECONDS = 180.0
_PAUSE_SECONDS = 0.2


@contextlib.contextmanager
def running(port: int, log: Path) -> Iterator[str]:
    """The address of the API of a server on loopback: one that is there, or a new one that ends with the block.

    Its store is Prefect's own SQLite file, so that a schedule and its runs survive a restart.

    Raises:
        StageError: it does not start.
    """
    url = f"http://127.0.0.1:{port}/api"
    if _healthy(url):
        yield url
        return
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.runs.supervise", *command],
            stdin=subprocess.PIPE,  # its end, at our own in whatever way, ends the server
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.communicate()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while not _healthy(url):
        if process.poll() is not None or time.monotonic() > until:
            said = log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "nothing")
            raise StageError(f"the Prefect server at {url} does not start; {log} ends with: {last.strip()}")
        time.sleep(_PAUSE_SECONDS)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5.0) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200 and answer.read() == b"true")
    except (urllib.error.URLError, OSError):
        return False
