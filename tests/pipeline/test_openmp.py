"""OpenMP says by itself, when torch loads it, how long its threads spin."""

import os
import re
import subprocess
import sys

import pytest

from pipeline import openmp

SPINS = openmp.BOUNDED["GOMP_SPINCOUNT"]
PROGRAMS = {
    "stage": "import contextlib\nfrom pipeline.__main__ import main\n"
    "with contextlib.suppress(SystemExit):\n    main(['train', '--help'])\nimport torch",
    "command": "from pipeline.cli.main import main; main(['doctor', '--help'], standalone_mode=False); import torch",
}


def spins(program: str, **environment: str) -> str:
    """The spin count that OpenMP reports in a new process."""
    kept = {name: value for name, value in os.environ.items() if name not in openmp.SETTINGS}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    counts = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", found.stderr)
    if not counts:
        pytest.skip("torch does not stand on GNU's OpenMP here")
    return counts[0]


@pytest.mark.slow
def test_threads_of_every_start_sleep_soon() -> None:
    assert spins("import torch") != SPINS  # else the test proves nothing
    assert {name: spins(program) for name, program in PROGRAMS.items()} == dict.fromkeys(PROGRAMS, SPINS)


@pytest.mark.slow
def test_a_setting_of_the_user_stays() -> None:
    assert spins(PROGRAMS["stage"], GOMP_SPINCOUNT="77") == "77"
    assert spins(PROGRAMS["stage"], OMP_WAIT_POLICY="ACTIVE") != SPINS


def test_the_tests_themselves_sleep_soon() -> None:
    assert any(name in os.environ for name in openmp.SETTINGS)
