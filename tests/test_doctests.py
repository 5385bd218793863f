"""The examples in the docstrings of vae run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_A_BUNDLE = ("vae.runtime", "vae.surface_model")  # their examples read artifacts/bundle
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "vae").rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def run(module: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted
    assert not failed


@pytest.mark.parametrize("module", [name for name in MODULES if name not in OF_A_BUNDLE])
def test_examples_run(module: str) -> None:
    run(module)


@pytest.mark.parametrize("module", OF_A_BUNDLE)
def test_examples_of_a_bundle_run(
    module: str, linear_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/bundle").symlink_to(linear_bundle)
    monkeypatch.chdir(tmp_path)
    run(module)
