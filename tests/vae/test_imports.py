"""The light modules load no heavy library."""

import subprocess
import sys
from pathlib import Path

import pytest

import vae

HEAVY = {"dvc", "mlflow", "onnx", "pandas", "prefect", "pydantic", "ruamel", "safetensors", "scipy", "sklearn", "torch"}
SURFACE = sorted(f"vae.surface.{path.stem}" for path in (Path(vae.__file__).parent / "surface").glob("[a-z]*.py"))


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (["vae.surface", *SURFACE], {*HEAVY, "onnxruntime"}),
        (["vae.bundle"], {*HEAVY, "onnxruntime"}),
        (["vae.sessions"], HEAVY),
        (["vae.runtime_inputs", "vae.quote_noise"], {*HEAVY, "onnxruntime"}),
        (["vae.runtime"], HEAVY),
    ],
)
def test_light_modules_load_no_heavy_library(modules: list[str], forbidden: set[str]) -> None:
    """Each module in turn; the first that loads a library is named."""
    assert loaded(modules, forbidden) == "{}\n"


@pytest.mark.slow
def test_a_heavy_library_is_found() -> None:
    assert loaded(["vae.bundle", "vae.pricing.black"], {"torch"}) == "{'torch': 'vae.pricing.black'}\n"


def loaded(modules: list[str], forbidden: set[str]) -> str:
    program = (
        "import importlib, sys\n"
        "found = {}\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        f"    found |= {{library: name for library in {forbidden} & set(sys.modules) - set(found)}}\n"
        "print(found)"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
