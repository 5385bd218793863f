"""The flow on a real Prefect server, over stages that take no time: failures, refusals, locks, kills, artifacts."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pipeline.cli.main import main as volvae
from tests import programs
from tests.repositories import init
from tests.services import (
    alive,
    answering,
    flow_runs,
    free_port,
    get,
    post,
    prefect_login,
    prefect_server,
    receiver,
    refusal,
    running,
    wait_for,
)
from tests.workspace import Workspace, write_tiny_params

pytestmark = pytest.mark.slow

STAGE = """
import json, os, signal, sys
from pathlib import Path

name = sys.argv[1]
if Path("fail").exists():
    sys.exit(f"{name} failed: on purpose")
if Path("hang").exists():
    Path("hang").write_text(str(os.getpid()))
    signal.pause()
Path("results").mkdir(exist_ok=True)
verdict = Path("verdict").read_text()
Path(f"results/{name}.json").write_text(json.dumps({
    "prepare": {"surfaces": 3, "rmse_bp": 1.5},
    "register": {"model": "volvae", "version": "1", "verdict": verdict, "reason": f"it was {verdict}"},
}[name]))
"""
PIPELINE = """
stages:
  register:
    cmd: python stage.py register
    deps: [stage.py, verdict, results/prepare.json]
    metrics: [results/register.json]
  prepare:
    cmd: python stage.py prepare
    deps: [stage.py]
    metrics: [results/prepare.json]
"""


VOLVAE = (sys.executable, "-c", "from pipeline.cli.main import main; main()")


class Project(NamedTuple):
    """A folder with a git repository and quick stages, a server, and what its webhook got."""

    folder: Path
    server: str | None
    told: list[Any]

    def start(self, *arguments: str, forked: bool = True) -> subprocess.Popen:
        """``volvae flow run``, in a fork of this process or started."""
        environment = {**os.environ, "PREFECT_HOME": str(self.folder.parent / "home")}
        if self.server is not None:
            environment["PREFECT_API_URL"] = self.server
        words = ["flow", "run", *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        if forked:
            return programs.start(["volvae", *words], environment, cwd=self.folder, **output)
        return subprocess.Popen([*VOLVAE, *words], cwd=self.folder, env=environment, **output)

    def run(self, *arguments: str, forked: bool = True) -> tuple[int, str]:
        """Exit code and output of ``volvae flow run``."""
        with self.start(*arguments, forked=forked) as process:
            output = process.stdout.read()
        return process.returncode, output

    def last(self) -> dict[str, Any]:
        return flow_runs(self.server)[-1]

    def commit(self, *paths: str) -> None:
        """Commit these files, or all."""
        for command in (["add", *(paths or ["."])], ["commit", "--quiet", "--allow-empty", "-m", "change"]):
            identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
            subprocess.run(["git", *identity, *command], cwd=self.folder, check=True)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, prefect_store: Path) -> Iterator[tuple[str, list[Any]]]:
    """A server whose block webhook/told calls a receiver; its address and what the receiver got."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(folder, prefect_store) as server, receiver() as (url, told):
        program = f"from prefect.blocks.webhook import Webhook; Webhook(url={url!r}).save('told')"
        environment = {**os.environ, "PREFECT_API_URL": server, "PREFECT_HOME": str(folder / "home")}
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
        yield server, told


@pytest.fixture
def project(root: Path, services: tuple[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    server, told = services
    told.clear()
    return make_project(root, tmp_path / "project", server, told)


def make_project(root: Path, folder: Path, server: str | None, told: list[Any]) -> Project:
    folder.mkdir()
    write_tiny_params(root, folder)
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "verdict").write_text("accepted")
    (folder / ".gitignore").write_text("/results/\n/.scheduled/\n/mlflow.db\n/fail\n/hang\n")
    init(folder)
    made = Project(folder, server, told)
    made.commit()
    return made


def check_trace(spans: list[Span]) -> None:
    """One trace of a run: the flow, which knows the verdict, and each stage within it."""
    *steps, run = spans
    assert [span.name for span in spans] == ["dvc repro prepare", "dvc repro register", "volvae"]
    assert {(span.trace_id, span.parent_span_id) for span in steps} == {(run.trace_id, run.span_id)}
    facts = {each.key: each.value.string_value for each in run.attributes}
    assert facts.pop("vcs.ref.head.revision")
    assert facts == {"volvae.model": "volvae", "volvae.version": "1", "volvae.verdict": "accepted"}


def test_stages_run_in_the_order_of_their_data_and_show_their_figures(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver(lambda _, body: ExportTraceServiceRequest.FromString(body)) as (address, sent):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{address}/v1/traces")
        (project.folder / "results").mkdir()
        (project.folder / "results/notes.json").write_text("[1]")  # of the user, which is no metric of a stage
        code, output = project.run("--notify", "webhook/told", forked=False)
    assert code == 0, output
    check_trace([s for t in sent for r in t.resource_spans for scope in r.scope_spans for s in scope.spans])
    assert output.index("Task run 'prepare'") < output.index("Task run 'register'")
    assert "volvae version 1 accepted: it was accepted" in output.splitlines()
    state = project.last()["state"]
    assert (state["type"], state["message"]) == ("COMPLETED", "volvae version 1 accepted: it was accepted")
    assert project.told == []
    artifacts = {
        found["key"]: found
        for found in post(f"{project.server}/artifacts/filter", {})
        if found["flow_run_id"] == project.last()["id"]
    }
    assert set(artifacts) == {"volvae-metrics", "volvae-gate", "volvae-plots"}
    assert json.loads(artifacts["volvae-metrics"]["data"]) == [
        {"stage": "prepare", "metric": "surfaces", "value": 3}, {"stage": "prepare", "metric": "rmse_bp", "value": 1.5},
    ]  # fmt: skip
    assert "| reason | it was accepted |" in artifacts["volvae-gate"]["data"]
    assert artifacts["volvae-plots"]["data"].startswith("data:image/png;base64,iVBOR")


def test_a_refusal_is_told_and_is_no_failure(project: Project) -> None:
    (project.folder / "verdict").write_text("refused")
    code, output = project.run("--notify", "webhook/told")
    assert code == 0, output
    assert project.told == [
        {"subject": "volvae: a version was refused", "text": "volvae version 1 refused: it was refused"}
    ]


def test_a_failure_is_told_once_and_not_retried(project: Project) -> None:
    (project.folder / "fail").touch()
    code, output = project.run("--notify", "webhook/told")
    assert code == 1, output
    said = "dvc repro --single-item prepare ended with exit code 255: prepare failed: on purpose"
    assert f"volvae: {said}" in output.splitlines()
    run = project.last()
    assert (run["state"]["type"], run["state"]["message"]) == ("FAILED", said)
    assert project.told == [{"subject": f"volvae: run {run['name']}: Failed", "text": said}]
    tasks = post(f"{project.server}/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert [(found["name"], found["run_count"]) for found in tasks] == [("prepare", 1)]


def test_a_block_that_is_not_there_is_refused_before_work(project: Project) -> None:
    code, output = project.run("--notify", "webhook/nobody")
    assert code == 2, output
    assert "volvae: notify: 'webhook/nobody' is no Prefect block: " in output
    assert not (project.folder / "results").exists()


@contextlib.contextmanager
def relay(server: str, lost: Mapping[str, int]) -> Iterator[str]:
    """The address of a server that answers as this one, but once with 503 where it made a run's state one of these
    types, or with 500 each time."""
    left = dict(lost)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = urllib.request.Request(
                server.removesuffix("/api") + self.path, body or None, {"Content-Type": "application/json"}
            )
            request.method = self.command
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    code, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    code, content = error.code, error.read()
            state = json.loads(body)["state"]["type"] if self.path.endswith("/set_state") else ""
            if state in left:
                code, content = left[state], b"{}"
                if code == HTTPStatus.SERVICE_UNAVAILABLE:
                    del left[state]
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as address:
        yield f"{address}/api"


def test_a_refusal_whose_answer_was_lost_is_a_refusal(project: Project) -> None:
    with relay(project.server, {"FAILED": 503}) as server:
        code, output = project._replace(server=server).run("--notify", "webhook/nobody")
    assert code == 2, output
    assert output.splitlines()[-1].startswith("volvae: notify: 'webhook/nobody' is no Prefect block: ")


@pytest.mark.parametrize(
    ("lost", "outcome"),
    [
        ({"FAILED": 503}, "dvc repro --single-item prepare ended with exit code 255: prepare failed: on purpose"),
        ({"RUNNING": 500}, "the Prefect server at {server} does not serve the run: Server error '500 Internal"),
    ],
)
def test_a_failure_of_a_stage_or_of_the_server_is_one_line(
    project: Project, lost: Mapping[str, int], outcome: str
) -> None:
    (project.folder / "fail").touch()
    with relay(project.server, lost) as server:
        code, output = project._replace(server=server).run()
    assert code == 1, output
    assert output.splitlines()[-1].startswith(f"volvae: {outcome.format(server=server)}")


def test_a_server_that_is_not_there_is_named(project: Project) -> None:
    server = f"http://127.0.0.1:{free_port()}/api"
    code, output = project._replace(server=server).run()
    assert code == 1, output
    said = f"volvae: the Prefect server at {server} does not serve the run: Failed to reach API at {server}/"
    assert output.splitlines()[-1] == said


def hanging(project: Project) -> tuple[subprocess.Popen, int]:
    """A run that was started and whose stage hangs, and the process of the stage."""
    hang = project.folder / "hang"
    hang.touch()
    process = project.start("--notify", "webhook/told", forked=False)
    wait_for(lambda: hang.read_text() != "", seconds=120, what="the stage")
    return process, int(hang.read_text())


def test_a_second_run_is_refused_and_a_killed_one_is_closed_by_the_next(project: Project) -> None:
    first, stage = hanging(project)
    killed = project.last()["id"]
    code, output = project.run()
    assert code == 1, output
    assert f"volvae: {project.folder} is held by another run: process {first.pid} on " in output
    assert project.last()["state"]["type"] == "FAILED"

    with first:
        first.kill()
    wait_for(lambda: not alive(stage), seconds=60, what="the end of the stage")
    runs = {run["id"]: run for run in flow_runs(project.server)}
    assert runs[killed]["state"]["type"] == "RUNNING"  # as far as the server knows

    (project.folder / "hang").unlink()
    code, output = project.run("--notify", "webhook/told", "--wait", "60")
    assert code == 0, output
    closed = next(run for run in flow_runs(project.server) if run["id"] == killed)
    assert (closed["state"]["type"], closed["state"]["message"]) == ("CRASHED", "its process was killed")
    assert project.told == [{"subject": f"volvae: run {closed['name']}: Crashed", "text": "its process was killed"}]


def test_an_interrupted_run_ends_its_stage_and_lets_go(project: Project) -> None:
    process, stage = hanging(project)
    with process:
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    wait_for(lambda: not alive(stage), seconds=60, what="the end of the stage")
    (project.folder / "hang").unlink()
    code, output = project.run()
    assert code == 0, output


def test_a_stage_that_takes_too_long_is_ended(project: Project) -> None:
    (project.folder / "hang").touch()
    code, output = project.run("--stage-minutes", "0.1")
    assert code == 1, output
    assert "volvae: dvc repro --single-item prepare was ended after 6 s" in output
    stage = (project.folder / "hang").read_text()  # empty where DVC took all of the time to start it
    wait_for(lambda: not stage or not alive(int(stage)), seconds=60, what="the end of the stage")


def test_a_clean_run_works_on_the_commit_and_a_lost_volume_is_filled_by_the_remote(
    project: Project, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    Workspace(project.folder).set(retrain__when=["drift"], retrain__incoming="quotes/today.csv")
    (project.folder / "quotes").mkdir()
    (project.folder / "quotes/today.csv").write_text("of today")  # git need not know it
    dvc = [sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--default", "mine", str(remote)]
    subprocess.run(dvc, cwd=project.folder, check=True)
    code, output = project.run("--clean")
    assert code == 2, output
    assert "differs from its commit (.dvc/config, params.yaml); commit that, or let --allow-dirty run" in output
    project.commit("params.yaml", ".dvc/config")
    code, output = project.run("--clean", "--pull", "--push")
    assert code == 0, output
    assert not (project.folder / "results").exists()
    assert not (project.folder / "dvc.lock").exists()
    assert json.loads((project.folder / ".scheduled/results/register.json").read_text())["verdict"] == "accepted"
    assert len([path for path in remote.rglob("*") if path.is_file()]) >= 2
    assert "Running stage 'prepare'" in output
    assert (project.folder / ".scheduled/quotes/today.csv").read_text() == "of today"

    for lost in (".scheduled", ".dvc/cache"):
        shutil.rmtree(project.folder / lost)
    code, output = project.run("--clean", "--pull", "--push")
    assert code == 0, output
    assert "Running stage" not in output
    assert json.loads((project.folder / ".scheduled/results/register.json").read_text())["verdict"] == "accepted"

    (project.folder / "verdict").write_text("refused")
    code, output = project.run("--clean", "--allow-dirty")
    assert code == 0, output
    assert json.loads((project.folder / ".scheduled/results/register.json").read_text())["verdict"] == "accepted"


def test_a_schedule_that_is_none_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    for name in ("prefect_server.running", "_serve"):  # neither ends where a schedule is taken
        monkeypatch.setattr(f"pipeline.flow.{name}", Mock(side_effect=AssertionError("the schedule is taken")))
    for option, value in (("--cron", "every day"), ("--timezone", "Mars/Base")):
        arguments = {"--cron": "* * * * *", option: value}
        result = CliRunner().invoke(volvae, ["flow", "serve", *(word for pair in arguments.items() for word in pair)])
        assert result.exit_code == 2
        assert result.stderr.startswith("volvae: no schedule: ")
        assert value in result.stderr


# --- servers that the commands start ---

FOREIGN = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}


class Served(NamedTuple):
    """A running `volvae flow serve`, the address of its server's API and what it printed."""

    project: Project
    process: subprocess.Popen
    server: str
    log: Path

    def login(self) -> Mapping[str, str]:
        path = self.log.read_text().partition("log in with the content of ")[2].split("\n")[0]
        return prefect_login(self.server, Path(path).read_text().strip())

    def start_run(self) -> str:
        """Start a run of the deployment as the server's page does; its id."""
        headers = self.login()
        deployment = get(f"{self.server}/deployments/name/volvae/retrain", headers)["id"]
        return post(f"{self.server}/deployments/{deployment}/create_flow_run", {}, headers)["id"]

    def state(self, run: str) -> str:
        return get(f"{self.server}/flow_runs/{run}", self.login())["state"]["type"]


@pytest.fixture(scope="module")
def served(root: Path, tmp_path_factory: pytest.TempPathFactory, prefect_store: Path) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    shutil.copytree(prefect_store, folder / "home")
    project = make_project(root, folder / "project", None, [])
    log = folder / "serve.log"
    command = [*VOLVAE, "flow", "serve", "--cron", "0 6 1 1 *", "--port", str(port), "--in-place", "--always"]
    environment = {"PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(root)}
    with running(command, project.folder, log, environment) as process:
        made = Served(project, process, f"http://127.0.0.1:{port}/api", log)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return "log in with" in log.read_text()

        wait_for(ready, seconds=300, what="the schedule")
        yield made


def test_the_page_of_a_schedule_calls_the_api_of_its_own_port(served: Served) -> None:
    settings = get(f"{served.server.removesuffix('/api')}/ui-settings", {})
    assert settings["api_url"] == served.server
    assert (settings["auth"], settings["csrf_enabled"]) == ("BASIC", True)


def test_pages_of_other_origins_are_refused_by_the_server_of_a_schedule(served: Served) -> None:
    code, headers = refusal(f"{served.server}/flow_runs/filter", "OPTIONS", FOREIGN)
    assert code == 400
    assert "access-control-allow-origin" not in headers
    forged = {name: value for name, value in served.login().items() if "Csrf" not in name}
    assert refusal(f"{served.server}/flow_runs/filter", "POST", forged)[0] == 403


def test_clients_without_the_password_are_refused_by_the_server_of_a_schedule(served: Served) -> None:
    assert refusal(f"{served.server}/deployments/name/volvae/retrain")[0] == 401
    wrong = {"Authorization": "Basic dm9sdmFlOndyb25n"}
    assert refusal(f"{served.server}/deployments/name/volvae/retrain", headers=wrong)[0] == 401


def another_schedule(served: Served, options: list[str], environment: dict[str, str]) -> str:
    """The error of a further `volvae flow serve`."""
    command = ["volvae", "flow", "serve", "--cron", "0 6 1 1 *", *options]
    found = programs.run(command, {**os.environ, **environment}, cwd=served.project.folder)
    assert found.returncode == 1
    return found.stderr


def test_a_second_schedule_uses_the_server_and_another_user_is_refused(served: Served, tmp_path: Path) -> None:
    """Another user is one with a Prefect home of their own, and so with another password."""
    port = served.server.rpartition(":")[2].removesuffix("/api")
    error = another_schedule(served, ["--port", port], {"PREFECT_HOME": str(tmp_path)})
    assert error.startswith(
        f"volvae: the Prefect server at {served.server} refuses this user's password (401 Unauthorized); "
    )


def test_a_server_that_does_not_take_the_schedule_is_named(served: Served, tmp_path: Path) -> None:
    address = served.server.replace("//", "//me:of-a-test@")
    error = another_schedule(served, [], {"PREFECT_API_URL": address, "PREFECT_HOME": str(tmp_path)})
    assert error.startswith(f"volvae: the Prefect server at {served.server} does not take the schedule: ")
    assert "401" in error
    assert "of-a-test" not in error
    assert error.count("\n") == 1


def test_a_schedule_runs_and_ends_cleanly_at_sigterm_with_the_run_that_it_started(served: Served) -> None:
    """The last test of this server."""
    first = served.start_run()
    wait_for(lambda: served.state(first) == "COMPLETED", seconds=120, what="the first run", pause=1.0)
    hang = served.project.folder / "hang"
    hang.touch()
    (served.project.folder / "stage.py").write_text(f"{STAGE}# so that it runs again\n")
    served.start_run()
    wait_for(lambda: hang.read_text() != "", seconds=120, what="the stage")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(120) == 0
    wait_for(lambda: not alive(int(hang.read_text())), seconds=60, what="the end of the stage")
    log = served.log.read_text()
    assert "Warning" not in log
    assert "An error was encountered while running hook" not in log


def test_the_temporary_server_of_a_run_obeys_no_page_and_nobody_else(
    root: Path, tmp_path: Path, prefect_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(root))
    project = make_project(root, tmp_path / "project", None, [])
    shutil.copytree(prefect_store, tmp_path / "home")
    hang = project.folder / "hang"
    hang.touch()
    with project.start(forked=False) as process:
        server = ""
        for line in process.stdout:
            server = server or line.partition("Starting temporary server on ")[2].strip()
            if "Beginning flow run" in line:
                break
        code, headers = refusal(f"{server}/api/flow_runs/filter", "OPTIONS", FOREIGN)
        assert (code, headers.get("access-control-allow-origin")) == (400, None)
        assert refusal(f"{server}/api/admin/version")[0] == 401
        wait_for(lambda: hang.read_text() != "", seconds=120, what="the stage")
        hang.unlink()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
