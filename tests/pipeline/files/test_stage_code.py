"""A stage that was killed goes on only with the code that began: on copies of the packages, which the tests change."""

import importlib
import itertools
import os
import shutil
import signal
from pathlib import Path

import pytest

from pipeline import train
from tests.forks import forked, import_from
from tests.workspace import PATHS, Workspace, write_tiny_params

pytestmark = pytest.mark.slow

SMALL = {"prepare__surfaces": {"train": 32, "validation": 8, "test": 8}, "prepare__surfaces_per_shard": 8,
         "train__prior": {"components": [1], "flow_layers": 0, "surfaces": 256}}  # fmt: skip

WRITES = {"prepare": ("formats", "write_bytes"), "train": ("tensor_files", "write_tensors")}  # a shard, a checkpoint


@pytest.fixture
def small(root: Path, prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The current folder, with settings of little work and surfaces to train on."""
    write_tiny_params(root, tmp_path)
    Workspace(tmp_path).set(**SMALL)
    shutil.copytree(prepared.folder / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def code(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages."""
    importlib.import_module("torch._dynamo")  # as an optimiser does at its first step, for seconds: forks need not
    folder = tmp_path_factory.mktemp("code")
    for package in ("pipeline", "vae"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(code: Path, folder: Path, stage: str, *, killed: bool = False) -> str:
    """Run a stage of these packages, killed after its second checkpoint or shard; what it prints."""
    arguments = [part for name, path in PATHS[stage].items() for part in (f"--{name}", path)]

    def work() -> int:
        import_from(code)
        if killed:
            kill_at_second_write(*WRITES[stage])
        return importlib.import_module("pipeline.__main__").main([stage, *arguments])

    ended = forked(work, folder)
    assert ended.code == (-signal.SIGKILL if killed else 0), ended.said
    return ended.said


def kill_at_second_write(module: str, name: str) -> None:
    """Let this process end after a function has written for the second time."""
    files = importlib.import_module(f"pipeline.files.{module}")
    write, numbers = getattr(files, name), itertools.count(1)

    def killed(*arguments: object) -> None:
        write(*arguments)
        if next(numbers) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(files, name, killed)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_starts_anew_with_other_code(small: Workspace, code: Path) -> None:
    """Its bytes are those of a run that the new code did alone."""
    folder = small.folder
    run(code, folder, "train", killed=True)
    assert train.CHECKPOINT.exists()
    replace(code / "vae/training/soap.py", "_FACTOR_DECAY = 0.95, 0.98, 0.95", "_FACTOR_DECAY = 0.90, 0.98, 0.95")

    assert "resumed" not in run(code, folder, "train")

    after_a_kill = content(folder / "artifacts/model")
    shutil.rmtree(folder / "artifacts")
    run(code, folder, "train")
    assert content(folder / "artifacts/model") == after_a_kill


def test_shards_are_made_anew_with_other_code(small: Workspace, code: Path) -> None:
    folder = small.folder
    run(code, folder, "prepare", killed=True)
    assert len(list(Path(".checkpoints/prepare").glob("*/*-*.safetensors"))) == 2
    replace(code / "pipeline/sources/simulation.py", "/ BASIS_POINTS * noise", "/ BASIS_POINTS * noise * 2")

    assert "resumed" not in run(code, folder, "prepare")

    after_a_kill = content(folder / "data/surfaces")
    shutil.rmtree(folder / "data")
    run(code, folder, "prepare")
    assert content(folder / "data/surfaces") == after_a_kill


@pytest.mark.parametrize(
    ("stage", "file", "resumed"),
    [
        ("train", "vae/model/elbo.py", ""),
        ("train", "pipeline/register.py", "resumed after epoch 2"),
        ("prepare", "vae/surface/units.py", ""),
        ("prepare", "pipeline/train.py", "resumed with 2 of 6 shards"),
    ],
)
def test_a_comment_in_code_that_the_stage_imports_counts(
    small: Workspace, code: Path, stage: str, file: str, resumed: str
) -> None:
    """The list in dvc.yaml decides, as it does for DVC itself; other code of the project does not."""
    folder = small.folder
    run(code, folder, stage, killed=True)
    with (code / file).open("a") as stream:
        stream.write("# a comment\n")

    printed = run(code, folder, stage)

    assert resumed in printed
    assert ("resumed" in printed) == bool(resumed)
