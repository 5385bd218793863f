"""Seconds until something answers: the import of the runtime, a stage's help, and a server.

The import is measured in turns with that of numpy and onnxruntime alone, which it cannot do without, and a server with
two loads of its bundle one after the other: of the trial and of the worker.
"""

import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from functools import partial
from socket import create_server

from benchmarks.serving import BUNDLE
from benchmarks.turns import in_turns
from deploy.server import served

_ROUNDS = 7
_LOOK = 0.005  # seconds between two tries to get an answer
_SERVE = "from pipeline.cli.main import main; main()"


def results() -> dict[str, float]:
    """Medians of wall-clock seconds, and their ratios."""
    found = served.fingerprint(BUNDLE)
    seconds = in_turns(
        {
            "needed": partial(_run, "-c", "import numpy, onnxruntime"),
            "runtime": partial(_run, "-c", "import vae.runtime"),
            "help": partial(_run, "-m", "pipeline", "train", "--help"),
            "loads": lambda: [served.load(found, provider="cpu", threads=1) for _ in range(2)],
            "serve": _until_an_answer,
        },
        repeats=1,
        rounds=_ROUNDS,
    )
    return {
        "start_of_runtime_seconds": seconds["runtime"],
        "start_of_runtime_share_of_numpy_and_onnxruntime": seconds["needed"] / seconds["runtime"],
        "start_of_stage_help_seconds": seconds["help"],
        "start_of_server_seconds": seconds["serve"],
        "start_of_server_share_of_two_loads": seconds["loads"] / seconds["serve"],
    }


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _until_an_answer() -> None:
    """Start `volvae serve`, and end it when it has answered that it is ready."""
    with closing(create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        _SERVE,
        "serve",
        "--model",
        str(BUNDLE.absolute()),
        "--port",
        str(port),
        "--drain",
        "0",
    ]
    with tempfile.TemporaryFile() as lines, subprocess.Popen(command, stdout=lines, stderr=lines) as server:
        while not _is_ready(port):
            if server.poll() is not None:
                lines.seek(0)
                raise RuntimeError(f"the server ended: {lines.read().decode()}")
            time.sleep(_LOOK)
        server.send_signal(signal.SIGTERM)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=60.0):
            return True
    except urllib.error.URLError:
        return False
