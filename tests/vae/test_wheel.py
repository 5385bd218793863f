"""The packages that an application installs: the wheel, onnxruntime and the small dependencies, and nothing else."""

import json
import os
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
    uv = [sys.executable, "-m", "uv", "--quiet"]
    command = [*uv, "build", "--wheel", "--out-dir", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "error sending request" in built.stderr:
        pytest.skip("no package index can be reached, from which to install")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("volvae-*.whl")
    python = folder / "env/bin/python"
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder / "env")], check=True)
    lock = str(root / "requirements.lock")
    command = [*uv, "pip", "install", "--python", str(python), "--constraint", lock, f"{wheel}[cpu]"]
    subprocess.run(command, check=True)
    return python


@pytest.mark.slow
def test_an_application_installs_little_and_samples(python: Path, finished: Workspace, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "uv", "pip", "list", "--python", str(python), "--format", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    installed = {package["name"] for package in json.loads(listed.stdout)}
    assert {"click", "numpy", "onnxruntime", "pyarrow", "volvae"} <= installed
    assert not installed & {"torch", "onnx", "mlflow", "dvc", "prefect", "pydantic", "pandas", "scipy"}

    bundle = str(finished.folder / "artifacts/bundle")
    command = [python, "-c", PROGRAM, bundle]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert result.stdout == "(100, 3, 9) True\n"
    volvae = [python.parent / "volvae", "sample", "-n", "10", "-o", "s.parquet", "--bundle", bundle]
    subprocess.run(volvae, capture_output=True, check=True, env=environment, cwd=tmp_path)
    assert (tmp_path / "s.parquet").exists()
