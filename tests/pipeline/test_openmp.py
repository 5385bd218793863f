"""OpenMP says by itself, when torch loads it, how long its threads spin; OpenBLAS is asked for its threads."""

import os
import re
import subprocess
import sys

import pytest

from pipeline import openmp

SPINS = openmp.BOUNDED["GOMP_SPINCOUNT"]
LOAD = (  # what torch does when it is imported, in a hundredth of the time
    "\nimport ctypes, importlib.util, pathlib"
    "\nfor each in pathlib.Path(importlib.util.find_spec('torch').origin).parent.glob('lib/libgomp*'):"
    "\n    ctypes.CDLL(str(each))"
)
STAGE = (
    "import contextlib\nfrom pipeline.__main__ import main\n"
    "with contextlib.suppress(SystemExit):\n    main(['train', '--help'])"
)
COMMAND = "from pipeline.cli.main import main\nmain(['doctor', '--help'], standalone_mode=False)"


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
    assert spins(LOAD) != SPINS  # else the test proves nothing
    assert spins(f"{STAGE}\nimport torch") == SPINS
    assert spins(COMMAND + LOAD) == SPINS


@pytest.mark.slow
def test_a_setting_of_the_user_stays() -> None:
    assert spins(STAGE + LOAD, GOMP_SPINCOUNT="77") == "77"
    assert spins(STAGE + LOAD, OMP_WAIT_POLICY="ACTIVE") != SPINS


@pytest.mark.parametrize(
    "start", ["import pipeline.__main__", "from pipeline.cli.main import main; main(['doctor', '--help'])"]
)
def test_numpy_is_loaded_after_its_setting(start: str) -> None:
    """OpenBLAS reads it when numpy is imported."""
    program = (
        "import sys\nfrom pipeline import openmp\nbound = openmp.bound_threads\n"
        "def watched():\n    print('numpy' in sys.modules)\n    bound()\n"
        f"openmp.bound_threads = watched\n{start}"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[0] == "False"


def test_numpy_multiplies_with_one_thread() -> None:
    program = (
        "import pipeline.__main__\nfrom threadpoolctl import threadpool_info\n"
        "print(*(found['num_threads'] for found in threadpool_info() if found['internal_api'] == 'openblas'))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in openmp.SETTINGS}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    if not found.stdout.strip():
        pytest.skip("numpy does not stand on OpenBLAS here")
    assert found.stdout.split() == ["1"]


def test_each_library_is_left_to_the_user_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in openmp.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "10")
    openmp.bound_threads()
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert os.environ["GOMP_SPINCOUNT"] == SPINS


def test_the_tests_themselves_sleep_soon() -> None:
    assert any(name in os.environ for name in openmp.SETTINGS)
