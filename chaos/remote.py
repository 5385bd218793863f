"""A registry on a server that is away, restarted, busy or slow, or whose answer is lost, at the n-th request.

The server is MLflow's own, in a process beside the transaction, over a copy of the template. Between it and its clients
stands a function that loses requests and answers.
"""

import contextlib
import importlib
import itertools
import multiprocessing
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from chaos import faults, nth_call
from chaos.nth_call import PROJECT, Row, Whole
from chaos.spread import Violation, spread
from chaos.subjects import Strike, Subject, register_versions, registered

_NEVER = 2**62  # the number of no request
_PATIENCE = 10  # seconds after which a client gives a request up, and asks again ...
_LATE = 12.0  # ... as it does where the answer comes so late
_SERVER = {
    "_MLFLOW_SERVER_FILE_STORE": "sqlite:///mlflow.db",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "mlartifacts",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
}
_CLIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(_PATIENCE), "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]  # as PEP 3333 has it


class Loss(NamedTuple):
    """A fate of the n-th request.

    Attributes:
        name: in tables.
        done: whether the server does what it is asked.
        late: seconds until its end is lost.
        busy: whether it is answered, by 503.
        lasting: whether the same becomes of all requests after it.
    """

    name: str
    done: bool = False
    late: float = 0.0
    busy: bool = False
    lasting: bool = False


LOSSES = (
    Loss("registry away", lasting=True),
    Loss("registry restarted"),
    Loss("registry busy", busy=True),
    Loss("answer lost", done=True),
    Loss("registry slow", done=True, late=_LATE),
)


def rows(
    subjects: Sequence[Subject], folder: Path, chosen: Sequence[Loss], *, most: int, seed: int, workers: int
) -> Iterator[Row]:
    """One row a subject and loss; of more than ``most`` requests some are drawn."""
    for subject in subjects:
        expected = nth_call.whole(subject, folder)
        for loss in chosen:
            if loss.lasting and subject.name == "exchange":  # whose next look would need the registry
                continue
            nth_call.fresh(subject, folder)
            outcome = faults.run(partial(_struck, subject, loss, _NEVER), folder / PROJECT)
            count = int(str(outcome.result))
            drawn = random.Random(f"{seed} {subject.name} {loss.name}")  # noqa: S311 - no secret
            picked = sorted(drawn.sample(range(1, count + 1), min(count, most)))
            found = spread(partial(_check, subject, loss, expected), picked, folder, workers=workers)
            yield Row(subject.name, loss.name, count, len(picked), found)


def of_server(registry: Sequence[Subject], folder: Path, bundle: Path) -> list[Subject]:
    """The transactions on versions, on a server; the template is made unless it is there."""

    def versions(strike: Strike) -> None:
        with served():
            register_versions(bundle, strike)

    importlib.import_module("mlflow.server")  # once, as it takes seconds
    template = registered(folder / "on_server", versions)
    return [_on_server(subject, template) for subject in registry]


def _on_server(subject: Subject, template: Path) -> Subject:
    def served_work(strike: Strike) -> object:
        with served():
            return subject.work(strike)

    def served_state(strike: Strike) -> dict[str, object]:
        with served():
            return dict(subject.state(strike))

    return subject._replace(template=template, work=served_work, state=served_state)


def _check(subject: Subject, loss: Loss, expected: Whole, n: int, folder: Path) -> Iterator[Violation]:
    name = f"{subject.name}:{loss.name}:{n}"
    nth_call.fresh(subject, folder)
    struck = faults.run(partial(_struck, subject, loss, n), folder / PROJECT)
    if struck.code and not loss.lasting:
        yield Violation("the work goes on", name, f"exit {struck.code}: {struck.said.strip()[-300:]}")
    elif struck.code:
        yield from nth_call.one_line(name, struck)
    yield from nth_call.afterwards(subject, folder, name, struck, expected)


def _struck(subject: Subject, loss: Loss, n: int, strike: Strike) -> int:
    """Do the work on a server that loses the n-th request; the number of requests."""
    with served(loss, n) as requests:
        subject.work(strike)
        return int(requests.value)


@contextlib.contextmanager
def served(loss: Loss | None = None, n: int = _NEVER) -> Iterator[Any]:
    """Run a server over the store of the current folder, which the environment names; how many requests came."""
    requests = multiprocessing.Value("l", 0)
    if "MLFLOW_TRACKING_URI" in os.environ:  # of the block around this one
        yield requests
        return
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, _set(_SERVER | _CLIENT):
        server = os.fork()
        if not server:
            _serve(listener, loss, n, requests)
        with _set({"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{listener.getsockname()[1]}"}):
            try:
                yield requests
            finally:
                os.kill(server, signal.SIGKILL)
                os.waitpid(server, 0)


@contextlib.contextmanager
def _set(values: dict[str, str]) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def _serve(listener: socket.socket, loss: Loss | None, n: int, requests: Any) -> None:  # noqa: ANN401  has no type
    from mlflow.server import app  # noqa: PLC0415  takes seconds
    from werkzeug.serving import make_server  # noqa: PLC0415

    with faults.silenced():
        answer = app if loss is None else _losing(app, loss, n, requests)
        make_server("127.0.0.1", 0, answer, threaded=True, fd=listener.fileno()).serve_forever()
    os._exit(1)


def _losing(app: Application, loss: Loss, n: int, requests: Any) -> Application:  # noqa: ANN401  as above
    numbers = itertools.count(1)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        number = next(numbers)
        with requests.get_lock():
            requests.value += 1
        if number != n and not (loss.lasting and number > n):
            return app(environ, start_response)
        if loss.busy:
            start_response(f"{HTTPStatus.SERVICE_UNAVAILABLE.value} busy", [("Content-Length", "0")])
            return []
        if loss.done:
            b"".join(app(environ, start_response))
        threading.Event().wait(loss.late)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError

    return answer
