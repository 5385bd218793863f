"""Speed and latency of the HTTP server as a client sees them, on loopback.

The client is a process of its own, the server has one worker, and each has a core to itself. Figures that are compared
are measured in turns within one run.
"""

import gc
import json
import multiprocessing
import os
import select
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import psutil
from starlette.requests import Request
from starlette.responses import Response

from benchmarks import triton
from benchmarks.started import end, wait
from benchmarks.turns import in_turns
from deploy import triton as repository
from deploy.server import app, metrics, worker
from deploy.server.children import temporary_folder
from deploy.server.middleware import route
from deploy.server.settings import Settings
from pipeline.errors import InputError
from vae import bundle
from vae.runtime import SurfaceModel

BUNDLE = Path("artifacts/bundle")
_CONNECTIONS = 8
_ROUNDS, _SECONDS = 7, 1.0
_LOAD_SECONDS, _MANY = 10.0, 320
_SECONDS_TO_END = 30.0  # before a worker is killed
_SAMPLES = 1000


def results() -> dict[str, float]:
    """All figures of the server."""
    model = SurfaceModel.load(BUNDLE, provider="cpu", threads=1)
    with serving() as port:
        found = {**decoding(port, model), **beside_triton(port, model), **sampling(port, model)}
        return {**found, **loaded(port, model, found["serve_decode_binary_per_second"])}


def decoding(port: int, model: SurfaceModel) -> dict[str, float]:
    """Requests a second to decode one surface, beside a route that echoes its body and beside MLflow's own server."""
    z = np.random.default_rng(1).standard_normal((1, model.latents)).astype(np.float32)
    binary, plain = infer(z, binary=True), infer(z, binary=False)
    with mlflow_serving() as other:
        rates = rates_in_turns(
            {
                "echo": (port, post("/echo", binary.partition(b"\r\n\r\n")[2])),
                "binary": (port, binary),
                "json": (port, plain),
                "mlflow": (other, post("/invocations", json.dumps({"inputs": {"z": z.tolist()}}).encode(), _JSON)),
            }
        )
    return {
        "serve_echo_per_second": rates["echo"],
        "serve_decode_binary_per_second": rates["binary"],
        "serve_decode_json_per_second": rates["json"],
        "mlflow_serve_decode_per_second": rates["mlflow"],
        "serve_decode_share_of_echo": rates["binary"] / rates["echo"],
        "serve_decode_binary_ratio_to_mlflow": rates["binary"] / rates["mlflow"],
        "serve_decode_json_ratio_to_mlflow": rates["json"] / rates["mlflow"],
    }


def beside_triton(port: int, model: SurfaceModel) -> dict[str, float]:
    """Requests a second to decode one surface, beside a real Triton with a backend in Python, where there is one."""
    request = infer(np.zeros((1, model.latents), np.float32), binary=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            repository.write(BUNDLE, Path(folder))
            with triton.serving(Path(folder)) as ports:
                rates, costs = costs_in_turns({"ours": (port, request), "triton": (ports.http, request)})
    except InputError as error:
        print(f"Triton was left out: {error}", file=sys.stderr)
        return {}
    return {
        "triton_python_decode_binary_per_second": rates["triton"],
        "triton_python_decode_binary_cpu_us": 1e6 * costs["triton"],
        "serve_decode_binary_cpu_us": 1e6 * costs["ours"],
        "serve_decode_binary_ratio_to_triton_python": rates["ours"] / rates["triton"],
        "serve_decode_binary_cpu_ratio_to_triton_python": costs["triton"] / costs["ours"],
    }


def sampling(port: int, model: SurfaceModel) -> dict[str, float]:
    """Samples a second by HTTP, and by a call in this process."""
    head = {"accept": "application/octet-stream", **_JSON}
    request = post("/sample", json.dumps({"count": _SAMPLES, "seed": 7}).encode(), head)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        size = len(exchange(connection, request))
        received = bytearray(size)
        seconds = in_turns(
            {
                "http": partial(exchange_into, connection, request, received),
                "call": partial(model.sample, _SAMPLES, seed=7),
            },
            repeats=1,
            rounds=100,
        )
    surfaces = np.frombuffer(received[-4 * _SAMPLES * model.grid.shape[0] * model.grid.shape[1] :], np.float32)
    assert np.array_equal(surfaces, model.sample(_SAMPLES, seed=7).ravel())
    return {
        f"serve_sample_{_SAMPLES}_ms": 1e3 * seconds["http"],
        f"serve_sample_{_SAMPLES}_share_of_call": seconds["call"] / seconds["http"],
    }


def loaded(port: int, model: SurfaceModel, capacity: float) -> dict[str, float]:
    """Latency under requests at random moments, at 70 % and at 200 % of capacity, answered or not (an open loop)."""
    request = infer(np.zeros((1, model.latents), np.float32), binary=True)
    found: dict[str, float] = {}
    for percent, connections in ((70, 64), (200, _MANY)):
        with _on_client_core():
            outcome = open_loop(port, request, rate=capacity * percent / 100, connections=connections)
        for name, quantile in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
            found[f"serve_load_{percent}_ms_{name}"] = 1e3 * float(np.quantile(outcome.served, quantile))
        first, *_, last = np.array_split(outcome.served, 3)
        found[f"serve_load_{percent}_growth_of_p50"] = float(np.median(last) / np.median(first))
        found[f"serve_load_{percent}_ms_sent_late_p99"] = 1e3 * float(np.quantile(outcome.late, 0.99))
        found[f"serve_load_{percent}_answered_share_of_capacity"] = len(outcome.served) / _LOAD_SECONDS / capacity
        found[f"serve_load_{percent}_refused_percent"] = 100.0 * outcome.refused / len(outcome.late)
        found[f"serve_load_{percent}_failed"] = float(outcome.failed)
    return found


_JSON = {"content-type": "application/json"}


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """An HTTP request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer(z: np.ndarray, *, binary: bool) -> bytes:
    """A request to the decoder as bytes."""
    tensor: dict[str, Any] = {"name": "z", "shape": list(z.shape), "datatype": "FP32"}
    tensor |= {"parameters": {"binary_data_size": z.nbytes}} if binary else {"data": z.ravel().tolist()}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": binary}}).encode()
    if not binary:
        return post("/v2/models/decoder/infer", head, _JSON)
    return post("/v2/models/decoder/infer", head + z.tobytes(), {"inference-header-content-length": str(len(head))})


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and receive the whole answer."""
    connection.sendall(request)
    answer = b""
    while len(answer) < (size := answer_size(answer)):
        answer += connection.recv(min(2**20, size - len(answer)))
    return answer


def exchange_into(connection: socket.socket, request: bytes, answer: bytearray) -> None:
    """Send a request and receive an answer whose size is known into a buffer."""
    connection.sendall(request)
    rest = memoryview(answer)
    while rest:
        rest = rest[connection.recv_into(rest) :]


def answer_size(start: bytes) -> int:
    """The size of an answer in bytes, with its head, read from its first bytes."""
    head, end, _ = start.partition(b"\r\n\r\n")
    if not end:
        return len(start) + 1
    (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + len(end) + int(length.partition(b":")[2])


def rates_in_turns(targets: dict[str, tuple[int, bytes]]) -> dict[str, float]:
    """The median of the answers a second of each target, each with a few connections."""
    return costs_in_turns(targets)[0]


def costs_in_turns(targets: dict[str, tuple[int, bytes]]) -> tuple[dict[str, float], dict[str, float]]:
    """The same, and the seconds of processors that the processes of a target take for an answer.

    Targets are children of this process, of which one works at a time. A server that runs in several threads answers
    more a second on idle cores, and fewer answers a core.
    """
    rates: dict[str, list[float]] = {name: [] for name in targets}
    costs: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(_ROUNDS):
        for name, (port, request) in targets.items():
            before = _seconds_of_children()
            with _on_client_core():
                rate = closed_loop(port, request)
            rates[name].append(rate)
            costs[name].append((_seconds_of_children() - before) / (rate * _SECONDS))
    return {name: median(each) for name, each in rates.items()}, {name: median(each) for name, each in costs.items()}


def _seconds_of_children() -> float:
    """Seconds of the processor that the children of this process have taken; those that have ended do not count."""
    return sum(map(_seconds_of, psutil.Process().children(recursive=True)))


def _seconds_of(child: psutil.Process) -> float:
    try:
        user, system, *_ = child.cpu_times()
    except psutil.NoSuchProcess:  # it ended since it was listed
        return 0.0
    return float(user + system)


def closed_loop(port: int, request: bytes) -> float:
    """Answers a second where each connection sends its next request as soon as it has an answer (a closed loop)."""
    with connected(port, _CONNECTIONS) as connections, selectors.DefaultSelector() as ready:
        size = len(exchange(connections[0], request))
        missing = dict.fromkeys(connections, size)
        for connection in connections:
            ready.register(connection, selectors.EVENT_READ)
            connection.sendall(request)
        answers, end = 0, (start := time.perf_counter()) + _SECONDS
        while (now := time.perf_counter()) < end:
            for key, _ in ready.select():
                answered = key.fileobj
                assert isinstance(answered, socket.socket)
                missing[answered] -= len(answered.recv(65536))
                if not missing[answered]:
                    answers += 1
                    missing[answered] = size
                    answered.sendall(request)
        return answers / (now - start)


class Outcome(NamedTuple):
    """The outcome of requests at random moments.

    Attributes:
        served: seconds from the moment at which a request was due until its answer.
        late: seconds from the moment at which a request was due until it was sent: the delay of the client.
        refused: number of answers with the status 429.
        failed: number of requests with another status, or without an answer.
    """

    served: list[float]
    late: list[float]
    refused: int
    failed: int


def open_loop(port: int, request: bytes, *, rate: float, connections: int) -> Outcome:
    """Send requests at random moments. One that is due while all connections are busy waits, which counts."""
    gaps = np.random.default_rng(1).exponential(1.0 / rate, int(rate * _LOAD_SECONDS))
    due = deque(np.cumsum(gaps).tolist())
    served, late, others = [], [], Counter[bytes]()
    with connected(port, connections) as sockets, closing(select.epoll()) as ready, uncollected():
        sizes = {b"200": max(len(exchange(connection, request)) for connection in sockets)}  # which are accepted then
        by_number = {connection.fileno(): connection for connection in sockets}
        free, asked, answers = list(by_number), {}, dict.fromkeys(by_number, b"")
        for number in by_number:
            ready.register(number, select.EPOLLIN)
        start = time.perf_counter()
        while (now := time.perf_counter() - start) < _LOAD_SECONDS:
            while due and free and due[0] <= now:
                number = free.pop()  # the warmest, as pools do
                asked[number] = due.popleft()
                by_number[number].send(request)
                late.append(now - asked[number])
            for number, _ in ready.poll(0):
                part = by_number[number].recv(8192)
                if not part:
                    others[b"closed"] += 1
                    ready.unregister(number)
                    continue
                answer = answers[number] + part
                status = answer[9:12]
                if len(answer) < (sizes.get(status) or sizes.setdefault(status, answer_size(answer))):
                    answers[number] = answer
                    continue
                free.append(number)
                answers[number] = b""
                if status == b"200":
                    served.append(time.perf_counter() - start - asked[number])
                else:
                    others[status] += 1
    return Outcome(served, late, refused=others.pop(b"429", 0), failed=others.total())


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch the garbage collector off, whose pauses would count as the server's."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def connected(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Open connections to a port, ``number`` of them."""
    found = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
    try:
        yield found
    finally:
        for connection in found:
            connection.close()


@contextmanager
def serving() -> Iterator[int]:
    """Run the server with one worker and a route /echo. Yields its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(listener,))
        process.start()
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.join(_SECONDS_TO_END)
            process.kill()
            process.join()


@contextmanager
def _on_client_core() -> Iterator[None]:
    """Keep the client off the core of the server; other servers may use all cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _serve(listener: socket.socket) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    with temporary_folder("volvae-benchmark-") as folder, metrics.shared(folder):
        service = worker.ready(Settings(BUNDLE), folder / "tried")
        routes = [route("/echo", echo, "POST"), *app.routes(service)]
        worker.Worker(service, app.application(service, routes), SimpleNamespace(value=0.0)).run([listener])


@contextmanager
def mlflow_serving() -> Iterator[int]:
    """Run `mlflow models serve` on the same decoder with one worker. Yields its port."""
    import mlflow.onnx  # noqa: PLC0415 - takes seconds
    import onnx  # noqa: PLC0415

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/decoder"
        mlflow.onnx.save_model(onnx.load(BUNDLE / bundle.DECODER), path)
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", path, "--env-manager", "local"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--port", str(port), "--workers", "1"], stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait(process, f"http://127.0.0.1:{port}/ping", Path(log.name))
            yield port
        finally:
            end(process)


if __name__ == "__main__":
    from benchmarks import card

    card.show(results())
