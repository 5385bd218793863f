"""A server that was started for a measurement: until it answers, and its end."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.errors import StageError

_SECONDS = 30.0  # that a server may take to end once it is asked to
_START = 120.0  # seconds to load a model beside other work


def wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once a server answers.

    Raises:
        StageError: it ended, or does not answer in time; the message is the end of its log.
    """
    end = time.monotonic() + _START
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > end:
            raise StageError(f"{url} does not answer:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def end(process: subprocess.Popen[bytes], *, seconds: float = _SECONDS) -> None:
    """Ask a process that leads a session of its own to end, and kill all of its session where it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
