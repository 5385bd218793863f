"""The end of a server that was started for a measurement."""

import os
import signal
import subprocess

_SECONDS = 30.0  # that a server may take to end once it is asked to


def end(process: subprocess.Popen[bytes], *, seconds: float = _SECONDS) -> None:
    """Ask a process that leads a session of its own to end, and kill all of its session where it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
