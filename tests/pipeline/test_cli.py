import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from tests.workspace import Workspace
from vae.runtime import SurfaceModel


def volvae(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture
def bundle(finished: Workspace) -> str:
    return str(finished.folder / "artifacts/bundle")


def test_sample_writes_one_row_a_point(bundle: str, tmp_path: Path) -> None:
    path = tmp_path / "surfaces.parquet"
    result = volvae("sample", "-n", "20", "--seed", "7", "-o", str(path), "--bundle", bundle, "--provider", "cpu")

    assert result.exit_code == 0, result.output
    model = SurfaceModel.load(bundle, provider="cpu")
    table = pq.read_table(path)
    assert table.column_names == ["surface", "tenor_years", "log_moneyness", "iv"]
    np.testing.assert_array_equal(table["iv"].to_numpy(), model.sample(20, seed=7).ravel())
    np.testing.assert_array_equal(table["surface"].to_numpy()[:: 3 * 9], np.arange(20))
    np.testing.assert_array_equal(table["log_moneyness"].to_numpy()[:27], model.grid.log_moneyness.ravel())
    np.testing.assert_array_equal(table["tenor_years"].to_numpy()[:27:9], model.grid.tenors)


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_the_same_seed_gives_the_same_file(bundle: str, tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        path = str(tmp_path / f"{name}.{ending}")
        assert volvae("sample", "-n", "5000", "--seed", "7", "-o", path, "--bundle", bundle).exit_code == 0
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_sample_as_npy_is_the_array(bundle: str, tmp_path: Path) -> None:
    path = tmp_path / "surfaces.npy"
    result = volvae("sample", "-n", "5000", "--seed", "3", "-o", str(path), "--bundle", bundle, "--json")

    model = SurfaceModel.load(bundle)
    np.testing.assert_array_equal(np.load(path), model.sample(5000, seed=3))
    assert json.loads(result.stdout) == {
        "path": str(path), "surfaces": 5000, "seed": 3, "provider": model.provider,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0", "-o", "a.npy"), "Invalid value for '-n': 0 is not in the range"),
        (("--seed", "-1", "-o", "a.npy"), "Invalid value for '--seed': -1 is not in the range"),
        (("-o", "a.csv"), "volvae: a.csv must end in .parquet or .npy"),
        (("-o", "a.npy", "--bundle", "nowhere"), "volvae: nowhere is not a bundle: nowhere/manifest.json cannot"),
        (("-o", "/dev/null/a.npy"), "volvae: /dev/null/a.npy cannot be written: Not a directory"),
        ((), "Missing option '-o'"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_code_2(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "artifacts").symlink_to(finished.folder / "artifacts")
    monkeypatch.chdir(tmp_path)
    result = volvae("sample", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["artifacts"]


def test_every_command_has_help_with_an_example() -> None:
    for path in (("sample",), ("report",), ("flow", "run")):
        result = volvae(*path, "--help")
        assert result.exit_code == 0
        assert f"Example: volvae {' '.join(path)}" in result.stdout


def test_report_before_a_run_says_what_to_do(tmp_path: Path) -> None:
    result = volvae("report", "--results", str(tmp_path))
    assert result.exit_code == 2
    assert (
        "prepare.json cannot be read (No such file or directory); `make run` or `dvc repro` makes it" in result.stderr
    )


def test_a_command_beyond_the_installed_extras_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.flow", None)
    result = volvae("flow", "run")
    assert result.exit_code == 2
    assert "pip install 'volvae[pipeline,schedule]' has what this command needs" in result.stderr
