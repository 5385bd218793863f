"""Records that tests register."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.files import formats
from pipeline.registry import attestation, registry
from pipeline.registry.mlflow_store import RunRecord
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


def provenance(bundle: Path) -> str:
    """A statement that somebody made these files."""
    files = {path.name: formats.sha256(path.read_bytes()) for path in bundle.iterdir()}
    code = {"commit": "none", "remote": "none"}
    made = attestation.provenance(builder="me@here", code=code, settings={}, inputs={}, texts={}, files=files)
    return json.dumps(made, indent=2, sort_keys=True)


def record(bundle: Path, content: str) -> RunRecord:
    return RunRecord(
        content=content, parameters={"train.seed": 7}, metrics={"evaluate/elbo_nats": 1.0},
        tags={"git.commit": "none", **registry.manifest_tag(bundle)}, datasets={"data/surfaces": "0" * 32 + ".dir"},
        artifacts={bundle: registry.BUNDLE}, decoder=bundle / DECODER,
        texts={"lineage/params.yaml": "text", f"lineage/{attestation.PROVENANCE}": provenance(bundle)},
    )  # fmt: skip
