"""Paths that start at a surface of a file start there, or the user is told."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from pipeline.files.surface_tables import write_surfaces
from tests.command import volvae
from vae.runtime import SurfaceModel


@pytest.fixture(scope="module")
def dated(root: Path) -> Path:
    return root / "examples/dated"


def started(dated: Path, folder: Path, iv: np.ndarray, model: SurfaceModel) -> tuple[int, str]:
    """Exit code and standard error of scenarios from this surface."""
    path = folder / "own.parquet"
    write_surfaces(path, [iv[None]], model.grid, count=1)
    found = volvae(
        "scenarios", "-n", "3", "--bundle", str(dated), "--from", str(path), "--date", "2001-09-12",
        "--log-return", "0.0", "-o", str(folder / "paths.parquet"),
    )  # fmt: skip
    return found.exit_code, found.stderr


def test_a_surface_that_the_model_cannot_make_is_said_or_refused(dated: Path, tmp_path: Path) -> None:
    """A law starts at the surface that the model makes of another one: of a bump at a tenor, nothing is left."""
    model = SurfaceModel.load(dated, provider="cpu")
    assert model.state.date == dt.date(2001, 9, 11)
    own = model.scenarios(n=1, seed=3).iv[0, 0]
    assert started(dated, tmp_path, own, model) == (0, "")
    bumped = own.copy()
    bumped[2] += 0.05
    for iv in (bumped, 2.0 * own):
        (tmp_path / "paths.parquet").unlink(missing_ok=True)
        code, told = started(dated, tmp_path, iv, model)
        assert code == 2
        assert "own.parquet has a surface that the model cannot make: at " in told
        assert not (tmp_path / "paths.parquet").exists()
    bumped[2] -= 0.04
    code, told = started(dated, tmp_path, bumped, model)
    assert code == 0
    assert told.startswith("warning: paths start at the surface that the model makes of ")
