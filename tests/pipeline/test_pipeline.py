"""The whole pipeline as users start it: DVC and Prefect in a clone of the working tree, with the network cut off."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import onnx
import pytest
from ruamel.yaml import YAML

from pipeline.runs.lock import heal
from tests.services import answers, flow_runs, free_port, prefect_login, running, wait_for
from tests.workspace import Workspace, write_tiny_params
from vae.bundle import GRAPHS, MANIFEST

pytestmark = pytest.mark.slow

STAGES = ["prepare", "train", "evaluate", "export", "register"]

REGISTER = (
    "python -m pipeline register --surfaces data/surfaces --model artifacts/model --bundle artifacts/bundle "
    "--page results/report.html --prepare-metrics results/prepare.json --train-metrics results/train.json "
    "--evaluate-metrics results/evaluate.json --export-metrics results/export.json --metrics results/register.json"
)


def environment(folder: Path) -> dict[str, str]:
    """This Python first on the path, the clone's code, no network, no state of the user."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join((str(folder), str(folder / "tests/offline"))),
        "VOLVAE_TEST_ATTEMPTS": str(folder.parent / "attempts"),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
    }


def shell(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in the clone."""
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the files of the working tree and tiny settings, after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("project") / "volvae"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split():
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    write_tiny_params(root, folder)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "."],
        ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "tiny"],
    ):
        assert shell(folder, *command).returncode == 0
    result = shell(folder, "dvc", "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def registered(clone: Path) -> dict[str, Any]:
    return json.loads((clone / "results/register.json").read_text())


def test_a_second_run_does_nothing(clone: Path) -> None:
    result = shell(clone, "dvc", "repro")
    assert result.returncode == 0
    for stage in STAGES:
        assert f"Stage '{stage}' didn't change, skipping" in result.stdout


def test_the_cut_network_is_noticed(clone: Path, tmp_path: Path) -> None:
    """The check above can fail: a program that looks a host up is refused and noted."""
    program = "import os, socket; os.environ['VOLVAE_TEST_ATTEMPTS'] = 'seen'; socket.getaddrinfo('example.org', 80)"
    shutil.copytree(clone / "tests/offline", tmp_path / "tests/offline")
    assert shell(tmp_path, sys.executable, "-c", program).returncode == 1
    assert (tmp_path / "seen").read_text() == "example.org\n"


def test_the_run_says_what_made_the_model(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters, metrics, git commit, DVC hashes, report and bundle; a decoder with signature and input example."""
    monkeypatch.chdir(clone)  # where the places of artifacts begin
    outcome = registered(clone)
    mlflow.set_tracking_uri(f"sqlite:///{clone}/mlflow.db")
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("volvae", "challenger")
    run = client.get_run(outcome["run_id"])

    assert str(version.version) == outcome["version"] == outcome["champion"] == "1"
    assert outcome["verdict"] == version.tags["gate.verdict"] == "accepted"
    assert str(client.get_model_version_by_alias("volvae", "champion").version) == "1"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.model.latents"] == "3"
    evaluated = json.loads((clone / "results/evaluate.json").read_text())
    assert outcome["gate_interval_coverage_90"] == evaluated["interval_coverage_90"]
    assert run.data.metrics["evaluate/elbo_nats"] == pytest.approx(evaluated["elbo_nats"])
    head = shell(clone, "git", "rev-parse", "HEAD").stdout.strip()
    assert run.data.tags["git.commit"] == version.tags["git.commit"] == head
    assert run.data.tags["git.dirty"] == "false"
    lock = (clone / "dvc.lock").read_text()
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("data/surfaces", run.data.tags["dvc.data/surfaces"])
    assert run.data.metrics["train/seconds"] > 0.0
    for path in ("data/surfaces", "artifacts/bundle", "results/evaluate.json"):
        assert f"md5: {run.data.tags[f'dvc.{path}']}\n" in lock
    bundle = {a.path for a in client.list_artifacts(run.info.run_id, "bundle")}
    assert bundle == {f"bundle/{name}" for name in (*GRAPHS, MANIFEST)}
    assert [a.path for a in client.list_artifacts(run.info.run_id, "report")] == ["report/report.html"]
    info = mlflow.models.get_model_info(f"models:/volvae/{version.version}")
    assert info.signature.inputs.input_names() == ["z"]
    assert info.signature.outputs.input_names() == ["iv"]
    assert info.saved_input_example_info is not None
    model = mlflow.onnx.load_model(f"models:/volvae/{version.version}")
    assert model == onnx.load(clone / "artifacts/bundle/decoder.onnx")


def test_registering_again_finds_the_same_version(clone: Path) -> None:
    before = registered(clone)
    result = shell(clone, "dvc", "repro", "--force", "--single-item", "register")
    assert result.returncode == 0, result.stdout + result.stderr
    again = registered(clone)
    assert (again["version"], again["run_id"]) == (before["version"], before["run_id"])
    assert again["reason"] == "it is champion already"


def test_from_a_version_alone_the_same_artifacts_are_built_again(clone: Path) -> None:
    """By the three commands that the version tells, in another folder, without the cache of the first."""
    told = shell(clone, "volvae", "lineage", "1", "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["commit"] == shell(clone, "git", "rev-parse", "HEAD").stdout.strip()
    assert found["parent"] == "none"
    assert found["seeds"]["train"] == "7"
    assert set(found["seconds"]) == {"prepare", "train", "evaluate", "export"}
    text = shell(clone, "volvae", "lineage", "champion").stdout
    assert all(command in text for command in found["rebuild"])
    for command in found["rebuild"]:
        result = shell(clone, "bash", "-c", command)
        assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("the outputs here are those of volvae version 1\n")
    kept = {path.name for path in (clone / "volvae-1.lineage").iterdir()}
    assert kept == {"dvc.lock", "params.yaml", "requirements.lock", "runs.json"}
    lock = clone / "volvae-1/dvc.lock"
    lock.write_text(lock.read_text().replace(found["outputs"]["artifacts/bundle"], "0" * 32 + ".dir"))
    store = f"MLFLOW_TRACKING_URI=sqlite:///{clone}/mlflow.db"
    differs = shell(clone / "volvae-1", "bash", "-c", f"{store} volvae lineage 1 --check")
    assert differs.returncode == 1
    assert differs.stderr == "volvae: not what volvae version 1 was made of: artifacts/bundle\n"
    for made in ("volvae-1", "volvae-1.lineage"):
        shutil.rmtree(clone / made)


def test_a_schedule_fires_and_does_nothing_where_nothing_is_new(clone: Path) -> None:
    """Every minute on a fresh machine: the first run makes the checkout, two more see nothing new."""
    port = free_port()
    command = ["volvae", "flow", "serve", "--cron", "* * * * *", "--port", str(port)]
    with running(command, clone, clone.parent / "serve.log", environment(clone)) as process:

        def ended() -> list[dict[str, Any]]:
            password = (clone.parent / "home/.prefect/volvae-password").read_text().strip()
            server = f"http://127.0.0.1:{port}/api"
            runs = flow_runs(server, prefect_login(server, password))
            return [run for run in runs if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED")]

        def fired() -> bool:
            assert process.poll() is None, (clone.parent / "serve.log").read_text()
            return answers(f"http://127.0.0.1:{port}/api/health") and len(ended()) >= 3

        wait_for(fired, seconds=400, what="the third run")
        states = [(run["state"]["type"], run["state"]["message"]) for run in ended()[:3]]
    nothing = "nothing new: data, code and settings are those of version 1"
    first, second, third = states
    assert first == ("COMPLETED", "volvae version 1 accepted: it is champion already")
    assert second == third == ("COMPLETED", nothing)
    assert not answers(f"http://127.0.0.1:{port}/api/health")


def outputs(folder: Path) -> dict[str, str]:
    """DVC's hashes of all that the stages made, but for where it was registered."""
    stages = YAML(typ="safe").load(folder / "dvc.lock")["stages"].values()
    made = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    return {path: digest for path, digest in made.items() if path != "results/register.json"}


@pytest.mark.timeout(1200)
def test_after_twenty_kills_at_random_the_next_run_ends_in_the_same_bytes(clone: Path, tmp_path: Path) -> None:
    """Each stage is killed four times, at moments that are drawn; nobody has to clean up."""
    folder = tmp_path / "killed"
    shutil.copytree(clone, folder, symlinks=True)
    chance, kills = random.Random(7), dict.fromkeys(STAGES, 0)
    for stage in STAGES * 4:
        longest = 6.0
        while True:
            heal(folder)  # as whatever starts DVC here does
            command = ["dvc", "repro", "--force", "--single-item", stage]
            with running(command, folder, tmp_path / "log", environment(clone)) as process:
                try:
                    process.wait(chance.uniform(0.5, longest))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    kills[stage] += 1
                    break
            longest /= 2.0  # it was done before
    assert kills == dict.fromkeys(STAGES, 4)
    result = shell(folder, "volvae", "flow", "run")
    assert result.returncode == 0, result.stdout + result.stderr
    assert outputs(folder) == outputs(clone)
    assert registered(folder)["version"] == "1"


def test_a_bundle_that_dvc_did_not_make_is_not_registered(clone: Path) -> None:
    """Its lineage would be a lie."""
    weights = clone / "artifacts/model/architecture.json"
    content = weights.read_text()
    weights.chmod(0o644)
    weights.write_text(content + "\n")
    try:
        result = shell(clone, "bash", "-c", REGISTER)
    finally:
        weights.write_text(content)
    assert result.returncode == 2
    assert result.stderr == "register: artifacts/model is not what dvc.lock records; run `dvc repro`\n"


def test_the_report_command_says_where_everything_is(clone: Path) -> None:
    result = shell(clone, "volvae", "report")
    assert result.returncode == 0, result.stderr
    told = ("volvae version 1, in sqlite:///mlflow.db", "accepted, champion is 1: it is champion already")
    for text in ("results/report.html", "artifacts/bundle", *told, "volvae sample"):
        assert text in result.stdout


def test_metrics_and_plots_are_dvcs(clone: Path) -> None:
    shown = shell(clone, "dvc", "metrics", "show", "--json")
    values = json.loads(shown.stdout)[""]["data"]
    assert "results/evaluate.json" in values
    plotted = shell(clone, "dvc", "plots", "show", "--json")
    assert plotted.returncode == 0, plotted.stderr
    assert set(json.loads(plotted.stdout)["data"]) >= {
        "results/plots/evaluate/error_by_tenor.csv", "results/plots/training.csv",
    }  # fmt: skip


def test_a_store_that_cannot_be_reached_is_one_clear_line(clone: Path) -> None:
    """Registration fails, says so and leaves the outcome of the last good one."""
    before = registered(clone)
    result = shell(clone, "bash", "-c", f"MLFLOW_TRACKING_URI=sqlite:////dev/null/mlflow.db {REGISTER}")
    assert result.returncode == 1
    assert "register failed: the MLflow store sqlite:////dev/null/mlflow.db refused" in result.stderr
    assert registered(clone) == before


def test_prefect_runs_the_same_stages(clone: Path) -> None:
    """One task a stage in order, DVC's lines in their logs; then a change of settings runs what depends on it."""
    quiet = shell(clone, sys.executable, "-m", "pipeline.flow")
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
    log = quiet.stdout + quiet.stderr
    positions = [log.index(f"Stage '{stage}' didn't change, skipping") for stage in STAGES]
    assert positions == sorted(positions)

    Workspace(clone).set(evaluate__importance_samples=[1, 5])
    changed = shell(clone, "volvae", "flow", "run")
    assert changed.returncode == 0, changed.stdout + changed.stderr
    log = changed.stdout + changed.stderr
    assert "Stage 'train' didn't change, skipping" in log
    assert "Running stage 'evaluate'" in log
    assert registered(clone)["version"] == "2"

    Workspace(clone).set(evaluate__importance_samples=[1])
    failed = shell(clone, sys.executable, "-m", "pipeline.flow")
    assert failed.returncode == 1
    assert "evaluate: importance_samples must end in 2 or more" in failed.stderr


def test_nothing_tried_to_reach_the_network(clone: Path) -> None:
    """In all of the above: the stages, the flow, the schedule with its server."""
    attempts = clone.parent / "attempts"
    assert not attempts.exists(), attempts.read_text()
