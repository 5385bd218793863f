"""What an application installs: the wheel with onnxruntime and the small dependencies, and nothing else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspace import Workspace

PROGRAM = """
import sys
from vae.runtime import SurfaceModel
model = SurfaceModel.load(sys.argv[1])
surfaces = model.sample(100, seed=7)
model.complete(surfaces[0])
print(surfaces.shape, float(model.score(surfaces).nats.min()) > 0.0)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the wheel and its extra cpu."""
    root, folder = Path(__file__).parents[2], tmp_path_factory.mktemp("application")
    source = folder / "source"
    for name in ("vae", "pipeline", "deploy"):
        shutil.copytree(root / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "Could not find a version" in built.stderr:
        pytest.skip("no package index can be reached, from which to install")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("volvae-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env/bin/python"
    lock = str(root / "requirements.lock")
    command = [str(python), "-m", "pip", "install", "--quiet", "--constraint", lock, f"{wheel}[cpu]"]
    subprocess.run(command, check=True)
    return python


@pytest.mark.slow
def test_an_application_installs_little_and_samples(python: Path, finished: Workspace, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True, env=environment)
    installed = set(re.findall(r"^([\w.-]+) +\d", listed.stdout, re.MULTILINE))
    assert {"click", "numpy", "onnxruntime", "pyarrow", "volvae"} <= installed
    assert not installed & {"torch", "onnx", "mlflow", "dvc", "prefect", "pydantic", "pandas", "scipy"}

    bundle = str(finished.folder / "artifacts/bundle")
    command = [python, "-c", PROGRAM, bundle]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert result.stdout == "(100, 3, 9) True\n"
    volvae = [python.parent / "volvae", "sample", "-n", "10", "-o", "s.parquet", "--bundle", bundle]
    subprocess.run(volvae, capture_output=True, check=True, env=environment, cwd=tmp_path)
    assert (tmp_path / "s.parquet").exists()
