"""The stages prepare, train, evaluate and export, run for real on a tiny design."""

import errno
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline import prepare, train
from pipeline.errors import InputError
from pipeline.files import formats, surface_tables, tensor_files, trained_model
from pipeline.files.atomic import new_file, new_folder
from pipeline.files.dataset import SPLITS, Dataset
from tests.workspace import PATHS, Workspace, write_tiny_params
from vae import bundle
from vae.bundle import GRAPHS
from vae.graphs import export
from vae.pricing import heston, heston_surfaces
from vae.runtime import SurfaceModel
from vae.training.soap import Soap


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_prepared_surfaces_are_exact_plus_noise_of_the_stated_size(prepared: Workspace) -> None:
    data = prepared.folder / "data/surfaces"
    split = tensor_files.read_tensors(Dataset(data).file("train")).tensors
    exact = heston_surfaces.surfaces(split["parameters"], Dataset(data).grid).vol

    assert torch.equal(split["clean"], exact.float())
    noise = (split["iv"].double() - exact) * 1e4
    assert noise.std().item() == pytest.approx(1.0, abs=5 / math.sqrt(2 * noise.numel()))
    assert abs(noise.mean().item()) <= 5 / math.sqrt(noise.numel())


def test_splits_are_disjoint_and_inside_the_box(prepared: Workspace) -> None:
    parameters = [Dataset(prepared.folder / "data/surfaces").arrays(split)["parameters"] for split in SPLITS]
    together = np.concatenate(parameters)
    assert len(np.unique(together, axis=0)) == len(together) == 384
    box = prepared.params().prepare.heston
    for name, values in zip(heston.PARAMETERS, together.T, strict=True):
        side = getattr(box, name)
        assert side.low <= values.min() <= values.max() <= side.high


def test_rejected_surfaces_are_counted_by_reason(workspace: Workspace) -> None:
    """Nodes so far out that some prices are too small for an accurate vol."""
    workspace.set(prepare__grid__nodes={"start": -0.5, "stop": 0.8, "count": 9})
    assert workspace.run("prepare") == 0

    report = json.loads(Path("results/prepare.json").read_text())
    rejected = report["train_rejected_price_too_small_for_its_accuracy"]
    assert rejected > 0
    assert report["train_surfaces"] + rejected + report["train_rejected_quadrature_not_converged"] == 256


def test_killed_training_resumes_to_the_same_bytes(
    finished: Workspace, in_finished, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = in_finished("artifacts")
    workspace = Workspace(folder)
    step, steps = Soap.step, 0

    def killed(self: Soap, *arguments, **named):
        nonlocal steps
        steps += 1
        if steps > 20:  # in the third epoch of 8 steps
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    monkeypatch.setattr(Soap, "step", killed)
    assert workspace.run("train") == 130
    assert not (folder / "artifacts/model").exists()
    assert train.CHECKPOINT.exists()
    monkeypatch.setattr(Soap, "step", step)
    assert workspace.run("train") == 0

    assert "resumed after epoch 2" in capfd.readouterr().err
    assert content(folder / "artifacts/model") == content(finished.folder / "artifacts/model")
    assert not train.CHECKPOINT.exists()


def with_own_params(folder: Path) -> Workspace:
    """The folder with settings that a test may change."""
    (folder / "params.yaml").unlink()
    write_tiny_params(Path(__file__).parents[2], folder)
    return Workspace(folder)


def test_a_learning_rate_that_diverges_fails_with_a_clear_line(
    in_prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written but the checkpoint of the last epoch that was sound."""
    folder, workspace = in_prepared, with_own_params(in_prepared)
    workspace.set(train__learning_rate=1e30, train__gradient_clip=1e30)
    assert workspace.run("train") == 1
    error = capsys.readouterr().err
    assert "gradients in a row, the last in epoch" in error
    assert "lower train.learning_rate" in error
    assert not any((folder / "artifacts").iterdir())


def test_a_checkpoint_of_other_settings_is_not_resumed(in_prepared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(in_prepared)
    train.CHECKPOINT.parent.mkdir(exist_ok=True)
    tensor_files.write_tensors(train.CHECKPOINT, {"next_epoch": torch.tensor(2)}, {"key": "other"})
    assert workspace.run("train") == 0
    assert "resumed" not in capfd.readouterr().err


def test_evaluation_reports_what_the_design_names(finished: Workspace) -> None:
    figures = formats.read_json(finished.folder / "results/evaluate.json")
    for name in ("elbo_nats", "elbo_se_nats", "iwae_nats", "iwae_se_nats", "kl_nats"):
        assert math.isfinite(figures[name])
    assert figures["iwae_nats"] >= figures["elbo_nats"]
    assert figures["latents"] == 3
    assert 0 <= figures["active_units"] <= 3
    assert figures["data_arbitrage_free_rate"] == 1.0
    for name in ("reconstruction", "sample"):
        assert 0.0 <= figures[f"{name}_arbitrage_free_rate"] <= 1.0


def test_reconstruction_error_is_against_the_clean_surfaces(finished: Workspace) -> None:
    """The figures recomputed with numpy from the bundle that ships, PCA from numpy's singular values."""
    data, figures = finished.folder / "data/surfaces", formats.read_json(finished.folder / "results/evaluate.json")
    model = SurfaceModel.load(finished.folder / "artifacts/bundle", provider="cpu")
    test, fit = Dataset(data).arrays("test"), Dataset(data).points("train").astype(float)
    iv, clean = test["iv"], test["clean"].astype(float)

    reconstruction = model.decode(model.encode(iv).mean)
    centre = fit.mean(0)
    v = np.linalg.svd(fit - centre, full_matrices=False)[2][:3]
    pca = centre + (iv.reshape(len(iv), -1) - centre) @ v.T @ v

    def rmse(x: np.ndarray) -> float:
        return 1e4 * float(np.sqrt(np.mean((x.reshape(clean.shape) - clean) ** 2)))

    assert figures["latent_reconstruction_rmse_bp"] == pytest.approx(rmse(reconstruction), rel=1e-4)
    assert figures["pca_reconstruction_rmse_bp"] == pytest.approx(rmse(pca), rel=1e-6)
    largest = 1e4 * np.abs(reconstruction - clean).max()
    assert figures["latent_reconstruction_max_bp"] == pytest.approx(largest, rel=1e-3)
    assert figures["reconstruction_rmse_bp"] == figures["latent_reconstruction_rmse_bp"], "no residual factors"


def test_report_is_one_page_that_loads_nothing_else(finished: Workspace) -> None:
    page = (finished.folder / "results/evaluate.html").read_text()
    assert page.startswith("<!doctype html>")
    assert 'src="http' not in page
    assert "reconstruction_rmse_bp" in page


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_portable_files(finished: Workspace, name: str) -> None:
    """Opset 18, IR 9, no external data, no trace of the machine, described in their metadata."""
    path = finished.folder / "artifacts/bundle" / name
    proto = onnx.load(path, load_external_data=False)

    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", export.OPSET)] == [("", 18)]
    assert proto.ir_version == 9
    assert all(t.data_location != onnx.TensorProto.EXTERNAL for t in proto.graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert b".py" not in path.read_bytes()
    metadata = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(metadata["grid"]) == formats.read_json(finished.folder / "data/surfaces/grid.json")
    assert "decimal Black volatility" in metadata["units"]


def test_bundle_agrees_with_torch(finished: Workspace) -> None:
    figures = formats.read_json(finished.folder / "results/export.json")
    assert figures["parity_decoder_max_vol"] <= 1e-5
    model = trained_model.read_model(finished.folder / "artifacts/model")
    bundle = SurfaceModel.load(finished.folder / "artifacts/bundle", provider="cpu")
    for batch in (1, 2, 4097):
        z = torch.randn(batch, 3)
        with torch.no_grad():
            expected = export.Decoder(model, bundle.grid.shape)(z.double())
        np.testing.assert_allclose(bundle.decode(z.numpy()), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_export_fails_and_writes_nothing_when_parity_is_off(
    in_finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A decoder whose graph is shifted by a basis point."""
    workspace = Workspace(in_finished("artifacts/bundle"))
    forward = export.FoldedDecoder.forward
    shifted = lambda self, z, scores=None: forward(self, z, scores) + 1e-4  # noqa: E731
    monkeypatch.setattr(export.FoldedDecoder, "forward", shifted)

    assert workspace.run("export") == 1

    message = capsys.readouterr().err
    assert "parity_decoder_max_vol is 0.0001, above export.parity_tolerance_vol = 1e-05" in message
    assert sorted(p.name for p in Path("artifacts").iterdir()) == ["model"]


def test_missing_input_is_named(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.run("train") == 2
    assert capsys.readouterr().err == ("train: data/surfaces/train.safetensors does not exist; `dvc repro` makes it\n")
    assert not any(Path("artifacts").iterdir())


def test_damaged_input_is_named(in_finished, capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_finished("data/surfaces/test")
    (folder / "data/surfaces/test.safetensors").write_bytes(b"not safetensors")
    shutil.rmtree(folder / "artifacts/bundle")
    assert Workspace(folder).run("export") == 2
    assert "data/surfaces/test.safetensors is damaged or of another format" in capsys.readouterr().err


def test_a_full_temporary_folder_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In which a library, such as torch, makes a folder of its own."""

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/cache")

    monkeypatch.setattr(prepare, "check_writable", full)
    assert workspace.run("prepare") == 1
    assert capfd.readouterr().err == "prepare failed: /tmp/cache: No space left on device\n"


def test_a_stage_whose_duration_cannot_be_kept_is_complete(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(".checkpoints").mkdir()
    Path(".checkpoints/runs").write_text("in the way of a folder")
    assert workspace.run("prepare") == 0
    assert len(Dataset(Path("data/surfaces")).points("test")) == 64
    said = "prepare: how long it took is not kept: .checkpoints/runs/prepare.json cannot be written: Not a directory\n"
    assert capfd.readouterr().err.endswith(said)


@pytest.mark.parametrize(("stage", "blocked"), [("prepare", "data"), ("prepare", "results"), ("train", "results")])
def test_a_path_that_cannot_be_written_is_named_before_the_work(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], stage: str, blocked: str
) -> None:
    """A file stands where a folder must be."""
    (workspace.folder / blocked).write_text("in the way")
    assert workspace.run(stage) == 2
    error = capsys.readouterr().err
    assert f"{stage}: {blocked}/" in error
    assert "cannot be written" in error
    assert error.count("\n") == 1
    assert (workspace.folder / blocked).read_text() == "in the way"


def test_bad_params_end_with_exit_code_2(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.set(prepare__seeds=1)
    assert workspace.run("prepare") == 2
    told = "prepare: params.yaml: prepare.seeds is not a key; did you mean seed? Allowed: seed,"
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a CUDA device")
def test_cuda_that_is_absent_is_refused(in_prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = with_own_params(in_prepared)
    workspace.set(train__device="cuda")
    assert workspace.run("train") == 2
    assert "train.device: cuda, but torch finds no CUDA device; allowed here: auto, cpu" in capsys.readouterr().err


@pytest.mark.gpu
def test_cuda_trains_exports_and_agrees_with_the_cpu(finished: Workspace, workspace: Workspace) -> None:
    workspace.set(train__device="cuda")
    for stage in PATHS:
        assert workspace.run(stage) == 0
    ours, theirs = (formats.read_json(w.folder / "results/evaluate.json") for w in (workspace, finished))
    assert ours["reconstruction_rmse_bp"] == pytest.approx(theirs["reconstruction_rmse_bp"], rel=0.2)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure while writing leaves the old content and no partial file."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), new_file(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert content(tmp_path) == {"file": b"old"}

    folder = tmp_path / "folder"
    with new_folder(folder) as partial:
        (partial / "a").write_bytes(b"1")
    with pytest.raises(RuntimeError), new_folder(folder) as partial:
        (partial / "a").write_bytes(b"2")
        raise RuntimeError
    assert content(tmp_path) == {"file": b"old", "folder/a": b"1"}
    with new_folder(folder) as partial:
        (partial / "b").write_bytes(b"3")
    assert content(tmp_path) == {"file": b"old", "folder/b": b"3"}


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    with pytest.raises(InputError, match=r"x\.json cannot be written"):
        formats.write_json(tmp_path / "x.json", {})


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(prepared: Workspace, tmp_path: Path) -> None:
    """Files of this process may not grow beyond 4 kB while the surfaces are written."""
    surfaces = np.zeros((100, 3, 9), np.float32)
    grid = Dataset(prepared.folder / "data/surfaces").grid
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match=r"surfaces\.npy cannot be written: File too large"):
            surface_tables.write_surfaces(tmp_path / "surfaces.npy", [surfaces], grid, count=100)
        with pytest.raises(InputError, match=r"x\.json cannot be written: File too large"):
            formats.write_json(tmp_path / "x.json", {"key": "x" * 5000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def left_by_a_kill(work: str, folder: Path) -> Path:
    """The only thing that a process leaves in a folder, which is killed within a ``with`` statement on one line."""
    program = "import os, sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
    program += f"from pipeline.files.atomic import new_file, new_folder\n{work}; os.kill(os.getpid(), 9)"
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", program, root], cwd=folder, check=False).returncode == -9
    (left,) = folder.iterdir()
    return left


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """The unfinished folder of a dead process goes, that of a living one and other files stay."""
    left = left_by_a_kill("with new_folder(pathlib.Path('model')) as folder: (folder / 'half').touch()", tmp_path)
    (tmp_path / f".model.{os.getpid()}.alive").mkdir()
    (tmp_path / ".model.bak").touch()

    with new_folder(tmp_path / "model") as folder:
        (folder / "whole").touch()

    assert not left.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"model", ".model.bak", f".model.{os.getpid()}.alive"}


def test_the_unfinished_file_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    left = left_by_a_kill("with new_file(pathlib.Path('a.json')) as stream: stream.write(b'{')", tmp_path)
    alive = tmp_path / f".a.json.{os.getpid()}.alive"
    alive.touch()
    formats.write_json(tmp_path / "a.json", {"a": 1})
    assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", alive.name}


def test_a_file_that_cannot_be_removed_does_not_hide_why_it_was_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("fsync", "unlink"):
        monkeypatch.setattr(os, name, broken)
    with pytest.raises(InputError, match=r"a\.json cannot be written: Input/output error$"):
        formats.write_json(tmp_path / "a.json", {"a": 1})


def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where two paths cannot be exchanged: what was set aside is put back by the next process."""
    folder = tmp_path / "bundle"
    with new_folder(folder) as fresh:
        (fresh / "a").write_bytes(b"old")
    script = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[1])
from pipeline.files import atomic
atomic.exchange = lambda first, second: False
rename = pathlib.Path.rename
def killed(self, target):
    rename(self, target)
    os.kill(os.getpid(), 9)
pathlib.Path.rename = killed
with atomic.new_folder(pathlib.Path(sys.argv[2])) as fresh:
    (fresh / "a").write_bytes(b"new")
"""
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", script, root, folder], check=False).returncode == -9
    assert not folder.exists()
    with pytest.raises(RuntimeError), new_folder(folder):
        raise RuntimeError
    assert content(tmp_path) == {"bundle/a": b"old"}


@pytest.mark.slow
def test_a_reader_of_a_bundle_that_is_replaced_gets_one_or_the_other(tmp_path: Path) -> None:
    folder, names, done = tmp_path / "bundle", ("a.onnx", "b.onnx"), threading.Event()

    def write(content: bytes) -> None:
        with new_folder(folder) as fresh:
            for name in names:
                (fresh / name).write_bytes(content)
            files = {name: {"sha256": formats.sha256(content)} for name in names}
            formats.write_json(fresh / bundle.MANIFEST, {"format": bundle.FORMAT, "files": files})

    def replace() -> None:
        for number in range(100):
            write(str(number).encode())
        done.set()

    write(b"first")
    writer, reads = threading.Thread(target=replace), 0
    writer.start()
    while not done.is_set():
        _, contents = bundle.read_whole(folder, names)
        assert len(set(contents.values())) == 1
        reads += 1
    writer.join()
    assert reads > 10
    assert bundle.read_whole(folder, names)[1]["a.onnx"] == b"99"


def test_files_have_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        formats.write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o600


def test_the_exact_ceiling_stands_above_every_model(finished: Workspace) -> None:
    """The mean log density of the test surfaces under the law that made them; not where that is not known."""
    figures = formats.read_json(finished.folder / "results/evaluate.json")
    assert figures["oracle_nats"] > figures["iwae_nats"]
    gap = figures["oracle_nats"] - figures["elbo_nats"]
    assert figures["elbo_gap_to_oracle_nats"] == pytest.approx(gap, rel=1e-9)
    assert 0.0 < figures["elbo_gap_to_oracle_se_nats"] < gap


@pytest.mark.slow
def test_without_noise_there_is_no_ceiling(finished: Workspace, workspace: Workspace) -> None:
    workspace.set(
        prepare__quote_noise_bp=0.0, prepare__surfaces={"train": 32, "validation": 8, "test": 8},
        prepare__surfaces_per_shard=8, evaluate__completion_surfaces=8,
    )  # fmt: skip
    for path in ("artifacts", "results/plots/training.csv"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).symlink_to(finished.folder / path)
    for stage in ("prepare", "evaluate"):
        assert workspace.run(stage) == 0
    assert "oracle_nats" not in formats.read_json(Path("results/evaluate.json"))


def test_a_damaged_law_is_one_line(in_finished, capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_finished("results/evaluate.json")
    (folder / "data/surfaces/law.json").unlink()
    (folder / "data/surfaces/law.json").write_text('{"quote_noise_vol": 1e-4}')
    assert Workspace(folder).run("evaluate") == 2
    assert "data/surfaces/law.json is not a law" in capsys.readouterr().err


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with (
        pytest.raises(InputError, match=r"model cannot be written: No space left on device$"),
        new_folder(folder) as partial,
    ):
        (partial / "weights").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), new_folder(folder):
        raise PermissionError(errno.EACCES, "of something else")
    assert list(tmp_path.iterdir()) == []
