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
from tests.workspace import PATHS, Workspace

pytestmark = pytest.mark.slow

WRITES = {"prepare": ("formats", "write_bytes"), "train": ("tensor_files", "write_tensors")}  # a shard, a checkpoint


@pytest.fixture
def code(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages."""
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


def test_training_starts_anew_with_other_code(in_finished, code: Path) -> None:
    """Its bytes are those of a run that the new code did alone."""
    folder = in_finished("artifacts")
    run(code, folder, "train", killed=True)
    assert train.CHECKPOINT.exists()
    replace(code / "vae/training/soap.py", "_FACTOR_DECAY = 0.95, 0.98, 0.95", "_FACTOR_DECAY = 0.90, 0.98, 0.95")

    assert "resumed" not in run(code, folder, "train")

    after_a_kill = content(folder / "artifacts/model")
    shutil.rmtree(folder / "artifacts")
    run(code, folder, "train")
    assert content(folder / "artifacts/model") == after_a_kill


def test_shards_are_made_anew_with_other_code(workspace: Workspace, code: Path) -> None:
    run(code, workspace.folder, "prepare", killed=True)
    assert len(list(Path(".checkpoints/prepare").glob("*/*-*.safetensors"))) == 2
    replace(code / "pipeline/sources/simulation.py", "/ BASIS_POINTS * noise", "/ BASIS_POINTS * noise * 2")

    assert "resumed" not in run(code, workspace.folder, "prepare")

    after_a_kill = content(workspace.folder / "data/surfaces")
    shutil.rmtree(workspace.folder / "data")
    run(code, workspace.folder, "prepare")
    assert content(workspace.folder / "data/surfaces") == after_a_kill


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
    in_finished, code: Path, stage: str, file: str, resumed: str
) -> None:
    """The list in dvc.yaml decides, as it does for DVC itself; other code of the project does not."""
    folder = in_finished("artifacts" if stage == "train" else "data")
    run(code, folder, stage, killed=True)
    with (code / file).open("a") as stream:
        stream.write("# a comment\n")

    printed = run(code, folder, stage)

    assert resumed in printed
    assert ("resumed" in printed) == bool(resumed)
