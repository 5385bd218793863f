"""Fixtures of all tests: telemetry off, torch's global state guarded, GPU tests skipped without a GPU."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline import telemetry
from tests.workspace import finished, in_finished, workspace  # noqa: F401  fixtures of every folder

telemetry.switch_off()
# A shell starts what runs in the background deaf to it, and so would be what tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first; tests marked gpu are skipped, with the reason, where torch finds no CUDA device."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))


@pytest.fixture(autouse=True)
def _torch_state_stays() -> Iterator[None]:
    """Fail a test that leaves torch's global settings changed, and give each the same random numbers."""
    torch.manual_seed(0)
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    yield
    assert before == (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def reference() -> Path:
    return ROOT / "tests" / "reference"


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the packages of the lock installed."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("node and npm are not installed")
    scripts = ROOT / "tests/javascript"
    if not (scripts / "node_modules/onnxruntime-web").exists():
        subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=scripts, check=True)
    return program
