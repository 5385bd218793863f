"""The source heston_paths in the stages: days of one path, and how far a law of motion is from their exact law."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.files import formats
from pipeline.files.dataset import SPLITS, Dataset, PathLaw
from pipeline.sources.heston_paths import priced
from tests.workspace import Workspace

_PATH = {"v0": 0.04, "kappa": 4.0, "theta": 0.04, "vol_of_vol": 0.3, "rho": -0.7}
_GRID = {"convention": "log_moneyness", "tenors_days": [60, 180], "nodes": [-0.1, 0.0, 0.1]}


def _set(workspace: Workspace, **prepare: object) -> None:
    """Settings of a short path and a small model of it."""
    path = workspace.folder / "params.yaml"
    settings = YAML(typ="safe").load(path)
    settings["prepare"] |= {"source": "heston_paths", "heston": None, "heston_paths": _PATH, "grid": _GRID}
    settings["prepare"] |= {"surfaces": {"train": 150, "validation": 20, "test": 30}, "quote_noise_bp": 1.0} | prepare
    model = {"latents": 1, "basis": 6, "width": 8, "depth": 1, "transform": "log", "residual_factors": 5}
    settings["train"] |= {"model": model, "scaffold_latents": 0, "hidden_share": 0.0, "batch": 50}
    settings["train"] |= {"dynamics": {"underlying": "spot"}}
    settings["train"]["prior"] = {"components": [1], "flow_layers": 0, "surfaces": 150}
    settings["evaluate"]["completion_points"] = [2]
    YAML().dump(settings, path)


def test_days_are_those_of_one_path(workspace: Workspace) -> None:
    _set(workspace, surfaces={"train": 30, "validation": 5, "test": 10})
    assert workspace.run("prepare") == 0
    data = Dataset(Path("data/surfaces"))
    assert data.law is None
    assert data.path == PathLaw(4.0, 0.04, 0.3, -0.7, data.path.vol_tolerance if data.path else 0.0)
    dates, numbers = [data.date(split) for split in SPLITS], [data.conditions(split) for split in SPLITS]
    assert [len(each) for each in dates if each is not None] == [30, 5, 10]
    assert (np.diff(np.concatenate([each for each in dates if each is not None])) == 1).all()
    variance, spot = (np.concatenate([each[name] for each in numbers]) for name in ("variance", "spot"))
    assert variance[0] == 0.04
    assert spot[0] == 1.0
    assert np.corrcoef(np.diff(variance), np.diff(np.log(spot)))[0, 1] < -0.4
    iv = np.concatenate([data.arrays(split)["iv"] for split in SPLITS])
    assert data.path is not None
    errors = iv - priced(data.path, variance, data.grid)
    assert errors.std() == pytest.approx(1e-4, rel=0.2)
    before = [data.file(split).read_bytes() for split in SPLITS]
    assert workspace.run("prepare") == 0
    assert [data.file(split).read_bytes() for split in SPLITS] == before


def test_vols_that_cannot_be_computed_are_refused(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    _set(workspace, grid=_GRID | {"tenors_days": [2, 180], "nodes": [-0.9, 0.0, 0.9]})
    assert workspace.run("prepare") == 1
    assert "200 of 200 days have vols that cannot be computed to prepare.vol_tolerance" in capsys.readouterr().err


@pytest.mark.slow
def test_distance_to_the_exact_law_is_measured(workspace: Workspace) -> None:
    _set(workspace)
    for stage in ("prepare", "train", "evaluate"):
        assert workspace.run(stage) == 0, stage
    figures = formats.read_json(Path("results/evaluate.json"))
    for name in ("scenario", "fhs"):
        assert -0.1 < figures[f"{name}_gap_to_exact_nats"] < 1.0
        for side in ("bought", "sold"):
            assert 0.4 < figures[f"{name}_straddle_{side}_var_99_to_exact"] < 2.0
