import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECKS = Path(__file__).with_name("fake_cuda_checks.py")


@pytest.mark.slow
def test_device_code_leaves_no_tensor_on_the_cpu() -> None:
    """Training, evaluation, completion, pricing and the modules that are exported, without a GPU.

    Fake tensors have shapes, types and devices and no numbers, so that this finds what is on the wrong device, and
    nothing else.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", str(CHECKS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
