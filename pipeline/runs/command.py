"""Commands of a run as child processes, which end with the process that started them or at a time limit."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import tracing
from pipeline.errors import StageError
from pipeline.runs.supervise import GRACE_SECONDS

_CURABLE = re.compile(
    r"unable to acquire lock|is busy, it is being|"
    r"(the MLflow store .+ refused|cannot be read from .+): "
    r".*(max retries|timed out|locked|too many 5\d\d|name resolution|failed to resolve)|"
    r"connection (reset|refused|aborted)|CUDA out of memory",
    re.IGNORECASE,
)
_HINTS = re.compile(r"To track the changes|\s+git add|To enable auto staging|\s+dvc config|Use `dvc push`")
_NO_OUTPUT = "it printed nothing"
_KEPT_LINES = 20  # the last lines, in which the reason of a failure is looked for


class CurableError(StageError):
    """A failure that a retry may cure: a lock, an unreachable server, GPU memory that others use."""


def run(
    module: Sequence[str],
    *,
    folder: Path,
    log: Callable[[str], None],
    lock: int,
    seconds: float | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Run ``python -m module ...`` in a folder and in a process group of its own; its last line of output.

    Args:
        module: name and arguments.
        folder: working directory.
        log: called with each line of output.
        lock: descriptor of a lock; the child holds the lock as long as it lives.
        seconds: how long the command may take; None for no limit.
        tracking_uri: the MLflow store if the environment names none.

    Raises:
        CurableError: the command failed, and a retry may succeed.
        StageError: the command failed, or took longer than ``seconds``.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.runs.supervise", sys.executable, "-m", *module],
        cwd=folder,
        stdin=subprocess.PIPE,  # it closes when this process ends, in whatever way; that ends the child
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(tracking_uri),
        pass_fds=(lock,),
        start_new_session=True,
    )
    timed_out = threading.Event()

    def end_at_limit() -> None:
        timed_out.set()
        _close(process)

    timer = threading.Timer(seconds or 0.0, end_at_limit)
    if seconds is not None:
        timer.start()
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            text = line.rstrip()
            if text and not _HINTS.match(text):  # hints of DVC to people who run it by hand
                lines = [*lines, text][-_KEPT_LINES:]
                log(text)
        code = process.wait()
    finally:
        timer.cancel()
        _end(process)
    name, last = " ".join(module), lines[-1] if lines else _NO_OUTPUT
    if timed_out.is_set():
        raise StageError(f"{name} was ended after {seconds:g} s: {last}")
    if code:
        curable = any(_CURABLE.search(line) for line in lines)
        raise (CurableError if curable else StageError)(f"{name} ended with exit code {code}: {_reason(lines)}")
    return last


def _reason(lines: Sequence[str]) -> str:
    """The error line of a stage if there is one, else the last line, which is DVC's."""
    errors = [line for line in lines if re.match(r"\w+( failed)?: ", line) and not line.startswith("ERROR: failed to")]
    return errors[-1] if errors else lines[-1] if lines else _NO_OUTPUT


def _environment(tracking_uri: str | None) -> dict[str, str]:
    """This environment, with the running Python first on the path, as the commands of dvc.yaml call ``python``."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    store = {} if tracking_uri is None else {"MLFLOW_TRACKING_URI": tracking_uri}
    return {**store, **os.environ, **tracing.handed_on(), "PATH": path, "PYTHONUNBUFFERED": "1"}


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Let the supervisor end its process group; kill the group if it does not."""
    _close(process)
    try:
        process.wait(2.0 * GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
