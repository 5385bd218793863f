"""The server as a process of its own, and bundles for it."""

import contextlib
import http.client
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families

from tests.bundles import write_checksum
from tests.services import answers, running, wait_for
from vae.bundle import COMPLETER, DECODER, SAMPLER, SCORER
from vae.runtime import SurfaceModel

ROOT = Path(__file__).parents[2]
VOLVAE = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]


class Server(NamedTuple):
    """A server that runs.

    Attributes:
        process: the supervisor.
        port: on loopback.
        log: its lines.
    """

    process: Popen
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def lines(self) -> list[dict]:
        """Its log so far, without a last line that is half written."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def said(self, message: str) -> list[dict]:
        return [line for line in self.lines() if line["message"] == message]

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> "Answer":
        """One request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            return ask(connection, method, path, body, headers)

    def post(self, path: str, values: object, accept: str | None = None) -> "Answer":
        """The answer to values in JSON, of the kind that Accept names if one is given."""
        return self.ask("POST", path, json.dumps(values), {"accept": accept} if accept else None)

    def metrics(self) -> dict[tuple, float]:
        """Values by name and labels."""
        families = text_string_to_metric_families(self.ask("GET", "/metrics").body.decode())
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    def version(self) -> str:
        return json.loads(self.ask("GET", "/v2/models/decoder").body)["versions"][0]


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    content = response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


@contextlib.contextmanager
def started(
    bundle: Path | str,
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """`volvae serve` on a free port, which it may not listen at yet; ``prefix`` is a command that starts it."""
    log = folder / "server.log"
    command = [*prefix, *VOLVAE, "serve", "--model", str(bundle), "--port", "0", *arguments]
    with running(command, ROOT, log, {"OMP_NUM_THREADS": "1", **(environment or {})}) as process:
        yield Server(process, 0, log)


def ready(server: Server) -> Server:
    """The same with its port, once it is ready."""

    def listens() -> bool:
        assert server.process.poll() is None, server.log.read_text()
        return bool(server.said("listens"))

    wait_for(listens, seconds=60, what="the server's socket")
    found = server._replace(port=server.said("listens")[0]["port"])
    wait_for(lambda: answers(f"http://{found.address}/v2/health/ready"), seconds=60, what="the server")
    return found


@contextlib.contextmanager
def serving(
    bundle: Path | str,
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """`volvae serve` on a free port, ready."""
    with started(bundle, folder, *arguments, environment=environment, prefix=prefix) as server:
        yield ready(server)


def decoder_request(z: np.ndarray) -> str:
    tensor = {"name": "z", "shape": list(z.shape), "datatype": "FP32", "data": z.ravel().tolist()}
    return json.dumps({"inputs": [tensor]})


def inputs_of(model: SurfaceModel) -> dict[str, dict[str, np.ndarray]]:
    """A call of each model, of two surfaces where it has rows, with a missing point where it may."""
    draws = model.draw(2, seed=5)
    mask = np.ones_like(draws.iv)
    mask[1, 0, 3] = 0.0
    masked = {"iv": draws.iv, **({"mask": mask} if model.manifest["reads_missing"] else {})}
    quotes = {
        "log_moneyness": np.array([0.0, -0.1, 9.0], np.float32),
        "tenor": np.array([0.5, 0.6, 0.5], np.float32),
        "iv": np.array([0.2, 0.21, 0.3], np.float32),
        "weight": np.ones(3, np.float32),
    }
    counted = {
        "key": np.array([2**64 - 3], np.uint64),
        "offset": np.array([11], np.int64),
        "count": np.array([3], np.int64),
        "temperature": np.array([0.5], np.float32),
        "standard_normal": np.array([False]),
    }
    return {"decoder": {"z": draws.latents}, "encoder": masked, "scorer": masked, "sampler": counted,
            "completer": quotes}  # fmt: skip


def variant(bundle: Path, folder: Path, *, factor: float) -> Path:
    """A copy of a bundle that gives vols, and log densities, times a factor."""
    shutil.copytree(bundle, folder)
    unscaled, by = f"before_{factor:g}", f"factor_{factor:g}"
    for name, output in ((DECODER, "iv"), (SAMPLER, "iv"), (COMPLETER, "surface"), (SCORER, "nats")):
        model = onnx.load(folder / name)
        last = next(node for node in model.graph.node if output in node.output)
        last.output[list(last.output).index(output)] = unscaled
        model.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), by))
        model.graph.node.append(helper.make_node("Mul", [unscaled, by], [output]))
        (folder / name).write_bytes(model.SerializeToString())
        write_checksum(folder, name)
    return folder
