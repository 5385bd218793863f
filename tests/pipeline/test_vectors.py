"""Vectors without a grid, binary and Gaussian, through all stages to a bundle, the registry, the commands and HTTP."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from pipeline import register
from pipeline.errors import StageError
from pipeline.files import formats, trained_model
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.registry import cached, champion_model, dvc_lock, registry, vector_gate
from pipeline.registry.vector_gate import VectorComparison
from pipeline.report import picture, text
from pipeline.runs import trigger
from pipeline.settings.register import GateParams, ShareRange
from tests.command import volvae
from tests.deploy.serving import serving
from tests.documents import blocks
from tests.records import empty_store  # noqa: F401
from tests.vectors import LIKELIHOODS, POINTS, trained_on_vectors
from tests.workspace import PATHS, Workspace
from vae.bundle import MANIFEST
from vae.graphs import export
from vae.model.point_posterior import log_evidence
from vae.runtime import BundleError, SurfaceModel, VectorModel

GATE = GateParams(
    parity_vol=1e-5, coverage_90=ShareRange(low=0.85, high=0.95), arbitrage_rate=0.01, opponent_ratio=1.0,
    decode_ms=5.0, worse_nats=1.0, worse_bp=0.5, worse_error=0.1,
)  # fmt: skip


@pytest.fixture(scope="module", params=LIKELIHOODS)
def run(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """All stages but register."""
    return trained_on_vectors(root, tmp_path_factory, request.param)


@pytest.fixture
def bundle(run: Workspace) -> Path:
    return run.folder / "artifacts/bundle"


@pytest.fixture
def model(bundle: Path) -> VectorModel:
    return VectorModel.load(bundle, provider="cpu", threads=1)


@pytest.fixture
def held_out(run: Workspace) -> np.ndarray:
    return Dataset(run.folder / "data/surfaces").points("test")


@pytest.mark.slow
def test_the_figures_are_in_the_units_of_the_data(run: Workspace) -> None:
    figures = {stage: formats.read_json(run.folder / f"results/{stage}.json") for stage in PATHS}
    names = [name for stage in figures.values() for name in stage]
    assert not [name for name in names if name.endswith(("_bp", "_vol")) or "arbitrage" in name or "_bp_" in name]
    found = figures["evaluate"]
    assert found["elbo_nats"] < found["iwae_nats"]
    assert found["reconstruction_rmse"] < 1.2 * found["pca_reconstruction_rmse"]
    if "interval_coverage_90" in found:
        assert 0.7 < found["interval_coverage_90"] <= 1.0
        assert 4.0 < figures["train"]["scale"] < 15.0
        assert found["completion_mae_10"] < found["pca_completion_mae_10"]
        assert found["iwae_nats"] > found["pca_log_likelihood_nats"]
    else:
        assert found["completion_log_loss_nats_10"] < np.log(2.0)
        assert found["iwae_nats"] > found["independent_log_likelihood_nats"]
    assert figures["export"]["parity_scorer_max_nats"] < 1e-4
    registered = dict.fromkeys(("model", "version", "store", "verdict", "champion", "reason"), "-")
    told = text.text({**figures, "register": registered}, Path("results"), Path("bundle"))
    assert "nats a vector" in told
    assert "bp" not in told
    assert "held-out vectors" in (run.folder / "results/evaluate.html").read_text()
    assert picture.picture(run.folder / "results").startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_bundle_does_what_torch_does(run: Workspace, model: VectorModel, held_out: np.ndarray) -> None:
    vae = trained_model.read_model(run.folder / "artifacts/model")
    x = torch.from_numpy(held_out).double()
    with torch.no_grad():
        nats = log_evidence(vae, x, torch.zeros_like(x) if vae.architecture.sees_missing else None, steps=3)
        z = torch.randn(50, 2, dtype=torch.float64)
        decoded = export.Decoder(vae, (POINTS,))(z).numpy()
    found = model.score(held_out)
    np.testing.assert_allclose(found.nats, nats.numpy(), rtol=0.0, atol=1e-6)
    assert 20.0 < np.median(found.percentile) < 80.0
    np.testing.assert_allclose(model.decode(z.numpy()), decoded, rtol=1e-5, atol=1e-6)
    drawn = model.draw(7, seed=3)
    np.testing.assert_allclose(drawn.x, model.decode(drawn.latents), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(model.sample_blocks(7, seed=3))), drawn.x)
    np.testing.assert_allclose(model.sample(3, seed=3, offset=4), drawn.x[4:], rtol=1e-6)


@pytest.mark.slow
def test_samples_may_have_the_noise_of_observations(run: Workspace, model: VectorModel) -> None:
    means, found = (model.sample(500, seed=3, noise=noise) for noise in (False, True))
    if model.likelihood == "bernoulli":
        assert set(np.unique(found)) == {0.0, 1.0}
        assert found.mean() == pytest.approx(means.mean(), abs=0.01)
    else:
        vae = trained_model.read_model(run.folder / "artifacts/model")
        with torch.no_grad():
            scale = vae.scale_at(torch.from_numpy(model.draw(500, seed=3).latents).double()).numpy()
        assert ((found - means) / scale).std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.slow
def test_hidden_points_are_completed(model: VectorModel, held_out: np.ndarray) -> None:
    """Half of them, far better than by their mean; a binary point gets its probability."""
    seen = np.where(np.arange(POINTS) % 2, held_out, np.nan)
    found = model.complete(seen)
    hidden = np.isnan(seen)
    mean = np.broadcast_to(held_out.mean(0), seen.shape)
    errors = [np.square(guess - held_out)[hidden].mean() for guess in (found.mean, mean)]
    assert errors[0] < 0.6 * errors[1]
    assert found.latents.shape == (len(seen), 2)
    if model.likelihood == "bernoulli":
        assert ((found.mean > 0.0) & (found.mean < 1.0)).all()
        np.testing.assert_allclose(found.std, np.sqrt(found.mean * (1.0 - found.mean)), rtol=1e-3)
    scores = model.score(seen)
    assert np.isfinite(scores.nats).all()
    assert np.isnan(scores.percentile).all()  # no training vector has so few points


@pytest.mark.slow
def test_the_example_of_the_documents_runs(root: Path, run: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder)
    (block,) = (block for block in blocks(root / "docs/bundle.md", "python") if "VectorModel" in block)
    exec(compile(block, "bundle.md", "exec"), {})


@pytest.mark.slow
def test_vectors_that_cannot_be_read_are_refused(model: VectorModel) -> None:
    good = model.sample(2, seed=0)
    with pytest.raises(ValueError, match=rf"x has shape \({POINTS},\); expected \(batch, {POINTS}\)"):
        model.complete(good[0])
    with pytest.raises(ValueError, match="row 1 of x has no known point"):
        model.complete(np.where([[False], [True]], np.nan, good))
    wrong = {"gaussian": (np.inf, "finite in single precision"), "bernoulli": (1.5, "from 0 to 1")}
    value, allowed = wrong[model.likelihood]
    with pytest.raises(ValueError, match=f"x must be {allowed} where it is known, but row 0 holds"):
        model.score(np.where([[True], [False]], value, good))


@pytest.mark.slow
def test_a_bundle_of_the_other_kind_names_its_class(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is a bundle of vectors; load it with vae\.runtime\.VectorModel"):
        SurfaceModel.load(bundle)
    manifest = formats.read_json(bundle / MANIFEST)
    assert (manifest["kind"], manifest["dimension"]) == ("vectors", POINTS)
    del manifest["kind"]
    formats.write_json(tmp_path / MANIFEST, manifest)
    with pytest.raises(BundleError, match=r"is a bundle of surfaces; load it with vae\.runtime\.SurfaceModel"):
        VectorModel.load(tmp_path)


@pytest.mark.slow
def test_commands_sample_score_and_complete_vectors(
    bundle: Path, model: VectorModel, held_out: np.ndarray, tmp_path: Path
) -> None:
    chosen = ("--bundle", bundle, "--provider", "cpu")
    for ending in ("npy", "parquet"):
        path = tmp_path / f"vectors.{ending}"
        result = volvae("sample", "-n", 30, "--seed", 7, "-o", path, *chosen)
        assert result.exit_code == 0, result.output
        assert f"30 vectors of {POINTS} points, seed 7" in result.output
        assert volvae("score", path, "-o", tmp_path / "scores.csv", *chosen).exit_code == 0
        lines = (tmp_path / "scores.csv").read_text().splitlines()
        assert lines[0].startswith("vector,nats,percentile,misfit_percentile,")
        nats = [float(line.split(",")[1]) for line in lines[1:]]
        np.testing.assert_allclose(nats, model.score(model.sample(30, seed=7)).nats, rtol=1e-5)

    seen = np.where(np.arange(POINTS) % 2, held_out, np.nan)[:3]
    rows = [",".join("" if np.isnan(value) else f"{value:.9g}" for value in row) for row in seen]
    (tmp_path / "seen.csv").write_text("\n".join([",".join(f"p{i}" for i in range(POINTS)), *rows]) + "\n")
    result = volvae("complete", tmp_path / "seen.csv", "-o", tmp_path / "whole.csv", *chosen)
    assert result.exit_code == 0, result.output
    header, *lines = (tmp_path / "whole.csv").read_text().splitlines()
    assert header.startswith("vector,point,known,mean,std")
    assert header.endswith("low_90,high_90") == (model.likelihood == "gaussian")
    table = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    np.testing.assert_allclose(table[:, 3].reshape(3, POINTS), model.complete(seen).mean, rtol=1e-5)
    np.testing.assert_array_equal(table[:, 2].reshape(3, POINTS), np.arange(POINTS) % 2 * np.ones((3, 1)))

    assert "vectors of 16 points, checksums agree" in volvae("doctor", "--bundle", bundle).output
    for arguments, message in (
        (("complete", tmp_path / "seen.csv", "-o", tmp_path / "whole.csv", "--plot"), "--plot shows smiles"),
        (("sample", "-o", tmp_path / "a.npy", "--given", "skew=1"), "--given skew: the bundle is of vectors"),
        (("score", tmp_path / "whole.csv"), f"the model needs {POINTS}, one for each point"),
    ):
        result = volvae(*arguments, *chosen)
        assert result.exit_code == 2
        assert message in result.output


@pytest.mark.slow
def test_the_server_serves_vectors_and_says_that_there_are_no_surfaces(
    bundle: Path, model: VectorModel, held_out: np.ndarray, tmp_path: Path
) -> None:
    with serving(bundle, tmp_path) as server:
        given = {"name": "x", "shape": [2, POINTS], "datatype": "FP32", "data": held_out[:2].ravel().tolist()}
        answer = server.ask("POST", "/v2/models/scorer/infer", json.dumps({"inputs": [given]})).json()
        assert answer["outputs"][0]["datatype"] == "FP64"
        np.testing.assert_allclose(answer["outputs"][0]["data"], model.score(held_out[:2]).nats)
        seen = [{"name": name, "shape": [POINTS], "datatype": "FP32", "data": data} for name, data in (
            ("x", held_out[0].tolist()), ("mask", [float(i % 2) for i in range(POINTS)]))]  # fmt: skip
        answer = server.ask("POST", "/v2/models/completer/infer", json.dumps({"inputs": seen})).json()
        mean = model.complete(np.where(np.arange(POINTS) % 2, held_out[:1], np.nan)).mean[0]
        np.testing.assert_allclose(answer["outputs"][0]["data"], mean, rtol=1e-6)
        refused = (("/sample", {}), ("/complete", {"iv": [0.2], "tenor": [1.0], "log_moneyness": [0.0]}),
                   ("/score", {"iv": [[[0.2]]]}))  # fmt: skip
        for path, body in refused:
            answer = server.ask("POST", path, json.dumps(body))
            assert answer.status == 404
            assert "the model that is served is of vectors" in answer.json()["error"]
        assert server.ask("GET", "/openapi.json").json()["paths"] == {}
        assert server.ask("GET", "/bundle/manifest.json").json()["kind"] == "vectors"
    assert volvae("export-triton", tmp_path / "triton", "--bundle", bundle).exit_code == 0
    assert "TYPE_FP64" in (tmp_path / "triton/scorer/config.pbtxt").read_text()


@pytest.mark.slow
def test_vectors_are_registered_and_judged(
    run: Workspace,
    empty_store: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held_out: np.ndarray,
) -> None:
    """The first is champion; the same under another name is compared with it; MLflow knows shape and name of x.

    Beside a champion that cannot be trusted nothing is registered.
    """
    for path in run.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(cached, "check", lambda _: None)
    paths = {"surfaces": "data/surfaces", "model": "artifacts/model", "bundle": "artifacts/bundle"}
    paths |= {
        "page": "results/evaluate.html",
        "report": "report.html",
        "card": "model_card.md",
        "metrics": "register.json",
    }
    paths |= {f"{stage}_metrics": f"results/{stage}.json" for stage in PATHS}
    outcomes, loaded, load = [], [], registry.Registry.load
    note = loaded.append
    monkeypatch.setattr(registry.Registry, "load", lambda models, one: note(one.number) or load(models, one))

    def register_as(digest: str) -> None:
        deps = {"train": {"deps": {"data/surfaces": digest}, "outs": {"artifacts/model": digest}}}
        deps["export"] = {"deps": {"artifacts/model": digest}, "outs": {"artifacts/bundle": digest}}
        monkeypatch.setattr(dvc_lock, "recorded", lambda deps=deps: deps)
        register.main(run.params(), **{name: Path(path) for name, path in paths.items()})

    for digest in ("1", "2"):
        register_as(digest)
        outcomes.append(json.loads(Path("register.json").read_text()))
    assert loaded == ["1", "1", "2"]  # to promote it, to compare with it, to promote the second
    assert [outcome["verdict"] for outcome in outcomes] == ["accepted", "accepted"], outcomes
    assert "<h2>volvae version 2: accepted" in Path("report.html").read_text()
    assert "VectorModel.load" in Path("model_card.md").read_text()
    assert outcomes[1]["beside_champion_vectors"] == len(held_out)
    assert outcomes[1]["gate_gain_nats_low"] == outcomes[1]["gate_loss_error_high"] == 0.0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    signature = mlflow.models.get_model_info("models:/volvae/2").signature
    assert signature.outputs.input_names() == ["x"]
    assert signature.outputs.inputs[0].shape == (-1, POINTS)
    np.save("incoming.npy", held_out)
    with registry.opened(model="volvae", experiment="volvae") as models:
        champion = champion_model.read(models)
    assert trigger.unlikely_share(champion, Path("incoming.npy"), run.params(), tmp_path / "watched") < 0.2
    assert "<h2>No drift</h2>" in (tmp_path / "watched/results/drift.html").read_text()
    for manifest in tmp_path.glob("mlartifacts/*/artifacts/bundle/manifest.json"):
        manifest.write_text("{}")
    with pytest.raises(StageError, match="the bundle of volvae version 2 is damaged"):
        register_as("3")
    with registry.opened(model="volvae", experiment="volvae") as models:
        assert models.get("3") is None


FIGURES = {
    "parity_decoder_max_relative": 1e-6, "interval_coverage_90": 0.9, "opponent_error_ratio": 1.1, "decode_ms": 1.0,
    "iwae_nats": -10.0, "independent_log_likelihood_nats": -11.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "gaussian", "bernoulli"),
    [
        ({}, [], []),
        ({"parity_decoder_max_relative": 1.1e-5}, ["parity_decoder_max_relative"], ["parity_decoder_max_relative"]),
        ({"interval_coverage_90": 0.8}, ["interval_coverage_90"], []),
        ({"opponent_error_ratio": 0.9}, ["opponent_error_ratio"], []),
        ({"iwae_nats": -11.5}, [], ["iwae_nats"]),
        ({"decode_ms": float("nan")}, ["decode_ms"], ["decode_ms"]),
    ],
)
def test_the_gate_checks_what_each_likelihood_has(changes: dict, gaussian: list[str], bernoulli: list[str]) -> None:
    for likelihood, failed in (("gaussian", gaussian), ("bernoulli", bernoulli)):
        checks = vector_gate.absolute_checks(FIGURES | changes, GATE, likelihood)
        assert [check.name for check in checks if not check.passed] == failed


@pytest.mark.parametrize(
    ("nats", "error", "accepted"),
    [((0.0, 0.4), (0.0, 0.04), True), ((0.0, 0.6), (0.0, 0.0), False), ((0.0, 0.0), (0.05, 0.03), False)],
)
def test_two_standard_errors_count_against_a_version(
    nats: tuple[float, float], error: tuple[float, float], *, accepted: bool
) -> None:
    checks = vector_gate.paired_checks(VectorComparison(100, *nats, *error), GATE)
    assert all(check.passed for check in checks) is accepted


def test_a_data_set_says_whether_it_holds_vectors(tmp_path: Path) -> None:
    for split in SPLITS:
        Dataset(tmp_path).write_vectors(split, np.zeros((2, 3), np.float32), likelihood="gaussian")
    assert Dataset(tmp_path).of_vectors
    assert Dataset(tmp_path).unit.suffix == ""
