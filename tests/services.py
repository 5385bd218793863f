"""Real servers for tests: PostgreSQL, MLflow and Prefect on loopback, on free ports, stopped by the test."""

import base64
import contextlib
import http.server
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.shared import built_once

_DEBIAN = Path("/usr/lib/postgresql")
_PORTS = range(20_000, 32_000)  # below those that a system gives to whoever asks for any port
# Linux then sends a program SIGTERM when its parent dies: a killed run of the tests ends no fixture. The parent is
# the thread that started the program: where that ends, so does the program. So only the main thread starts programs.
_WITH_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def free_port() -> int:
    """A port on loopback that nothing listens at. It is drawn, so that another worker finds another one."""
    while True:
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


def wait_for(ready: Callable[[], object], *, seconds: float, what: str, pause: float = 0.1) -> None:
    """Ask until the answer is yes, with pauses of so many seconds: longer ones where a question costs a server work.

    Raises:
        TimeoutError: it was not after so many seconds.
    """
    end = time.monotonic() + seconds
    nothing = threading.Event()
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} is not ready after {seconds:g} s")
        nothing.wait(pause)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def alive(process: int) -> bool:
    """Whether it runs; what has ended and was not yet waited for does not: some containers wait for no orphan."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def running(command: list[str], folder: Path, log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    """A program in a process group of its own. The group ends with the block, the program with this process too."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_WITH_PARENT, *command], cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **environment},
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def connects(address: str) -> bool:
    try:
        psycopg2.connect(address).close()
    except psycopg2.OperationalError:
        return False
    return True


@contextlib.contextmanager
def healthy(url: str, command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A server that runs in the folder of its log, once its route /health answers."""
    with running(command, log.parent, log, environment) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return answers(f"{url}/health")

        wait_for(ready, seconds=180, what=f"the server at {url}")
        yield


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres."""
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else max(_DEBIAN.glob("*/bin"), default=None)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with an empty database; its address."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the path or in /usr/lib/postgresql")
    data, port = folder / "postgres", free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user)
        for parent in data.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "volvae", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8"],
        user=user, check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    command = [programs / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c",
               f"unix_socket_directories={data}", "-c", "fsync=off"]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*_WITH_PARENT, *command], user=user, cwd="/", **quiet)
    try:
        address = f"postgresql://volvae@127.0.0.1:{port}/postgres"
        wait_for(lambda: connects(address), seconds=60, what="PostgreSQL")
        yield address
    finally:
        server.send_signal(2)  # a fast shutdown
        server.wait(30)


@contextlib.contextmanager
def mlflow_server(folder: Path, *, store: str, password: str | None = None) -> Iterator[str]:
    """The address of an MLflow server over this store. With a password, only its user admin may use it."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination",
               str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if password is not None:
        command += ["--app-name", "basic-auth"]
        environment |= _passwords(folder, password)
    url = f"http://127.0.0.1:{port}"
    with healthy(url, command, folder / "mlflow.log", environment):
        yield url


def _passwords(folder: Path, password: str) -> dict[str, str]:
    """Settings of MLflow's basic authentication."""
    users = folder / "users.ini"
    users.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\nadmin_username = admin\n"
        f"admin_password = {password}\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return {"MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test"}


@pytest.fixture(scope="session")
def prefect_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of Prefect whose store has no runs, to be copied: Prefect takes ten seconds to make one."""

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        environment = {**os.environ, "PREFECT_HOME": str(folder)}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    return built_once(tmp_path_factory, f"prefect_store_{version('prefect')}", build, kept=request.config)


@contextlib.contextmanager
def prefect_server(folder: Path, store: Path) -> Iterator[str]:
    """A Prefect server with a copy of this store; the address of its API."""
    port = free_port()
    shutil.copytree(store, folder / "prefect")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    url = f"http://127.0.0.1:{port}/api"
    with healthy(url, command, folder / "prefect.log", environment):
        yield url


def get(url: str, headers: Mapping[str, str]) -> Any:
    """The JSON that a server answers."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=30) as answer:
        return json.loads(answer.read())


def post(url: str, content: object, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that a server answers to JSON. It is asked again while its database is locked, which it calls 503."""
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    request.headers.update(headers or {})
    answers: list[bytes] = []

    def has_answered() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answers.append(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        return bool(answers)

    wait_for(has_answered, seconds=60, what=url)
    return json.loads(answers[0])


def refusal(url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, str]]:
    """Code and headers with which a server refuses a request."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, method=method, headers=dict(headers or {})), timeout=30)
    with caught.value as answer:
        return answer.code, {name.lower(): value for name, value in answer.headers.items()}


@cache
def prefect_login(url: str, password: str) -> Mapping[str, str]:
    """Headers of requests to a Prefect server that asks for a password and protects against forged requests.

    They are kept: the server writes each token into its store. Who asks for one ten times a second keeps the runs that
    he waits for from writing theirs.
    """
    headers = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    token = get(f"{url}/csrf-token?client=test", headers)["token"]
    return {**headers, "Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}


def flow_runs(url: str, headers: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """All runs that a Prefect server knows, the first first."""
    return post(f"{url}/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"}, headers)


@contextlib.contextmanager
def saying(greeting: bytes) -> Iterator[int]:
    """The port on loopback of a program that greets all who connect, and answers nothing."""
    connections: list[socket.socket] = []

    def greet() -> None:
        with contextlib.suppress(OSError):  # of the closed listener, or of one who is gone
            while True:
                connections.append(listener.accept()[0])
                connections[-1].sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


@contextlib.contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on loopback whose requests a handler answers, in threads."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def receiver(read: Callable[[str, bytes], Any] = lambda _, body: json.loads(body)) -> Iterator[tuple[str, list[Any]]]:
    """The address of a server that keeps what is posted to it, by default JSON, and what it got.

    ``read`` makes of the path and the body of a request what is kept.
    """
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(read(self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as address:
        yield address, got
