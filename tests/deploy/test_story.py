"""The whole story of an installation by deploy/compose.yaml, from images: `make story`.

A scheduled run, a commit, a lost volume, a kill, a refusal, a promotion, a roll-back, a backup that is restored and
bundles of another format, on PostgreSQL, a bucket, MLflow, Prefect with its worker and the model server. Where the
images of PostgreSQL and the bucket are not here, those of tests/deploy/stand_ins take their places.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from tests.repositories import git
from tests.services import answers, free_port, get, post, prefect_login, wait_for
from tests.workspace import put, write_tiny_params
from vae.bundle import FORMAT

pytestmark = [pytest.mark.story, pytest.mark.slow, pytest.mark.timeout(3600)]

DOCKER = os.environ.get("DOCKER", "docker")
STAND_INS = {"postgres": "volvae-stand-in-postgres:test", "s3": "volvae-stand-in-s3:test"}
PROJECT = "volvae-story"
REPOSITORY = "/srv/volvae/repository"
SCHEDULED = f"{REPOSITORY}/.scheduled"
PREFECT, MLFLOW = "http://127.0.0.1:4200/api", "http://127.0.0.1:5000"
# Of the gate. Neither a busy machine nor a model that is hardly trained may decide whether a version is accepted.
LOOSE = {"register__gate__decode_ms": 60_000.0, "register__gate__worse_nats": 1e9, "register__gate__worse_bp": 1e9}
KILL = f"""
import os, pathlib, threading
checkpoint = pathlib.Path("{SCHEDULED}/.checkpoints/train.safetensors")
while not checkpoint.exists():
    threading.Event().wait(0.05)
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if int(process.name) != os.getpid() and b"PREFECT__FLOW_RUN_ID=" in (process / "environ").read_bytes():
            os.kill(int(process.name), 9)
    except (OSError, ProcessLookupError):
        pass
"""


def docker(*words: str) -> str:
    return subprocess.run([DOCKER, *words], check=True, capture_output=True, text=True).stdout


def compose_program() -> tuple[list[str], bool]:
    """Docker's compose, and whether it is the one of before 2022, which knows fewer keys."""
    if subprocess.run([DOCKER, "compose", "version"], check=False, capture_output=True).returncode == 0:
        return [DOCKER, "compose"], False
    if shutil.which("docker-compose"):
        return ["docker-compose"], True
    pytest.skip("neither `docker compose` nor docker-compose is installed")


class Run(NamedTuple):
    """A run of the flow: the state that it ended in, its message, and the lines of its log."""

    state: str
    message: str
    log: str

    @property
    def stages(self) -> list[str]:
        """Those that ran, in their order; not those whose outputs were in the cache."""
        return re.findall(r"^Running stage '(\w+)':$", self.log, re.MULTILINE)


class Installation:
    """The services of the compose file over a repository of their own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.checkout, self.passwords = folder / "checkout", {}
        port = free_port()  # many programs listen at 8000
        self.server = f"http://127.0.0.1:{port}"
        self._folder, self._began = folder, time.monotonic()
        git(root, "clone", "--quiet", "--no-hardlinks", ".", str(self.checkout))
        git(self.checkout, "checkout", "--quiet", "-B", "main")
        for line in (root / "deploy/.env.example").read_text().splitlines():
            name, _, value = line.partition("=")
            if line and not line.startswith("#"):
                self.passwords[name] = value or os.urandom(24).hex()
        self._environment = folder / "passwords.env"
        self._environment.write_text("".join(f"{name}={value}\n" for name, value in self.passwords.items()))
        self._program, old = compose_program()
        self._file = folder / "compose.json"
        self._file.write_text(json.dumps(self._settings(port, old=old)))

    def _settings(self, port: int, *, old: bool) -> dict[str, Any]:
        """The compose file with the images that are here, and the port of the model server."""
        settings = YAML(typ="safe").load(self.checkout / "deploy/compose.yaml")
        settings = {name: value for name, value in settings.items() if not name.startswith("x-") and name != "name"}
        settings["services"]["server"]["ports"] = [f"127.0.0.1:{port}:8000"]
        for name, image in STAND_INS.items():
            if subprocess.run([DOCKER, "image", "inspect", image], check=False, capture_output=True).returncode == 0:
                settings["services"][name]["image"] = image
        for service in settings["services"].values():
            check = service.get("healthcheck", {})
            if check:
                check["start_period"] = "15m"  # on a busy machine
            if old:
                check.pop("start_interval", None)
        return settings

    def compose(self, *words: str, read: Path | None = None, write: Path | None = None) -> str:
        """The output of a command of compose, which may read from a file and write its output to one."""
        options = ["--project-directory", str(self.checkout / "deploy"), "--project-name", PROJECT,
                   "--file", str(self._file), "--env-file", str(self._environment)]  # fmt: skip
        environment = {**os.environ, "COMPOSE_HTTP_TIMEOUT": "600"}  # some stores of images copy each whole
        command = [*self._program, *options, *words]
        with contextlib.ExitStack() as files:
            source = files.enter_context(read.open("rb")) if read else subprocess.DEVNULL
            target = files.enter_context(write.open("wb")) if write else subprocess.PIPE
            result = subprocess.run(
                command, env=environment, check=False, stdin=source, stdout=target, stderr=subprocess.PIPE
            )
        output = (result.stdout or b"").decode()
        assert result.returncode == 0, f"{words}: {output[-3000:]}{result.stderr.decode()[-3000:]}"
        return output

    def told(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {what}", flush=True)

    def commit(self, why: str, **settings: Any) -> None:
        """Commit settings, or an empty change."""
        path = self.checkout / "params.yaml"
        values = YAML(typ="safe").load(path)
        for key, value in settings.items():
            put(values, key.replace("__", "."), value)
        YAML().dump(values, path)
        git(self.checkout, "commit", "--quiet", "--allow-empty", "-am", why)

    def start(self) -> tuple[str, dict[str, str]]:
        """Schedule a run for now; its identifier, and the headers that the server asks for."""
        headers = prefect_login(PREFECT, f"volvae:{self.passwords['PREFECT_PASSWORD']}")
        deployment = get(f"{PREFECT}/deployments/name/volvae/process", headers)
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": soon}}
        run = post(f"{PREFECT}/deployments/{deployment['id']}/create_flow_run", {"state": state}, headers)
        return run["id"], headers

    def end(self, run: str, headers: dict[str, str]) -> Run:
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        state: dict[str, Any] = {}

        def ended() -> bool:
            state.update(get(f"{PREFECT}/flow_runs/{run}", headers)["state"])
            return state["type"] in final

        wait_for(ended, seconds=1200, what=f"the end of run {run}")
        return Run(state["type"], state["message"] or "", "\n".join(self._log(run, headers)))

    @staticmethod
    def _log(run: str, headers: dict[str, str]) -> list[str]:
        lines: list[str] = []
        wanted: dict[str, Any] = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        while page := post(f"{PREFECT}/logs/filter", {**wanted, "offset": len(lines)}, headers):
            lines += [line["message"] for line in page]
        return lines

    def run(self) -> Run:
        return self.end(*self.start())

    def volvae(self, *words: str) -> str:
        return self.compose("exec", "-T", "--workdir", REPOSITORY, "worker", "volvae", *words)

    def has_database(self) -> bool:
        """Whether PostgreSQL answers by its address; while it initialises it does not."""
        try:
            self.compose("exec", "-T", "postgres", "pg_isready", "--host=127.0.0.1", "--username=postgres")
        except AssertionError:
            return False
        return True

    def champion(self) -> str:
        url = f"{MLFLOW}/api/2.0/mlflow/registered-models/alias?name=volvae&alias=champion"
        return str(get(url, {})["model_version"]["version"])

    def sample(self) -> Any:
        """A surface drawn by the server with a seed; the model alone decides on it."""
        headers = {"Authorization": f"Bearer {self.passwords['VOLVAE_TOKEN']}"}
        return post(f"{self.server}/sample", {"count": 1, "seed": 7}, headers)["iv"]


@pytest.fixture
def installation(root: Path, tmp_path: Path) -> Iterator[Installation]:
    if shutil.which(DOCKER) is None or subprocess.run([DOCKER, "info"], check=False, capture_output=True).returncode:
        pytest.skip("no Docker answers: CONTRIBUTING.md says how to run this test")
    for target in ("services", "pipeline", "server"):
        if not docker("image", "ls", "--quiet", f"volvae-{target}"):
            pytest.skip("the images are not built: make images")
    made = Installation(tmp_path, root)
    write_tiny_params(root, made.checkout)
    made.commit("Small settings", **LOOSE)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")


def starts(it: Installation) -> None:
    it.compose("up", "--detach", "--no-build")
    wait_for(lambda: answers(f"{PREFECT}/health"), seconds=600, what="Prefect")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{PREFECT}/admin/version", timeout=30)
    it.told("PostgreSQL, bucket, MLflow, Prefect, worker and server are up; Prefect refuses a request without password")


def trains_and_serves(it: Installation) -> Any:
    """A surface of version 1."""
    run = it.run()
    assert run.message.startswith("volvae version 1 accepted: "), run
    assert "train" in run.stages
    assert it.champion() == "1"
    it.told(f"scheduled run: {run.message}")
    wait_for(lambda: answers(f"{it.server}/v2/health/ready"), seconds=300, what="the model server")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        post(f"{it.server}/sample", {"count": 1})
    it.told("the server, which waited for a champion, serves version 1, with the token alone")
    return it.sample()


def trains_nothing_for_a_commit(it: Installation) -> None:
    it.commit("Nothing that a stage reads")
    run = it.run()
    assert run.message == "nothing new: data, code and settings are those of version 1", run
    it.told(f"a commit: {run.message}")


def fills_a_lost_volume(it: Installation) -> None:
    it.compose("rm", "--stop", "--force", "worker")
    docker("volume", "rm", f"{PROJECT}_work")
    it.compose("up", "--detach", "--no-build")
    run = it.run()
    assert run.state == "COMPLETED", run
    assert run.stages == ["source", "register"], run
    assert it.champion() == "1"
    it.told("the volume of the worker is lost: the next run takes data and models from the bucket, and trains nothing")


def resumes_after_a_kill_and_refuses(it: Installation) -> None:
    refusing = {"low": 0.999, "high": 1.0}
    it.commit("Other data and a strict gate", prepare__seed=8, train__epochs=300, register__gate__coverage_90=refusing)
    killed, headers = it.start()
    it.compose("exec", "-T", "worker", "python", "-c", KILL)
    it.commit("Nothing that a stage reads, while a run trains")
    assert it.end(killed, headers).state == "CRASHED"
    run = it.run()
    assert "train: resumed after epoch " in run.log, run
    assert run.message.startswith("volvae version 2 refused: interval_coverage_90 "), run
    assert it.champion() == "1"
    it.told(f"a kill and a commit while it trained: the next run resumed from the checkpoint; {run.message}")


def promotes_and_rolls_back(it: Installation, of_one: Any) -> Any:
    """A surface of version 2."""
    it.volvae("promote", "2", "--force")
    assert it.champion() == "2"
    wait_for(lambda: it.sample() != of_one, seconds=120, what="version 2 in the server")
    of_two = it.sample()
    it.told("promoted by hand: the server serves version 2")
    it.volvae("rollback")
    assert it.champion() == "1"
    wait_for(lambda: it.sample() == of_one, seconds=120, what="version 1 in the server")
    it.told("rolled back: the server serves version 1, to the same bits")
    return of_two


def holds_the_roll_back(it: Installation) -> None:
    it.commit("The gate as before", register__gate__coverage_90={"low": 0.5, "high": 1.0})
    run = it.run()
    assert run.message.startswith("volvae version 2 accepted: "), run
    assert "train" not in run.stages
    assert it.champion() == "1"
    it.told(f"the gate's settings change: {run.message}; the roll-back holds")


def restores_a_backup(it: Installation, backup: Path, of_one: Any) -> None:
    """By the commands of docs/runbook.md, into empty volumes."""
    databases, bucket = ("mlflow", "prefect"), backup / "bucket.tar"
    tar = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "tar", "s3")
    for name in databases:
        dump = ("pg_dump", "--username=postgres", "--format=custom", f"--dbname={name}")
        it.compose("exec", "-T", "postgres", *dump, write=backup / name)
    it.compose("stop", "s3")
    it.compose(*tar, "-c", "-f", "-", "-C", "/data", ".", write=bucket)
    history = it.volvae("history", "--json")
    it.compose("down", "--volumes")

    it.compose(*tar, "-x", "-f", "-", "-C", "/data", read=bucket)
    it.compose("up", "--detach", "--no-build", "postgres")
    wait_for(it.has_database, seconds=300, what="PostgreSQL")
    for name in databases:
        restore = ("pg_restore", "--username=postgres", "--clean", "--if-exists", f"--dbname={name}")
        it.compose("exec", "-T", "postgres", *restore, read=backup / name)
    it.compose("up", "--detach", "--no-build")
    wait_for(lambda: answers(f"{it.server}/v2/health/ready"), seconds=600, what="the model server")
    assert it.sample() == of_one
    run = it.run()
    assert run.message.startswith("volvae version 2 accepted: "), run
    assert run.stages == ["source", "register"], run
    assert it.champion() == "1"
    assert it.volvae("history", "--json") == history
    it.told("all volumes are lost: a backup brings back registry, history and bucket; the next run trains nothing")


def passes_to_another_format(it: Installation, of_one: Any, of_two: Any) -> None:
    """The champion of older code does not stop newer code, nor the server, which has the newer one."""
    code = it.checkout / "vae/bundle.py"
    now, before = f"\nFORMAT = {FORMAT}\n", f"\nFORMAT = {FORMAT - 1}\n"
    assert now in code.read_text()
    code.write_text(code.read_text().replace(now, before))
    it.commit("Code of before, with bundles of another format")
    run = it.run()
    assert run.message.startswith("volvae version 3 accepted: "), run
    assert it.champion() == "3"
    it.told(f"a champion of the format before: {run.message}; the roll-back held until it came")
    wait_for(lambda: "of another version of volvae" in it.compose("logs", "server"), seconds=120, what="a refusal")
    assert it.sample() == of_one
    it.told("the server refuses it, and serves version 1 still")

    code.write_text(code.read_text().replace(before, now))
    it.commit("An upgrade", export__seed=8)
    run = it.run()
    assert "no comparison with the champion" in run.log, run
    assert run.message.startswith("volvae version 4 accepted: "), run
    assert "train" not in run.stages
    assert it.champion() == "4"
    wait_for(lambda: it.sample() == of_two, seconds=120, what="version 4 in the server")
    it.told(f"an upgrade: {run.message}, without a comparison; the server serves it")


def test_an_installation_lives_through_all_that_happens_to_it(installation: Installation, tmp_path: Path) -> None:
    it = installation
    try:
        starts(it)
        of_one = trains_and_serves(it)
        trains_nothing_for_a_commit(it)
        fills_a_lost_volume(it)
        resumes_after_a_kill_and_refuses(it)
        of_two = promotes_and_rolls_back(it, of_one)
        holds_the_roll_back(it)
        restores_a_backup(it, tmp_path, of_one)
        passes_to_another_format(it, of_one, of_two)
    except BaseException:
        print(it.compose("logs", "--tail", "60"))
        raise
