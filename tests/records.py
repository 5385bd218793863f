"""Records that tests register."""

import shutil
from pathlib import Path

import pytest

from pipeline.registry import registry
from pipeline.registry.mlflow_store import Record
from tests.shared import built_once
from tests.workspace import Workspace
from vae.bundle import DECODER


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of an embedded store without versions, to be copied: MLflow takes seconds to make one."""

    def build(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            with registry.opened(model="volvae", experiment="volvae"):
                pass

    return built_once(tmp_path_factory, "empty_store", build) / "mlflow.db"


@pytest.fixture
def own_registry(workspace: Workspace, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty registry, which is the current one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, workspace.folder)
    return workspace.folder


def record(bundle: Path, content: str) -> Record:
    return Record(
        content=content, parameters={"train.seed": 7}, metrics={"evaluate/elbo_nats": 1.0},
        tags={"git.commit": "none", **registry.manifest_tag(bundle)}, datasets={"data/surfaces": "0" * 32 + ".dir"},
        artifacts={bundle: registry.BUNDLE}, texts={"lineage/params.yaml": "text"}, decoder=bundle / DECODER,
    )  # fmt: skip
