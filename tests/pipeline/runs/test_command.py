"""Children of a run: their lines and failures, and that none of them outlives whoever started it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StageError
from pipeline.runs import command
from pipeline.runs.command import CurableError
from tests.services import alive, wait_for

STARTER = """
import os, sys
from pathlib import Path
from pipeline.runs import command
hold = os.open("/dev/null", 0)
command.run(["stage"], folder=Path(sys.argv[1]), log=lambda line: print(line, flush=True), lock=hold)
"""
STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), grandchild.pid, flush=True)
grandchild.wait()
signal.pause()
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[str]]:
    """Run a program as the module ``stage`` in a folder; its lines."""

    def call(program: str, **options: float) -> list[str]:
        (tmp_path / "stage.py").write_text(textwrap.dedent(program))
        lines: list[str] = []
        with Path("/dev/null").open() as hold:
            command.run(["stage"], folder=tmp_path, log=lines.append, lock=hold.fileno(), **options)
        return lines

    return call


@pytest.fixture(autouse=True)
def importable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a run holds the code; here it is elsewhere."""
    monkeypatch.setenv("PYTHONPATH", str(root))


def test_lines_are_logged_but_for_hints_of_dvc(run: Callable[..., list[str]]) -> None:
    hints = "\n\nTo track the changes with git, run:\n\n\tgit add dvc.lock\n"
    assert run(f"print('one'); print({hints!r}); print('two')") == ["one", "two"]


def test_the_environment_names_the_store_unless_the_user_did(
    run: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import os; print(os.environ.get('MLFLOW_TRACKING_URI'))"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run(program, tracking_uri="sqlite:////x/mlflow.db") == ["sqlite:////x/mlflow.db"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert run(program, tracking_uri="sqlite:////x/mlflow.db") == ["http://server"]


@pytest.mark.parametrize(
    ("line", "curable"),
    [
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", True),
        ("register failed: the MLflow store http://x refused: Max retries exceeded with url", True),
        ("register failed: the MLflow store sqlite:////a b/mlflow.db refused: database is locked", True),
        ("register failed: the MLflow store http://x refused: Temporary failure in name resolution", True),
        ("register failed: the bundle of m version 3 cannot be read from http://x: too many 503 error responses", True),
        ("train failed: CUDA out of memory. Tried to allocate 2 GiB", True),
        ("train: train.epochs is 0; allowed: 1 and above", False),
        ("register failed: the MLflow store http://x refused: 401", False),
    ],
)
def test_only_what_a_retry_can_cure_is_curable(run: Callable[..., list[str]], line: str, *, curable: bool) -> None:
    with pytest.raises(StageError, match="stage ended with exit code 3: ") as caught:
        run(f"import sys; print({line!r}); print('ERROR: failed to reproduce'); sys.exit(3)")
    assert isinstance(caught.value, CurableError) is curable
    if not curable:
        assert str(caught.value).endswith(line)


def test_a_child_that_a_signal_ends_says_so(run: Callable[..., list[str]]) -> None:
    with pytest.raises(StageError, match="stage ended with exit code 137: before"):
        run("import os; print('before', flush=True); os.kill(os.getpid(), 9)")


def test_a_child_whose_time_is_over_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is over when it has named them, however long that takes."""
    (tmp_path / "stage.py").write_text(STUBBORN.replace("signal.SIG_IGN", "signal.SIG_DFL"))
    timers: list[threading.Timer] = []
    monkeypatch.setattr(threading.Timer, "start", lambda timer: timers.append(timer))  # noqa: PLW0108  a method
    with (
        Path("/dev/null").open() as hold,
        pytest.raises(StageError, match=r"stage was ended after 1 s: \d+ \d+") as caught,
    ):
        command.run(
            ["stage"], folder=tmp_path, log=lambda _: timers[0].function(), lock=hold.fileno(), seconds=1.0
        )  # fmt: skip
    processes = [int(word) for word in str(caught.value).split()[-2:]]
    wait_for(lambda: not any(map(alive, processes)), seconds=30, what="the end of the children")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_outlives_a_killed_run(tmp_path: Path, how: signal.Signals) -> None:
    """Even one that does not listen to SIGTERM."""
    (tmp_path / "stage.py").write_text(STUBBORN)
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as starter:
        processes = [int(word) for word in starter.stdout.readline().split()]
        assert all(map(alive, processes))
        os.kill(starter.pid, how)
    wait_for(lambda: not any(map(alive, processes)), seconds=60, what="the end of the children")
