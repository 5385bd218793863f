"""A small but complete run of the pure parts of the stages, shared by the tests of the pipeline."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from pipeline import __main__ as stages
from pipeline.settings.params import Params, read_params
from tests.shared import built_once

TINY: dict[str, Any] = {
    "prepare.surfaces": {"train": 256, "validation": 64, "test": 64},
    "prepare.surfaces_per_shard": 64,
    "prepare.workers": 1,
    "prepare.grid.tenors_days": [26, 182, 364],
    "prepare.grid.nodes": {"start": -0.4, "stop": 0.3, "count": 9},
    "train.model": {"latents": 3, "basis": 12, "width": 16, "depth": 1, "scale": "shared", "scale_floor": 1.0e-6},
    "train.prior": {"components": [1, 4], "surfaces": 256},
    "train.epochs": 4,
    "train.arbitrage": {"epochs": 0},
    "train.batch": 32,
    "train.checkpoint_epochs": 1,
    "train.device": "cpu",
    "evaluate.importance_samples": [1, 4],
    "evaluate.prior_samples": 100,
    "evaluate.completion_points": [5, 10],
    "evaluate.completion_surfaces": 20,
    "export.parity_samples": 200,
    "register.gate.coverage_90": {"low": 0.5, "high": 1.0},
    "register.gate.opponent_ratio": 0.01,
    "register.gate.arbitrage_rate": 0.05,
}

PATHS = {
    "prepare": {"surfaces": "data/surfaces", "metrics": "results/prepare.json"},
    "train": {
        "surfaces": "data/surfaces",
        "model": "artifacts/model",
        "metrics": "results/train.json",
        "curve": "results/plots/training.csv",
    },
    "evaluate": {
        "surfaces": "data/surfaces",
        "model": "artifacts/model",
        "curve": "results/plots/training.csv",
        "metrics": "results/evaluate.json",
        "headlines": "results/metrics/headlines.json",
        "plots": "results/plots/evaluate",
        "page": "results/evaluate.html",
    },
    "export": {
        "surfaces": "data/surfaces",
        "model": "artifacts/model",
        "bundle": "artifacts/bundle",
        "metrics": "results/export.json",
    },
}


class Workspace(NamedTuple):
    """A folder with a params.yaml, in which stages run."""

    folder: Path

    def set(self, **values: Any) -> None:
        """Change settings; a double underscore stands for the dot, None deletes the key."""
        path = self.folder / "params.yaml"
        settings = YAML(typ="safe").load(path)
        for key, value in values.items():
            put(settings, key.replace("__", "."), value)
        YAML().dump(settings, path)

    def params(self) -> Params:
        return read_params(self.folder / "params.yaml")

    def run(self, stage: str) -> int:
        """The exit code of a stage with its paths; the current folder must be the workspace."""
        arguments = [part for name, path in PATHS[stage].items() for part in (f"--{name}", path)]
        return stages.main([stage, *arguments])


def put(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings[parent]
    if value is None:
        del settings[last]
    else:
        settings[last] = value


def write_tiny_params(root: Path, folder: Path) -> None:
    settings = YAML(typ="safe").load(root / "params.yaml")
    for key, value in TINY.items():
        put(settings, key, value)
    YAML().dump(settings, folder / "params.yaml")


@pytest.fixture
def workspace(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty folder with tiny settings, made the current one."""
    write_tiny_params(root, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


def run_stages(folder: Path, *stages: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in stages:
            assert Workspace(folder).run(stage) == 0, stage


@pytest.fixture(scope="session")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """prepare, run once for all workers; tests must not change it."""

    def build(folder: Path) -> None:
        write_tiny_params(root, folder)
        run_stages(folder, "prepare")

    return Workspace(built_once(tmp_path_factory, "prepared", build))


@pytest.fixture(scope="session")
def finished(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """train, evaluate and export after it, run once for all workers; tests must not change it."""

    def build(folder: Path) -> None:
        shutil.copytree(prepared.folder, folder, dirs_exist_ok=True)
        run_stages(folder, "train", "evaluate", "export")

    return Workspace(built_once(tmp_path_factory, "finished", build))


@pytest.fixture
def in_prepared(prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared run, of symbolic links, made the current folder."""
    monkeypatch.chdir(tmp_path)
    return linked(prepared.folder, tmp_path)


@pytest.fixture
def in_finished(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The same of the finished run, without one path that the test supplies."""

    def enter(without: str) -> Path:
        monkeypatch.chdir(tmp_path)
        return linked(finished.folder, tmp_path, without)

    return enter


def linked(source: Path, folder: Path, *without: str) -> Path:
    """The folder with symbolic links to the files of another one, but for those whose paths begin so."""
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if path.is_file() and not str(relative).startswith(without):
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).symlink_to(path)
    return folder
