"""Commands of a run as children: their lines told, ended with whoever started them or when their time is over."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import StageError
from pipeline.runs.supervise import GRACE_SECONDS

_CURABLE = re.compile(
    r"unable to acquire lock|is busy, it is being|the MLflow store \S+ refused: .*(max retries|timed out|locked)|"
    r"connection (reset|refused|aborted)|CUDA out of memory",
    re.IGNORECASE,
)
_HINTS = re.compile(r"To track the changes|\s+git add|To enable auto staging|\s+dvc config|Use `dvc push`")
_REMEMBERED = 20  # last lines, among which a reason is looked for


class CurableError(StageError):
    """A failure that may not come again: a lock, a server that is away, memory that others took."""


def run(
    module: Sequence[str],
    *,
    folder: Path,
    tell: Callable[[str], None],
    hold: int,
    seconds: float | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Run ``python -m module ...`` in a folder, with a process group of its own; its last line.

    Args:
        module: name and arguments.
        folder: where to run.
        tell: called with each line of output.
        hold: descriptor of a lock, which the child holds as long as it lives.
        seconds: how long it may take.
        tracking_uri: the MLflow store where the environment names none.

    Raises:
        StageError: it ended with another exit code than 0, or its time was over; CurableError where it may not again.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.runs.supervise", sys.executable, "-m", *module],
        cwd=folder,
        stdin=subprocess.PIPE,  # its end, at our own in whatever way, ends the child
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(tracking_uri),
        pass_fds=(hold,),
        start_new_session=True,
    )
    late = threading.Event()

    def end_late() -> None:
        late.set()
        _close(process)

    timer = threading.Timer(seconds or 0.0, end_late)
    if seconds is not None:
        timer.start()
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            text = line.rstrip()
            if text and not _HINTS.match(text):  # DVC's for people who run it by hand
                lines = [*lines, text][-_REMEMBERED:]
                tell(text)
        code = process.wait()
    finally:
        timer.cancel()
        _end(process)
    name, last = " ".join(module), lines[-1] if lines else "it said nothing"
    if late.is_set():
        raise StageError(f"{name} was ended after {seconds:g} s: {last}")
    if code:
        curable = any(_CURABLE.search(line) for line in lines)
        raise (CurableError if curable else StageError)(f"{name} ended with exit code {code}: {_reason(lines)}")
    return last


def _reason(lines: Sequence[str]) -> str:
    """The line of a stage that says why, before DVC's own."""
    said = [line for line in lines if re.match(r"\w+( failed)?: ", line) and not line.startswith("ERROR: failed to")]
    return said[-1] if said else lines[-1] if lines else "it said nothing"


def _environment(tracking_uri: str | None) -> dict[str, str]:
    """This environment, with the running Python first on the path: the commands of dvc.yaml say ``python``."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    own = {} if tracking_uri is None else {"MLFLOW_TRACKING_URI": tracking_uri}
    return {**own, **os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Let the supervisor end its group; end it here if it does not."""
    _close(process)
    try:
        process.wait(2.0 * GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
