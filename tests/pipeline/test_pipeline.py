"""The whole pipeline as users start it: DVC and Prefect in a clone of the working tree, with the network cut off.

A version is built again, the schedule runs and register refuses by programs that are started; others are ``forked``.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import onnx
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from chaos import tamper
from pipeline.cli.main import main as volvae
from pipeline.files import formats
from pipeline.runs.lock import heal
from tests import programs
from tests.pipeline.registry.test_attestation import check_packages, check_provenance
from tests.repositories import git
from tests.services import answers, flow_runs, free_port, post, prefect_login, running, wait_for
from tests.shared import built_once
from tests.workspace import Workspace, write_tiny_params
from vae import runtime
from vae.bundle import GRAPHS, MANIFEST

pytestmark = pytest.mark.slow

CODE = ("vae", "pipeline", "deploy", "tests")
STAGES = ["prepare", "train", "evaluate", "export", "register"]
OUTPUTS = ("data", "artifacts", "results")

REGISTRATION = ("results/register.json", "results/report.html", "results/model_card.md")
REGISTER = (
    "python -m pipeline register --surfaces data/surfaces --model artifacts/model --bundle artifacts/bundle "
    "--page results/evaluate.html --report results/report.html --card results/model_card.md "
    "--prepare-metrics results/prepare.json --train-metrics results/train.json "
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
        "VOLVAE_TEST_ATTEMPTS": str(attempts(folder)),
        **({"VOLVAE_TEST_GRAPHS": str(graphs(folder))} if graphs(folder).exists() else {}),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        # Kernels of another processor, if these ask for them, add in another order.
        **{name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
    }


def attempts(folder: Path) -> Path:
    """The file that names the hosts which programs of the clone tried to reach."""
    return folder.parent / "attempts"


def graphs(folder: Path) -> Path:
    """The folder of graphs that were exported before, where the programs of the clone may read them."""
    return folder.parent / "graphs"


def shell(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in the clone."""
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)


def forked(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The same in a fork of this process, with further variables of the environment."""
    return programs.run(command, environment(folder) | variables, code=folder, cwd=folder)


def copy_code(root: Path, folder: Path) -> None:
    """Copy what git tracks, and code that is not committed yet; never what a run in the working tree has written."""

    def listed(*arguments: str) -> set[str]:
        command = ["git", "ls-files", "-z", *arguments]
        return set(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0"))

    new = listed("--others", "--exclude-standard", "--", *CODE)
    for name in (listed("--cached") | new) - {"dvc.lock"}:
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)


@pytest.fixture(scope="session")
def first_run(root: Path, tmp_path_factory: pytest.TempPathFactory, finished: Workspace, prefect_store: Path) -> Path:
    """A git repository with the code of the working tree and tiny settings, after one `dvc repro`.

    DVC takes the outputs of ``finished`` for those of its stages, and runs register itself. It runs all of them where a
    version is built again.
    """

    def build(parent: Path) -> None:
        folder = parent / "volvae"
        copy_code(root, folder)
        write_tiny_params(root, folder)
        for made in (*OUTPUTS, ".checkpoints"):
            shutil.copytree(finished.folder / made, folder / made)
        shutil.copytree(prefect_store, parent / "home/.prefect")
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "tiny")
        for command in (["repro", "--single-item", "source"], ["commit", "--force", *STAGES[:-1]], ["repro"]):
            result = forked(folder, "dvc", *command)
            assert result.returncode == 0, result.stdout + result.stderr

    return built_once(tmp_path_factory, "first_run", build) / "volvae"


@pytest.fixture
def clone(first_run: Path, tmp_path: Path, kept_graphs: Path) -> Iterator[Path]:
    """A copy of that repository with its cache, outputs and user; nothing in it may try to reach the network.

    Its programs read graphs that were exported before.
    """
    parent = tmp_path / "clone"
    shutil.copytree(first_run.parent, parent, symlinks=True)
    folder = parent / first_run.name
    graphs(folder).symlink_to(kept_graphs)
    yield folder
    assert not attempts(folder).exists(), attempts(folder).read_text()


def registered(clone: Path) -> dict[str, Any]:
    return json.loads((clone / "results/register.json").read_text())


def test_a_second_run_does_nothing(clone: Path) -> None:
    result = forked(clone, "dvc", "repro")
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
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone}/mlflow.db")
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
    kept = [a.path for a in client.list_artifacts(run.info.run_id, "report")]
    assert kept == ["report/model_card.md", "report/report.html"]
    card = (clone / "results/model_card.md").read_text()
    assert "# volvae version 1\n\nAccepted by the gate: all" in card
    assert version.description.startswith("Accepted by the gate: all")
    report = (clone / "results/report.html").read_text()
    assert '<main><section class="verdict green"><h2>volvae version 1: accepted</h2>' in report
    assert f"commit {head[:12]}" in report
    check_attestations(clone / f"mlartifacts/{run.info.run_id}/artifacts/lineage", clone, head)
    (kept,) = clone.glob(f"mlartifacts/{run.info.run_id}/artifacts/report/report.html")
    assert kept.read_text() == report
    info = mlflow.models.get_model_info(f"models:/volvae/{version.version}")
    assert info.signature.inputs.input_names() == ["z"]
    assert info.signature.outputs.input_names() == ["iv"]
    assert info.saved_input_example_info is not None
    model = mlflow.onnx.load_model(f"models:/volvae/{version.version}")
    assert model == onnx.load(clone / "artifacts/bundle/decoder.onnx")


def check_attestations(kept: Path, clone: Path, head: str) -> None:
    """List of packages and provenance are as their specifications say, and say what made the bundle."""
    bundle = {path.name: formats.sha256(path.read_bytes()) for path in (clone / "artifacts/bundle").iterdir()}
    packages = json.loads((kept / "sbom.cdx.json").read_text())
    check_packages(packages)
    assert f"pkg:pypi/torch@{version('torch')}" in {each["purl"] for each in packages["components"]}
    statement = json.loads((kept / "provenance.json").read_text())
    predicate = check_provenance(statement)
    assert {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]} == bundle
    made_from = {each.name: dict(each.digest) for each in predicate.build_definition.resolved_dependencies}
    assert made_from["code"] == {"gitCommit": head}
    assert made_from["requirements.lock"] == {"sha256": formats.sha256((clone / "requirements.lock").read_bytes())}
    assert f"md5: {made_from['data/surfaces']['dvcFolderMd5']}.dir" in (clone / "dvc.lock").read_text()


def test_registering_again_finds_the_same_version(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is signed then, where there is a key now."""
    private, public = tamper.write_key(tmp_path, "key")
    before = registered(clone)
    signed = {"VOLVAE_SIGNING_KEY": str(private)}
    result = forked(clone, "dvc", "repro", "--force", "--single-item", "register", **signed)
    monkeypatch.setenv("VOLVAE_VERIFY_KEY", str(public))
    runtime.load(clone / f"mlartifacts/{before['run_id']}/artifacts/bundle", provider="cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    again = registered(clone)
    assert (again["version"], again["run_id"]) == (before["version"], before["run_id"])
    assert again["reason"] == "it is champion already"


def test_from_a_version_alone_the_same_artifacts_are_built_again(
    clone: Path, finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the three commands that the version tells, in another folder, without the cache of the first.

    Each output of DVC's run has the bytes of the one of stages which ran in another process: graphs are exported anew.
    """
    graphs(clone).unlink()
    told = shell(clone, "volvae", "lineage", "1", "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["commit"] == shell(clone, "git", "rev-parse", "HEAD").stdout.strip()
    assert found["parent"] == "none"
    assert found["seeds"]["train"] == "7"
    assert set(found["seconds"]) == {"prepare", "train", "evaluate", "export"}
    monkeypatch.chdir(clone)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    text = CliRunner().invoke(volvae, ["lineage", "champion"]).stdout
    assert all(command in text for command in found["rebuild"])
    for command in found["rebuild"]:
        result = shell(clone, "bash", "-c", command)
        assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("the outputs here are those of volvae version 1\n")
    check_bytes(clone / "volvae-1", finished.folder)
    kept = {path.name for path in (clone / "volvae-1.lineage").iterdir()}
    assert kept == {
        "dvc.lock", "params.yaml", "provenance.json", "requirements.lock", "runs.json", "sbom.cdx.json",
    }  # fmt: skip
    lock = clone / "volvae-1/dvc.lock"
    lock.write_text(lock.read_text().replace(found["outputs"]["artifacts/bundle"], "0" * 32 + ".dir"))
    monkeypatch.chdir(clone / "volvae-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone}/mlflow.db")
    differs = CliRunner().invoke(volvae, ["lineage", "1", "--check"])
    assert differs.exit_code == 1
    assert differs.stderr == "volvae: not what volvae version 1 was made of: artifacts/bundle\n"


def check_bytes(folder: Path, other: Path) -> None:
    """Each output of the other folder is in this one."""
    for output in OUTPUTS:
        for path in (other / output).rglob("*"):
            relative = path.relative_to(other)
            assert path.is_dir() or path.read_bytes() == (folder / relative).read_bytes(), relative


def test_a_schedule_fires_and_does_nothing_where_nothing_is_new(clone: Path) -> None:
    """On a fresh machine: the first run, of the schedule's own tick, makes the checkout; the next sees nothing new.

    The schedule is paused before that one, which is scheduled for now, so that no tick falls into it. Then others run
    by hand on the same server.
    """
    port, log = free_port(), clone.parent / "serve.log"
    server = f"http://127.0.0.1:{port}/api"

    def password() -> str:
        return (clone.parent / "home/.prefect/volvae-password").read_text().strip()

    def login() -> Mapping[str, str]:
        return prefect_login(server, password())

    def ended() -> list[dict[str, Any]]:
        runs = flow_runs(server, login())
        return [run for run in runs if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED")]

    command = ["volvae", "flow", "serve", "--cron", "* * * * *", "--port", str(port)]
    with running(command, clone, log, environment(clone)) as process:

        def wait_for_run(number: int) -> None:
            def has_ended() -> bool:
                assert process.poll() is None, log.read_text()
                return answers(f"{server}/health") and len(ended()) >= number

            wait_for(has_ended, seconds=300, what=f"run {number}", pause=1.0)

        wait_for_run(1)
        (deployment,) = post(f"{server}/deployments/filter", {}, login())
        post(f"{server}/deployments/{deployment['id']}/pause_deployment", {}, login())
        before = len(ended())
        post(f"{server}/deployments/{deployment['id']}/create_flow_run", {}, login())
        wait_for_run(before + 1)
        states = [(run["state"]["type"], run["state"]["message"]) for run in ended()]
        check_runs_by_hand(clone, PREFECT_API_URL=server, PREFECT_API_AUTH_STRING=password())
    nothing = "nothing new: data, code and settings are those of version 1"
    first, *others = states
    assert first == ("COMPLETED", "volvae version 1 accepted: it is champion already"), log.read_text()
    assert len(others) >= 1
    assert set(others) == {("COMPLETED", nothing)}
    assert not answers(f"{server}/health")


def check_runs_by_hand(clone: Path, **known: str) -> None:
    """One task a stage in order, DVC's lines in their logs; a change of settings runs what depends on it."""
    Workspace(clone).set(evaluate__importance_samples=[1, 5])
    changed = forked(clone, "volvae", "flow", "run", **known)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    log = changed.stdout + changed.stderr
    said = ("Stage 'prepare' didn't change, skipping", "Stage 'train' didn't change, skipping",
            "Running stage 'evaluate'", "Stage 'export' didn't change, skipping",
            "Running stage 'register'")  # fmt: skip
    positions = [log.index(line) for line in said]
    assert positions == sorted(positions)
    assert registered(clone)["version"] == "2"

    Workspace(clone).set(prepare__source="array", prepare__array={"path": "none.npy"})
    started = [f"{name}={value}" for name, value in known.items()]
    failed = shell(clone, "env", *started, sys.executable, "-m", "pipeline.flow")
    assert failed.returncode == 1
    assert "prepare: none.npy does not exist" in failed.stderr


def outputs(folder: Path) -> dict[str, str]:
    """DVC's hashes of all that the stages made, but for where it was registered."""
    stages = YAML(typ="safe").load(folder / "dvc.lock")["stages"].values()
    made = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    return {path: digest for path, digest in made.items() if path not in REGISTRATION}


def kill_at_random(stage: str, folder: Path, chance: random.Random) -> None:
    """Start a stage and kill it, with DVC, at a moment that is drawn."""
    longest = 4.0
    command = ("dvc", "repro", "--force", "--single-item", stage)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    while True:
        heal(folder)  # as whatever starts DVC here does
        with programs.start(
            command, environment(folder), code=folder, cwd=folder, start_new_session=True, **quiet
        ) as process:
            try:
                process.wait(chance.uniform(0.1, longest))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return
        longest /= 2.0  # it was done before


@pytest.mark.parametrize(
    ("stage", "next_run"),
    [*((stage, ("dvc", "repro")) for stage in STAGES[:-1]), ("register", ("volvae", "flow", "run"))],
)
def test_after_kills_at_random_the_next_run_ends_in_the_same_bytes(
    clone: Path, first_run: Path, stage: str, next_run: tuple[str, ...]
) -> None:
    """Nobody has to clean up."""
    chance = random.Random(f"kills of {stage}")
    for _ in range(2):
        kill_at_random(stage, clone, chance)
    if next_run[0] == "dvc":
        heal(clone)  # as `make run` does
    result = forked(clone, *next_run)
    assert result.returncode == 0, result.stdout + result.stderr
    assert outputs(clone) == outputs(first_run)
    assert registered(clone)["version"] == "1"


def test_a_bundle_that_dvc_did_not_make_is_not_registered(clone: Path) -> None:
    """Its lineage would be a lie."""
    architecture = clone / "artifacts/model/architecture.json"
    architecture.chmod(0o644)
    architecture.write_text(architecture.read_text() + "\n")
    result = shell(clone, "bash", "-c", REGISTER)
    assert result.returncode == 2
    assert result.stderr == "register: artifacts/model is not what dvc.lock records; run `dvc repro`\n"


def test_the_report_command_says_where_everything_is(clone: Path) -> None:
    result = forked(clone, "volvae", "report")
    assert result.returncode == 0, result.stderr
    told = ("volvae version 1, in sqlite:///mlflow.db", "accepted, champion is 1: all")
    for text in ("results/report.html", "artifacts/bundle", *told, "volvae sample"):
        assert text in result.stdout


def test_metrics_and_plots_are_dvcs(clone: Path) -> None:
    listed = forked(clone, "dvc", "metrics", "show", "--json")
    values = json.loads(listed.stdout)[""]["data"]
    assert list(values) == ["results/metrics/headlines.json"]
    figures = json.loads((clone / "results/evaluate.json").read_text())
    shown = values["results/metrics/headlines.json"]["data"]
    assert shown == {name: figures[name] for name in shown}
    assert {"elbo_nats", "opponent_error_ratio", "interval_coverage_90"} < shown.keys()
    assert len(shown) <= 12
    plotted = forked(clone, "dvc", "plots", "show", "--json")
    assert plotted.returncode == 0, plotted.stderr
    assert set(json.loads(plotted.stdout)["data"]) >= {
        "results/plots/evaluate/error_by_tenor.csv", "results/plots/training.csv",
    }  # fmt: skip


def test_a_store_that_cannot_be_reached_is_one_clear_line(clone: Path) -> None:
    """Registration fails, says so and leaves the outcome of the last good one."""
    before = registered(clone)
    result = forked(clone, *REGISTER.split(), MLFLOW_TRACKING_URI="sqlite:////dev/null/mlflow.db")
    assert result.returncode == 1
    assert "register failed: the MLflow store sqlite:////dev/null/mlflow.db refused" in result.stderr
    assert registered(clone) == before


def test_the_first_run_did_not_try_to_reach_the_network(first_run: Path) -> None:
    """The fixture of a clone checks the same after each test: all stages, the flow, the schedule with its server."""
    assert not attempts(first_run).exists(), attempts(first_run).read_text()


def test_a_clone_holds_the_code_and_nothing_that_a_run_has_written(tmp_path: Path) -> None:
    """As after the first command of the README, whose run leaves dvc.lock, and after `volvae sample`."""
    tree = tmp_path / "tree"
    for name in ("dvc.lock", "vae/committed.py", "vae/deleted.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "code"]):
        subprocess.run([*git, *command], cwd=tree, check=True)
    (tree / "vae/deleted.py").unlink()
    for name in ("vae/new.py", "surfaces.parquet", "bundle/decoder.onnx"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    copy_code(tree, tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"vae/committed.py", "vae/new.py"}
