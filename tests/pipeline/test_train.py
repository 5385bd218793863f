"""The stage train on a tiny design: processes that share a batch, a kill, and other data than complete surfaces."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import __main__ as stages
from pipeline import train, train_checkpoint
from pipeline.files import formats, tensor_files, trained_model
from pipeline.files.csv_tables import csv_columns
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.settings.params import read_params
from tests.bundles import write_sampler
from tests.forks import forked, together
from tests.services import free_port
from tests.workspace import PATHS, Workspace, write_tiny_params
from vae.model.linear import principal_components
from vae.runtime import SurfaceModel
from vae.surface.smile_features import functionals
from vae.training.soap import Soap

ROOT = Path(__file__).parents[2]
ARGUMENTS = [part for name, path in PATHS["train"].items() for part in (f"--{name}", path)]
PENALISED = {"train__arbitrage": {"epochs": 1, "samples": 8, "nats": 1.0}}


def killed_at(step: int) -> int:
    """The stage in a process that is killed before this step of the optimiser."""
    take, numbers = Soap.step, itertools.count(1)

    def killed(self: Soap, *arguments: object, **named: object) -> object:
        if next(numbers) > step:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(self, *arguments, **named)

    Soap.step = killed
    return stages.main(["train", *ARGUMENTS])


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return tensor_files.read_tensors(folder / "artifacts/model/weights.safetensors").tensors


@pytest.fixture
def untrained(in_prepared: Path) -> Workspace:
    """Prepared surfaces without a model, and settings that the test may change."""
    (in_prepared / "params.yaml").unlink()
    write_tiny_params(ROOT, in_prepared)
    return Workspace(in_prepared)


@pytest.fixture(scope="module")
def penalised(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model that the settings PENALISED give in one process without incidents."""
    folder = tmp_path_factory.mktemp("penalised")
    write_tiny_params(ROOT, folder)
    Workspace(folder).set(**PENALISED)
    (folder / "data").symlink_to(prepared.folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert Workspace(folder).run("train") == 0
    return folder


def test_simulated_surfaces_are_learnt_in_the_directions_of_their_law(finished: Workspace) -> None:
    """Directions of surfaces without noise hold exact ones better than those of noisy surfaces."""
    data = Dataset(finished.folder / "data/surfaces")
    settings = read_params(finished.folder / "params.yaml").train
    law, quoted = train.components_of_law(settings, data), principal_components(torch.from_numpy(data.points("train")))
    assert law is not None
    exact = torch.from_numpy(data.truth("test")).double()
    errors = [(each.reconstruct(exact, 24) - exact).square().mean().sqrt().item() for each in (law, quoted)]

    assert errors[0] < 0.5 * errors[1]
    torch.testing.assert_close(law.variances[-4:], torch.full((4,), 1e-8, dtype=torch.float64), rtol=1e-2, atol=0.0)
    torch.testing.assert_close(weights_of(finished.folder)["basis"], law.vectors[:, : settings.model.basis].float())
    assert train.components_of_law(settings.model_copy(update={"half_life_days": 100.0}), data) is None


@pytest.mark.slow
def test_two_processes_train_as_one(untrained: Workspace, finished: Workspace) -> None:
    """Each takes half of every batch of 32: weights agree within 1e-5, though sums are rounded in another order."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    result = run(untrained.folder, *launcher, "-m", "pipeline", "train", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    check_weights(untrained.folder, finished.folder, tolerance=1e-5)


@pytest.mark.slow
def test_two_processes_train_as_one_where_arbitrage_is_penalised(untrained: Workspace, penalised: Path) -> None:
    """The penalty on arbitrage is made of maxima, whose slopes jump with the last digit: 1e-4."""
    untrained.set(**PENALISED)
    port = str(free_port())

    def train_as(rank: int) -> int:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # what the launcher tells its processes
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", **address}
        return stages.main(["train", *ARGUMENTS])

    ended = together([partial(train_as, rank) for rank in (0, 1)], untrained.folder)
    assert [one.code for one in ended] == [0, 0], ended
    check_weights(untrained.folder, penalised, tolerance=1e-4)


def check_weights(folder: Path, other: Path, *, tolerance: float) -> None:
    expected = weights_of(other)
    for name, value in weights_of(folder).items():
        torch.testing.assert_close(value, expected[name], rtol=0.0, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [9, 30, 37])
def test_a_killed_training_ends_in_the_same_bytes(
    untrained: Workspace, penalised: Path, steps: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL with the scaffold, without it, and while arbitrage is penalised; 8 steps an epoch."""
    untrained.set(**PENALISED)
    assert forked(partial(killed_at, steps), untrained.folder).code == -signal.SIGKILL
    assert train.CHECKPOINT.exists()
    assert untrained.run("train") == 0

    assert f"resumed after epoch {steps // 8}" in capfd.readouterr().err
    weights = "artifacts/model/weights.safetensors"
    assert (untrained.folder / weights).read_bytes() == (penalised / weights).read_bytes()


def test_a_damaged_checkpoint_starts_training_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One bit anywhere, or a part of the file, and nothing of it is used."""

    class Fit:
        next_epoch = 3
        restored = 0

        def restore(self, _: object) -> None:
            self.restored += 1

    path, fit = tmp_path / "train.safetensors", Fit()
    train_checkpoint.write(path, {"a": torch.arange(5.0), "b": torch.ones(2, 2)}, "k", [[1.0]])
    whole = path.read_bytes()
    assert train_checkpoint.resume(fit, path, "another") == []  # type: ignore[arg-type]
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert train_checkpoint.resume(fit, path, "k") == [], place  # type: ignore[arg-type]
    for size in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert train_checkpoint.resume(fit, path, "k") == []  # type: ignore[arg-type]
    assert fit.restored == 0
    assert "train.safetensors is damaged; training starts anew" in capfd.readouterr().err
    path.write_bytes(whole)
    assert train_checkpoint.resume(fit, path, "k") == [[1.0]]  # type: ignore[arg-type]
    assert fit.restored == 1


@pytest.mark.slow
def test_missing_points_are_trained_on_and_completed(untrained: Workspace) -> None:
    """A third of the points of every surface is missing; the hidden ones come back better than their mean."""
    data = untrained.folder / "data/surfaces"
    generator = torch.Generator().manual_seed(1)
    for split in SPLITS:
        tensors = tensor_files.read_tensors(Dataset(data).file(split)).tensors
        holes = torch.rand(tensors["iv"].shape, generator=generator) < 1 / 3
        tensors["iv"] = torch.where(holes, torch.nan, tensors["iv"])
        (data / f"{split}.safetensors").unlink()
        tensor_files.write_tensors(data / f"{split}.safetensors", tensors)
    assert untrained.run("train") == 0

    model = trained_model.read_model(untrained.folder / "artifacts/model")
    test = tensor_files.read_tensors(Dataset(data).file("test")).tensors
    seen = model.observe(test["iv"].double().flatten(1))
    with torch.no_grad():
        found = model.expand(model.decode(model.encode(seen.values, seen.missing).mean))
    hidden = test["iv"].flatten(1).isnan()
    error = (found - test["clean"].flatten(1))[hidden]
    spread = (test["clean"].flatten(1) - test["clean"].flatten(1).mean(0))[hidden]
    assert error.square().mean() < 0.1 * spread.square().mean()
    assert untrained.run("evaluate") == 0


@pytest.mark.slow
def test_samples_can_be_asked_for_features_and_columns_of_the_quotes(untrained: Workspace) -> None:
    """The level, and an index on most dates, the level in percent and some noise: samples follow each.

    Evaluation says how far they miss what they are asked for; it compares 50 test surfaces with samples, which takes
    seconds, and fewer not.
    """
    data, generator = untrained.folder / "data/surfaces", np.random.default_rng(3)
    read = functionals(("atm_level",), Dataset(data).grid)[0]
    for split in SPLITS:
        iv = Dataset(data).arrays(split)["iv"][: 48 if split == "test" else None]
        index = 100.0 * (iv.astype(float) * read).sum((1, 2)) + 0.3 * generator.standard_normal(len(iv))
        index[::7] = np.nan
        (data / f"{split}.safetensors").unlink()
        Dataset(data).write_surfaces(split, iv, np.arange(len(iv), dtype=np.int32), {"vix": index})
    (data / "law.json").unlink()
    untrained.set(train__conditions=["atm_level", "skew", "vix"], train__prior={"components": [1], "surfaces": 256})
    for stage in ("train", "evaluate"):
        assert untrained.run(stage) == 0, stage

    figures = formats.read_json(Path("results/evaluate.json"))
    for name in ("atm_level", "vix"):
        missed, floor, spread = (figures[f"condition_{name}_{kind}"] for kind in ("rmse", "floor", "spread"))
        assert max(missed, floor) < 0.25 * spread
    trained = trained_model.read(Path("artifacts/model"))
    model = SurfaceModel.load(write_sampler(Path("bundle"), *trained, Dataset(data).grid), provider="cpu")
    assert model.conditions == ("atm_level", "skew", "vix")
    for name, levels in (("atm_level", (0.2, 0.3)), ("vix", (20.0, 30.0))):
        low, high = (model.sample(500, seed=1, conditions={name: level}) for level in levels)
        assert ((high - low) * read).sum((1, 2)).mean() == pytest.approx(0.1, rel=0.1)


@pytest.mark.slow
def test_bernoulli_vectors_are_trained_on(untrained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Points that are 0 or 1, two prototypes with a tenth of them flipped: the model learns which is which."""
    generator = np.random.default_rng(2)
    prototypes = generator.integers(0, 2, (2, 12))
    values = prototypes[generator.integers(0, 2, 400)] ^ (generator.random((400, 12)) < 0.1)
    np.save(untrained.folder / "values.npy", values.astype(np.float32))
    untrained.set(
        prepare={"source": "array", "seed": 1, "array": {"path": "values.npy", "likelihood": "bernoulli"}},
        train__epochs=30, train__arbitrage={"epochs": 0}, train__model__latents=1, train__scaffold_latents=0,
    )  # fmt: skip
    shutil.rmtree(untrained.folder / "data")
    assert untrained.run("prepare") == 0
    assert untrained.run("train") == 0

    figures = formats.read_json(untrained.folder / "results/train.json")
    independent = -12 * np.log(2.0)  # each point alone is a fair coin where the prototypes differ
    assert figures["best_validation_elbo_nats"] > max(independent, figures["initial_ppca_validation_elbo_nats"])
    assert not [name for name in figures if name.startswith("scale") or "arbitrage" in name]
    assert "scale" not in Path("results/plots/training.csv").read_text()
    told = capsys.readouterr().err
    assert "vectors/s" in told
    assert not re.search(r"\b(nan|bp|scale)\b", told)


@pytest.mark.parametrize("scale", ["shared", "point"])
def test_directions_of_rounding_are_cut(untrained: Workspace, capsys: pytest.CaptureFixture[str], scale: str) -> None:
    """Three directions, nine columns of noise of 1e-9 around them and two constant ones, far from 0."""
    generator = np.random.default_rng(3)
    values = generator.standard_normal((600, 3)) @ generator.standard_normal((3, 14)) + 1e-9 * generator.random(
        (600, 14)
    )
    values[:, [2, 9]] = 5.0, 0.0
    np.save("values.npy", values)
    untrained.set(
        prepare={"source": "array", "seed": 1, "array": {"path": "values.npy"}}, train__epochs=3,
        train__scaffold_latents=0, train__model__scale=scale, train__hidden_share=0.1,
    )  # fmt: skip
    shutil.rmtree("data")
    assert untrained.run("prepare") == untrained.run("train") == 0
    assert "the data varies in 3 directions only, so that the basis is 3 instead of 12" in capsys.readouterr().err

    figures = formats.read_json(Path("results/train.json"))
    assert figures["basis"] == 3
    assert figures["skipped_steps"] == 0
    assert figures["best_validation_elbo_nats"] >= figures["initial_ppca_validation_elbo_nats"] > 30.0
    curve = csv_columns(Path("results/plots/training.csv").read_text())
    assert np.isfinite(curve["train_objective_nats"] + curve["validation_elbo_nats"]).all()
    untrained.set(train__model__latents=4)
    assert untrained.run("train") == 2
    assert "varies in 3 directions only, fewer than latents and scaffold_latents (4)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"train__arbitrage": {"epochs": 1}}, "train.arbitrage.epochs is 1, but the data are vectors, which have no arb"),
     ({"train__conditions": ["skew"]}, "train.conditions names skew, but the data are vectors, which have none")],
)  # fmt: skip
def test_vectors_have_neither_arbitrage_nor_features(
    untrained: Workspace, capsys: pytest.CaptureFixture[str], settings: dict, message: str
) -> None:
    shutil.rmtree("data/surfaces")
    Path("data/surfaces").mkdir()
    for split in SPLITS:
        Dataset(Path("data/surfaces")).write_vectors(split, torch.randn(300, 12).numpy(), likelihood="gaussian")
    untrained.set(**settings)
    assert untrained.run("train") == 2
    assert message in capsys.readouterr().err


def test_a_condition_that_too_few_surfaces_have_ends_before_training(
    untrained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    data = untrained.folder / "data/surfaces"
    for split in ("train", "validation"):
        iv = Dataset(data).arrays(split)["iv"]
        index = np.full(len(iv), np.nan)
        index[:10] = 20.0
        (data / f"{split}.safetensors").unlink()
        Dataset(data).write_surfaces(split, iv, np.arange(len(iv), dtype=np.int32), {"vix": index})
    untrained.set(train__conditions=["vix"])
    assert untrained.run("train") == 2
    message = "train.conditions: 10 surfaces of the split train have all of vix, but train.prior.components needs 15"
    assert message in capsys.readouterr().err
    assert not train.CHECKPOINT.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train__batch": 200, "train__model__latents": 12, "train__model__basis": 12}, "must not exceed model.basis"),
        ({"train__conditions": ["vix"]}, "'vix' is neither a feature of surfaces nor one of prepare.quotes.cond"),
    ],
)
def test_settings_that_do_not_fit_end_with_exit_code_2(
    untrained: Workspace, capsys: pytest.CaptureFixture[str], settings: dict, message: str
) -> None:
    untrained.set(**settings)
    assert untrained.run("train") == 2
    assert message in capsys.readouterr().err
    assert not (untrained.folder / "artifacts/model").exists()


def test_columns_that_say_nothing_are_named(untrained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """One point never quoted, then all points the same in every surface."""
    data = untrained.folder / "data/surfaces"
    tensors = tensor_files.read_tensors(Dataset(data).file("train")).tensors
    (data / "law.json").unlink()  # which would say how they vary
    for iv, message in (
        (
            torch.where(torch.arange(9) == 4, torch.nan, tensors["iv"]),
            "3 of 27 points are known in no surface, the first at tenor 26 days, node -0.05",
        ),
        (torch.full_like(tensors["iv"], 0.2), "the data varies in 0 directions only, fewer than latents and"),
    ):
        (data / "train.safetensors").unlink()
        tensor_files.write_tensors(data / "train.safetensors", tensors | {"iv": iv})
        assert untrained.run("train") == 2
        assert message in capsys.readouterr().err
        assert not (untrained.folder / "artifacts/model").exists()


@pytest.mark.parametrize("missing", [False, True])
def test_complete_surfaces_are_kept_as_coordinates_alone(untrained: Workspace, *, missing: bool) -> None:
    """On the CPU a surface takes a number for each direction of the basis, and one; with gaps its points as well."""
    settings = read_params(untrained.folder / "params.yaml").train.model_copy(update={"hidden_share": 0.25})
    x = 0.2 + 0.01 * torch.randn(300, 27, generator=torch.Generator().manual_seed(1))
    if missing:
        x[::7, 3] = torch.nan
    trainer = train.new_trainer(settings, x[:256], x[256:])
    numbers = sum(part.numel() for part in trainer._train if part is not None)
    assert numbers == 256 * (settings.model.basis + 1 + (2 * 27 if missing else 0))
