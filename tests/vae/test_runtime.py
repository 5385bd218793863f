import json
import math
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import export, files
from pipeline.weights import Prior
from vae.grid import Grid
from vae.model import Architecture, Vae
from vae.ppca import principal_components
from vae.prior import Mixture
from vae.runtime import BundleError, SurfaceModel

GRID = Grid(np.array([0.1, 0.5]), np.linspace(-0.2, 0.2, 4))


@pytest.fixture(scope="module")
def untrained() -> Vae:
    """A model that is linear still."""
    torch.manual_seed(0)
    x = 0.2 + 0.02 * torch.randn(300, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
    return Vae.from_components(Architecture(8, 8, 3, 16, 2), principal_components(x))


@pytest.fixture(scope="module")
def bundle(untrained: Vae, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of it."""
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle", untrained, Prior(Mixture.standard_normal(3)))


def write_bundle(folder: Path, model: Vae, prior: Prior) -> Path:
    folder.mkdir()
    contents = {**export.graph_files(model, GRID), "prior.npy": files.array_bytes(prior.joint.table())}
    for name, graph in contents.items():
        files.write_bytes(folder / name, graph)
    files.write_json(folder / "manifest.json", export.make_manifest(model, prior, GRID, contents))
    return folder


@pytest.fixture
def model(bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(bundle, provider="cpu")


def test_samples_have_the_grid_and_follow_the_seed(model: SurfaceModel) -> None:
    surfaces = model.sample(10, seed=7)
    assert surfaces.shape == (10, 2, 4)
    assert surfaces.dtype == np.float32
    np.testing.assert_array_equal(surfaces, model.sample(10, seed=7))
    assert not np.array_equal(surfaces, model.sample(10, seed=8))
    np.testing.assert_array_equal(model.grid.log_moneyness, GRID.log_moneyness)


def test_a_row_does_not_depend_on_the_size_of_the_request(model: SurfaceModel) -> None:
    """Across the border of the blocks in which draws are made; SIMD tails move the last bit of a float."""
    large = model.sample(model.block + 100, seed=3)
    np.testing.assert_allclose(model.sample(5, seed=3), large[:5], atol=1e-6, rtol=0)
    blocks = list(model.sample_blocks(model.block + 100, seed=3))
    assert [len(block) for block in blocks] == [model.block, 100]
    np.testing.assert_array_equal(np.concatenate(blocks), large)


def test_samples_have_the_conditions_that_they_are_asked_for(untrained: Vae, tmp_path: Path) -> None:
    """Two conditions that are vols of the surface, one of them asked for; the other stays free."""
    with torch.no_grad():
        points = untrained.expand(untrained.decode(torch.eye(3, dtype=torch.float64))) - untrained.center
    slopes, level = points[:, [0, 5]].T.numpy(), untrained.center[[0, 5]].numpy()
    joint = np.concatenate([slopes, np.eye(3)])  # of z, which the conditions are linear in
    covariance = joint @ joint.T + 1e-9 * np.eye(5)
    mixture = Mixture(np.ones(1), np.concatenate([level, np.zeros(3)])[None], np.linalg.cholesky(covariance)[None])
    model = SurfaceModel.load(write_bundle(tmp_path / "bundle", untrained, Prior(mixture, ("first", "sixth"))))

    asked = float(level[1] + 0.02)
    surfaces = model.sample(2000, seed=1, conditions={"sixth": asked}).reshape(2000, 8)

    assert model.conditions == ("first", "sixth")
    np.testing.assert_allclose(surfaces[:, 5], asked, atol=1e-3)
    assert surfaces[:, 0].std() > 5e-3
    np.testing.assert_array_equal(model.sample(5, seed=1, conditions={"sixth": asked}).reshape(5, 8), surfaces[:5])
    for conditions, message in (
        ({"vix": 0.2}, "'vix' is not a condition; allowed: first, sixth"),
        ({"sixth": math.nan}, "the condition sixth is nan; it must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(1, seed=1, conditions=conditions)


def test_a_damaged_prior_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Its checksum agrees with the manifest, its content with nothing."""
    for content, message in (
        (b"no array", "prior.npy is damaged"),
        (files.array_bytes(np.zeros((1, 4))), "prior.npy is damaged: an array of shape"),
        (files.array_bytes(Mixture.standard_normal(2).table()), "prior.npy is of 2 numbers, but the manifest names 3"),
    ):
        folder = copy(bundle, tmp_path).parent / "bundle"
        (folder / "prior.npy").write_bytes(content)
        manifest = files.read_json(folder / "manifest.json")
        manifest["files"]["prior.npy"] = {"sha256": files.sha256(content), "bytes": len(content)}
        files.write_json(folder / "manifest.json", manifest)
        with pytest.raises(BundleError, match=message):
            SurfaceModel.load(folder)
        shutil.rmtree(folder)


def test_latents_of_samples_are_standard_normal(model: SurfaceModel) -> None:
    """The linear start lets the draws be read back: mean and covariance within five standard errors."""
    z = model.encode(model.sample(20_000, seed=1)).mean
    shrinkage = 1.0 - np.square(model.encode(model.sample(1, seed=1)).std)  # of the pPCA posterior mean
    z = z / shrinkage
    assert np.abs(z.mean(0)).max() <= 5 / np.sqrt(len(z))
    assert np.abs(np.cov(z.T) - np.eye(3)).max() <= 5 * np.sqrt(2 / len(z))


def test_threads_give_the_same_surfaces(model: SurfaceModel) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: model.sample(200, seed=seed % 2), range(16)))
    for n, surfaces in enumerate(results):
        np.testing.assert_array_equal(surfaces, results[n % 2])


def test_import_and_sampling_need_no_torch(bundle: Path) -> None:
    """Neither torch nor anything of the pipeline is loaded by a program that samples."""
    program = (
        "import sys; from vae.runtime import SurfaceModel; "
        f"SurfaceModel.load({str(bundle)!r}, provider='cpu').sample(3, seed=1); "
        "heavy = {'torch', 'scipy', 'onnx', 'mlflow', 'dvc', 'prefect', 'pydantic', 'pandas'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_onnxruntime_writes_nothing_to_the_home_folder(bundle: Path, tmp_path: Path) -> None:
    """Its telemetry keeps a device id and a database in the cache folder when it is on."""
    program = f"from vae.runtime import SurfaceModel; SurfaceModel.load({str(bundle)!r}, provider='cpu')"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def copy(bundle: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / "bundle"))


@pytest.mark.parametrize("name", ["decoder.onnx", "encoder.onnx"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "swapped"])
def test_an_altered_file_is_refused(bundle: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = copy(bundle, tmp_path) / name
    graph = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "swapped":
        shutil.copy(bundle / ({"decoder.onnx", "encoder.onnx"} - {name}).pop(), path)
    else:
        graph[100] ^= 1
        path.write_bytes(graph if damage == "flipped" else graph[:-50])
    with pytest.raises(BundleError, match=name):
        SurfaceModel.load(path.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a bundle: .*manifest.json cannot be read"),
        ("{", "is not the manifest of a bundle"),
        ("[]", "is not the manifest of a bundle"),
        ('{"format": 99}', "has format 99; this version of volvae reads format 2"),
        ('{"format": 2}', "does not name decoder.onnx"),
    ],
)
def test_a_foreign_manifest_is_refused(bundle: Path, tmp_path: Path, text: str | None, message: str) -> None:
    path = copy(bundle, tmp_path) / "manifest.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(BundleError, match=message):
        SurfaceModel.load(path.parent)


def test_a_file_that_is_no_graph_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Its checksum is right, its content is not."""
    folder = copy(bundle, tmp_path)
    (folder / "decoder.onnx").write_bytes(b"no graph")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["decoder.onnx"]["sha256"] = files.sha256(b"no graph")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="cannot load a graph"):
        SurfaceModel.load(folder)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample(0, seed=1), "n is 0; the number of surfaces must be between 1 and 2\\^50"),
        (lambda m: m.sample(2**63, seed=1), "between 1 and 2\\^50"),
        (lambda m: m.sample(1, seed=-1), "seed is -1; allowed: 0 to 2\\^64 - 1"),
        (lambda m: m.decode(np.zeros((2, 4))), r"z has shape \(2, 4\); expected \(batch, 3\)"),
        (lambda m: m.decode(np.zeros(3)), r"z has shape \(3,\)"),
        (lambda m: m.decode([[0, 0, 0], [0, np.nan, 0]]), "z must be finite, but row 1 is not"),
        (lambda m: m.encode(np.zeros((1, 4, 2))), r"iv has shape \(1, 4, 2\); expected \(batch, 2, 4\)"),
        (lambda m: m.encode(np.full((1, 2, 4), np.inf)), "iv must be finite, but row 0 is not"),
    ],
)
def test_bad_arguments_are_named(model: SurfaceModel, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model)


def test_an_unknown_or_absent_provider_is_named(bundle: Path) -> None:
    with pytest.raises(ValueError, match="provider is 'tpu'; allowed: auto, cpu, cuda"):
        SurfaceModel.load(bundle, provider="tpu")


@pytest.mark.gpu
def test_cuda_gives_the_surfaces_of_the_cpu(bundle: Path, model: SurfaceModel) -> None:
    cuda = SurfaceModel.load(bundle, provider="cuda")
    assert cuda.provider == "CUDAExecutionProvider"
    np.testing.assert_allclose(cuda.sample(1000, seed=2), model.sample(1000, seed=2), atol=1e-5, rtol=0)
