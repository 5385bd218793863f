"""The server as a whole: start and end, workers, logs and metrics."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.clients import clients
from deploy.server import run
from deploy.server.served import fingerprint
from deploy.server.settings import Settings
from deploy.server.trial import Trials
from tests.deploy.serving import ROOT, VOLVAE, Server, ask, decoder_request, serving
from tests.services import alive, wait_for
from vae.bundle import MANIFEST
from vae.runtime import SurfaceModel
from vae.sessions import SessionOptions

_DRAIN, _GRACE = 0.5, 20
_TOKEN = "a secret of this test"


@pytest.fixture(scope="module")
def guarded(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for a token and logs requests."""
    environment = {"VOLVAE_TOKEN": _TOKEN, "VOLVAE_LOG_REQUESTS": "true"}
    with serving(bundle, tmp_path_factory.mktemp("guarded"), environment=environment) as server:
        yield server


def workers(server: Server) -> set[int]:
    """Processes below the supervisor that serve; another belongs to multiprocessing."""
    below = psutil.Process(server.process.pid).children()
    return {child.pid for child in below if "spawn_main" in " ".join(child.cmdline())}


def test_without_the_token_only_probes_and_the_page_are_answered(guarded: Server) -> None:
    for path in ("/", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
        assert guarded.ask("GET", path).status == 200
    for method, path in (("GET", "/v2"), ("GET", "/metrics"), ("POST", "/sample"), ("GET", "/nothing")):
        for given in (None, "Bearer wrong", _TOKEN, "Bearer ", f"Bearer {_TOKEN[:-1]}", f"Basic {_TOKEN}"):
            headers = {} if given is None else {"authorization": given}
            answer = guarded.ask(method, path, "{}" if method == "POST" else None, headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json() == {"error": "a bearer token is needed"}


def test_with_the_token_all_is_answered(guarded: Server) -> None:
    bearing = {"authorization": f"Bearer {_TOKEN}"}
    assert guarded.ask("GET", "/v2", headers=bearing).status == 200
    assert guarded.ask("GET", "/v2", headers={"authorization": f"bearer {_TOKEN}"}).status == 200
    assert guarded.ask("POST", "/sample", "{}", bearing).status == 200
    document = guarded.ask("GET", "/openapi.json").json()
    assert document["security"] == [{"token": []}]


def test_logs_hold_the_shape_of_a_request_and_no_value(guarded: Server) -> None:
    bearing = {"authorization": f"Bearer {_TOKEN}", "x-note": "marked-header"}
    guarded.ask("POST", "/sample?key=marked-query", json.dumps({"seed": 424242}), bearing)
    guarded.ask("POST", "/sample", '{"marked-body": 1}', bearing)
    guarded.ask("GET", "/marked-path", headers=bearing)
    wait_for(lambda: len(guarded.said("request")) >= 3, seconds=60, what="the log")
    text = guarded.log.read_text()
    for secret in ("marked", "424242", _TOKEN):
        assert secret not in text
    line = next(line for line in guarded.said("request") if line["route"] == "sample")
    assert line.keys() == {"time", "level", "process", "message", "route", "status", "ms"}


def test_metrics_are_prometheus_text_and_count(server: Server, model: SurfaceModel) -> None:
    body = decoder_request(np.zeros((5, model.latents), np.float32))
    before = server.metrics()
    for _ in range(3):
        assert server.ask("POST", "/v2/models/decoder/infer", body).status == 200
    assert server.ask("POST", "/v2/models/decoder/infer", "{").status == 400
    after = server.metrics()

    def grown(*key: object) -> float:
        return after[key] - before.get(key, 0.0)

    assert grown("volvae_request_seconds_count", ("route", "infer"), ("status", "200")) == 3
    assert grown("volvae_request_seconds_count", ("route", "infer"), ("status", "400")) == 1
    assert grown("volvae_rows_sum", ("model", "decoder")) == 15
    assert grown("volvae_rows_count", ("model", "decoder")) == 3
    assert after["volvae_workers", ("version", server.version())] == 1
    assert after["volvae_queue",] == 0
    assert after["volvae_swaps_total",] == 0
    assert after["volvae_refused_bundles_total",] == 0


@pytest.mark.slow
def test_an_open_address_without_a_token_is_a_warning(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, "--host", "0.0.0.0") as server:
        (line,) = server.said("ANYONE WHO REACHES THIS ADDRESS CAN USE IT: set VOLVAE_TOKEN")
        assert line["level"] == "warning"


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("--port", "70000"), {}, "Invalid value for '--port'"),
        ((), {"VOLVAE_WORKERS": "none"}, "Invalid value for '--workers'"),
        pytest.param(
            (),
            {"VOLVAE_TOKEN": " "},
            "volvae: VOLVAE_TOKEN must be printable ASCII, not empty, without spaces around it",
            marks=pytest.mark.slow,
        ),
        pytest.param(("--model", "nowhere"), {}, "nowhere is not a bundle: ", marks=pytest.mark.slow),
        pytest.param(
            ("--model", "models:/volvae"),
            {},
            "volvae: models:/volvae is not the address of a model; allowed: a folder",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--host", "203.0.113.1"),
            {},
            "volvae: 203.0.113.1:0 cannot be listened at: Cannot assign requested address",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bad_settings_are_one_clear_line_and_exit_code_2(
    bundle: Path, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    command = [*VOLVAE, "serve", "--model", str(bundle), "--port", "0", *arguments]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


class Load:
    """Answers to clients that keep their connections until the server closes them."""

    def __init__(self, server: Server, body: str, expected: bytes) -> None:
        self.answered, self.failed = 0, []
        self._server, self._body, self._expected = server, body, expected

    def ask(self, _: threading.Event) -> None:
        """One client, which leaves by itself."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=30)) as connection:
            while True:
                try:
                    answer = ask(connection, "POST", "/v2/models/decoder/infer", self._body)
                except OSError as error:
                    self.failed.append(repr(error))
                    return
                if answer.status != 200 or self._expected not in answer.body:
                    self.failed.append(f"{answer.status} {answer.body[:200]!r}")
                self.answered += 1
                if answer.headers.get("connection") == "close":
                    return


@pytest.mark.slow
def test_sigterm_under_load_fails_no_request(bundle: Path, model: SurfaceModel, tmp_path: Path) -> None:
    """Clients leave by themselves, a stream is complete, and the process ends within drain and grace."""
    z = np.zeros((1, model.latents), np.float32)
    arguments = ("--workers", "2", "--drain", str(_DRAIN), "--grace", str(_GRACE))
    with serving(bundle, tmp_path, *arguments) as server:
        first = server.ask("POST", "/v2/models/decoder/infer", decoder_request(z)).body
        load = Load(server, decoder_request(z), first[first.index(b'"data"') :])
        size = 200_000 * 4 * model.grid.shape[0] * model.grid.shape[1]
        with (
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection,
            clients(6, load.ask),
        ):
            connection.request(
                "POST", "/sample", '{"count": 200000, "seed": 1}', {"accept": "application/octet-stream"}
            )
            response = connection.getresponse()
            received = len(response.read(1_000_000))
            wait_for(lambda: load.answered > 200, seconds=60, what="the load")
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: not ready(server), seconds=_GRACE, what="the end of readiness")
            wait_for(lambda: not listens(server), seconds=_GRACE, what="the end of the drain")
            assert server.process.poll() is None, "the stream is not at its end"
            while part := response.read(1_000_000):
                received += len(part)
        assert server.process.wait(60) == 0
        took = time.monotonic() - start
        assert load.failed == []
        assert received == size
        assert took < _DRAIN + _GRACE
        assert not server.said("a worker did not finish and is killed")


def listens(server: Server) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
        return True
    return False


def ready(server: Server) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.ask("GET", "/v2/health/ready").status == 200
    return False


@pytest.mark.slow
def test_what_takes_longer_than_its_time_is_ended(bundle: Path, tmp_path: Path) -> None:
    """A reader who takes its time does not keep a server from stopping."""
    with serving(bundle, tmp_path, "--drain", "0", "--grace", "1", "--receive", "600") as server:
        body = b'{"count": 1000000}'
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /sample HTTP/1.1\r\nhost: localhost\r\naccept: application/octet-stream\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            assert connection.recv(10_000)
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
            assert time.monotonic() - start < 10


@pytest.mark.slow
def test_a_killed_worker_comes_back(bundle: Path, model: SurfaceModel, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, "--workers", "2") as server:
        wait_for(lambda: len(server.said("serves a model")) == 2, seconds=60, what="both workers")
        before = workers(server)
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        for _ in range(20):
            assert server.ask("POST", "/sample", "{}").status == 200, "the other one answers meanwhile"
        wait_for(lambda: len(server.said("serves a model")) == 3, seconds=60, what="another worker")
        assert len(workers(server) - before) == 1
        (line,) = server.said("a worker died and is replaced")
        assert (line["died"], line["code"]) == (min(before), -signal.SIGKILL)
        assert server.metrics()["volvae_workers", ("version", server.version())] == 2
        for worker in workers(server):
            os.kill(worker, signal.SIGKILL)
        wait_for(lambda: ready(server), seconds=60, what="the server after all of its workers died")
        assert not workers(server) & before


@pytest.mark.slow
def test_a_worker_that_does_not_finish_is_killed(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, "--drain", "0", "--grace", "0") as server:
        (worker,) = workers(server)
        os.kill(worker, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert [line["killed"] for line in server.said("a worker did not finish and is killed")] == [worker]
        assert not alive(worker)


@pytest.mark.slow
@pytest.mark.parametrize("has_model", [True, False])
def test_workers_do_not_outlive_a_killed_supervisor(bundle: Path, tmp_path: Path, *, has_model: bool) -> None:
    """Neither one that serves nor one that waits for a good model."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    with serving(copy, tmp_path, "--drain", "0", "--grace", "2") as server:
        if not has_model:
            (copy / MANIFEST).unlink()
            (former,) = workers(server)
            os.kill(former, signal.SIGKILL)
            refused = partial(server.said, "a bundle is refused, the former stays")
            wait_for(lambda: any(line["process"] != former for line in refused()), seconds=60, what="another worker")
        left = workers(server)
        assert left
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not any(map(alive, left)), seconds=20, what="their end")


@pytest.mark.slow
def test_idle_connections_neither_use_up_the_descriptors_nor_silence_the_health_routes(
    bundle: Path, tmp_path: Path
) -> None:
    """More connections than the limit of open files allows, which is counted at the start."""
    limited, options = ["prlimit", "--nofile=256:256"], ("--receive", "60", "--grpc-port", "0")
    with serving(bundle, tmp_path, *options, prefix=limited) as server, contextlib.ExitStack() as stack:
        assert server.said("fewer connections than asked for: the limit of open files is too low")
        for port in (server.said("listens")[0]["grpc_port"], server.port):
            for _ in range(400):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        for _ in range(5):
            assert server.ask("GET", "/v2/health/live").status == 200
        assert server.process.poll() is None


def test_a_provider_that_does_not_start_is_found_before_there_are_workers(
    linear_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial of the bundle runs on the CPU."""
    trials = Trials(tmp_path)
    trials.note_fit(fingerprint(linear_bundle))
    monkeypatch.setattr(SessionOptions, "check", lambda _: None)  # this onnxruntime may lack it
    with pytest.raises(ValueError, match=r"CUDAExecutionProvider|'cuda' does not start"):
        run._check_model(Settings(linear_bundle, provider="cuda"), trials)
    run._check_model(Settings(linear_bundle), trials)
