"""A program in a fork is what a start makes of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs

SHOWN = """
import atexit, os, sys, warnings
atexit.register(print, "bye")
print(os.getcwd(), os.getpgrp() == os.getpid(), dict(os.environ) == {"ONE": "1"}, sys.argv[1:])
warnings.warn("of ours")
sys.exit(sys.argv[1])
"""
WAITS = "import os, threading; print(os.getpid(), flush=True); threading.Event().wait()"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the modules ``shown`` and ``waits``; nothing else is imported for programs."""
    (tmp_path / "shown.py").write_text(SHOWN)
    (tmp_path / "waits.py").write_text(WAITS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(programs, "_import_others", lambda **_: None)
    return tmp_path


def test_it_has_streams_folder_group_environment_and_end_of_its_own(here: Path) -> None:
    ended = programs.run(["python", "-m", "shown", "no good"], {"ONE": "1"}, cwd=here, start_new_session=True)
    assert ended.returncode == 1
    first, *rest = ended.stdout.splitlines()
    assert first == f"{here} True True ['no good']"
    assert rest == ["bye"]
    assert "UserWarning: of ours" in ended.stderr
    assert ended.stderr.endswith("no good\n")


def test_it_ends_with_its_group(here: Path) -> None:
    quiet = {"stdout": subprocess.PIPE, "text": True}
    with programs.start(["python", "-m", "waits"], {}, cwd=here, start_new_session=True, **quiet) as program:
        assert int(program.stdout.readline()) == program.pid
        os.killpg(program.pid, signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL


def test_python_that_dvc_starts_is_a_fork_too_and_other_commands_are_not(here: Path) -> None:
    for command, expected in (("python -m shown 1", "bye"), (f"exec {sys.executable} -c 'print(2)'", "2")):
        with programs._start_stage(["/bin/sh", "-c", command], env={"ONE": "1"}, stdout=subprocess.PIPE) as stage:
            assert stage.communicate()[0].decode().splitlines()[-1] == expected
