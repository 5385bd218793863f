"""A model is replaced by another as a whole, under load, and never by one that cannot be served."""

import contextlib
import http.client
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import numpy as np
import onnx
import psutil
import pytest
from onnx import helper, numpy_helper
from prometheus_client import REGISTRY

from benchmarks.clients import clients
from chaos import tamper
from deploy.server import logs, trial
from deploy.server.metrics import Metrics
from deploy.server.priority import give_way
from deploy.server.reload import Follower, champion
from deploy.server.served import Fingerprint, fingerprint
from deploy.server.trial import Trials
from pipeline.files.atomic import point
from tests.bundles import with_scenarios, write_checksum
from tests.deploy.serving import Answer, Server, ask, decoder_request, serving, started, variant
from tests.services import wait_for
from vae import runtime
from vae.bundle import DECODER, GRAPHS, MANIFEST, SCENARIOS, SCORER, SIGNATURE, VERIFY_KEY, BundleError
from vae.runtime import SurfaceModel

_SWAPS, _CLIENTS = 30, 4
_FACTORS = {"one": 1.0, "double": 2.0, "half": 0.5}
_BINARY = "application/octet-stream"


@pytest.fixture(scope="module")
def variants(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by version, no two of which give one number alike."""
    folder = tmp_path_factory.mktemp("variants")
    return {name: variant(bundle, folder / name, factor=factor) for name, factor in _FACTORS.items()}


@pytest.fixture(scope="module")
def models(variants: dict[str, Path]) -> dict[str, SurfaceModel]:
    return {name: SurfaceModel.load(folder, provider="cpu", threads=1) for name, folder in variants.items()}


class Call(NamedTuple):
    """A request, what its answer says, and what it should say."""

    path: str
    body: str
    accept: str
    read: Callable[[Answer], tuple[str, np.ndarray]]
    expected: Callable[[SurfaceModel], np.ndarray]


def calls(model: SurfaceModel) -> list[Call]:
    """One of each kind."""
    z = np.linspace(-1.0, 1.0, 2 * model.latents, dtype=np.float32).reshape(2, -1)
    quotes = {"iv": [0.2, 0.22], "tenor": [0.5, 0.6], "log_moneyness": [0.0, -0.1]}
    iv = model.sample(2, seed=3)
    kept = {"count": 3, "seed": 7}
    streamed = {"count": 2500, "seed": 7}  # three pieces
    asked = json.loads(decoder_request(z))
    return [
        Call("/v2/models/decoder/infer", json.dumps(asked), "*/*", _inferred, lambda m: m.decode(z)),
        Call(
            "/v2/models/decoder/infer", json.dumps(asked | {"parameters": {"binary_data_output": True}}), "*/*",
            _inferred, lambda m: m.decode(z),
        ),
        Call("/sample", json.dumps(kept), "*/*", _field("iv"), lambda m: m.sample(**_of(kept))),
        Call("/sample", json.dumps(streamed), _BINARY, _streamed, lambda m: m.sample(**_of(streamed))),
        Call("/complete", json.dumps(quotes), "*/*", _field("iv"), lambda m: m.complete(**quotes).iv),
        Call(f"/bundle/{DECODER}", "", "*/*", _file, lambda m: np.frombuffer(m._graphs[DECODER]._content, np.uint8)),
        Call("/score", json.dumps({"iv": iv.tolist()}), "*/*", _field("nats"), lambda m: m.score(iv).nats),
    ]  # fmt: skip


def _of(asked: Mapping[str, int]) -> dict[str, int]:
    return {"n": asked["count"], "seed": asked["seed"]}


def _inferred(answer: Answer) -> tuple[str, np.ndarray]:
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    head = json.loads(answer.body[:length])
    (output,) = head["outputs"]
    data = output["data"] if "data" in output else np.frombuffer(answer.body[length:], "<f4")
    return head["model_version"], np.array(data, np.float32).reshape(output["shape"])


def _field(name: str) -> Callable[[Answer], tuple[str, np.ndarray]]:
    def read(answer: Answer) -> tuple[str, np.ndarray]:
        content = answer.json()
        assert content["model_version"] == answer.headers["volvae-model-version"]
        return content["model_version"], np.array(content[name], np.float32)

    return read


def _file(answer: Answer) -> tuple[str, np.ndarray]:
    return answer.headers["volvae-model-version"], np.frombuffer(answer.body, np.uint8)


def _streamed(answer: Answer) -> tuple[str, np.ndarray]:
    shape = tuple(map(int, answer.headers["volvae-shape"].split(",")))
    return answer.headers["volvae-model-version"], np.frombuffer(answer.body, "<f4").reshape(shape)


class Load:
    """Each kind of request again and again, and what it is answered.

    Attributes:
        seen: answers by kind and version.
        wrong: what was not answered, or not by the version that it names.
    """

    def __init__(self, server: Server, models: Mapping[str, SurfaceModel]) -> None:
        self.seen: Counter[tuple[int, str]] = Counter()
        self.wrong: list[str] = []
        self._server, self._calls = server, calls(models["one"])
        self._expected = {
            (kind, version): call.expected(model)
            for kind, call in enumerate(self._calls)
            for version, model in models.items()
        }

    def ask(self, done: threading.Event) -> None:
        """One client."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)) as connection:
            while not done.is_set():
                for kind, call in enumerate(self._calls):
                    method = "POST" if call.body else "GET"
                    try:
                        self._check(kind, call, ask(connection, method, call.path, call.body, {"accept": call.accept}))
                    except Exception as error:  # noqa: BLE001 - the test looks at it
                        self.wrong.append(f"{call.path}: {error!r}")
                        connection.close()

    def _check(self, kind: int, call: Call, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        version, found = call.read(answer)
        np.testing.assert_array_equal(found, self._expected[kind, version])
        self.seen[kind, version] += 1


@pytest.mark.slow
def test_swaps_under_load_mix_no_answer_and_fail_none(
    variants: dict[str, Path], models: dict[str, SurfaceModel], tmp_path: Path
) -> None:
    link = tmp_path / "current"
    point(link, variants["one"])
    names = [list(variants)[(swap + 1) % len(variants)] for swap in range(_SWAPS)]
    with serving(link, tmp_path, "--poll", "0.02") as server:
        load = Load(server, models)
        with clients(_CLIENTS, load.ask):
            for name in names:
                point(link, variants[name])
                wait_for(lambda name=name: server.version() == name, seconds=60, what=f"the version {name}")
        assert load.wrong == []
        assert len(load.seen) == 7 * len(variants), "each kind of request was answered by each version"
        found = server.metrics()
        assert found["volvae_swaps_total",] == _SWAPS
        assert found["volvae_refused_bundles_total",] == 0
        assert {name: found["volvae_workers", ("version", name)] for name in variants} == {
            name: float(name == names[-1]) for name in variants
        }
        assert [line["version"] for line in server.said("serves a model")] == ["one", *names]


def truncated(folder: Path) -> str:
    content = (folder / SCORER).read_bytes()
    (folder / SCORER).write_bytes(content[: len(content) // 2])
    return f"{SCORER} was altered"


def wrong_checksum(folder: Path) -> str:
    change(folder, files={DECODER: {"sha256": "0" * 64, "bytes": 1}})
    return f"{DECODER} was altered"


def other_format(folder: Path) -> str:
    change(folder, format=99)
    return "has format 99; this version of volvae reads format"


def no_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return "is not a bundle"


def half_a_manifest(folder: Path) -> str:
    content = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(content[: len(content) // 2])
    return "is not the manifest of a bundle"


def no_file(folder: Path) -> str:
    (folder / SCORER).unlink()
    return f"{SCORER} cannot be read"


def not_a_graph(folder: Path) -> str:
    (folder / DECODER).write_bytes(b"no graph")
    write_checksum(folder, DECODER)
    return f"cannot load {DECODER}"


def fails_when_called(folder: Path) -> str:
    """A scorer that onnxruntime loads, and that looks for a row which no call has."""
    model = onnx.load(folder / SCORER)
    last = next(node for node in model.graph.node if "nats" in node.output)
    last.output[list(last.output).index("nats")] = "whole"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**30], np.int64), "row"))
    model.graph.node.append(helper.make_node("Gather", ["whole", "row"], ["nats"]))
    (folder / SCORER).write_bytes(model.SerializeToString())
    write_checksum(folder, SCORER)
    return "cannot be run: "


def not_finite(folder: Path) -> str:
    variant(folder.rename(folder.with_name("finite")), folder, factor=float("nan"))
    return "gives values that are not finite"


def odd_values(folder: Path) -> str:
    change(folder, grid=[])
    return "is not the manifest of a bundle"


def nested(folder: Path) -> str:
    (folder / MANIFEST).write_text("[" * 100_000)
    return "recursion"


def too_large_a_number(folder: Path) -> str:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(re.sub(r'"latents": \d+', '"latents": 1e400', text))
    return "latents is inf; allowed: 1 to 1000000"


def other_kind(folder: Path) -> str:
    change(folder, kind="films")
    return "has kind 'films'; this version of volvae reads surfaces, vectors"


def too_few_points(folder: Path) -> str:
    scores = json.loads((folder / MANIFEST).read_text())["scores"]
    change(folder, scores=scores | {"fewest_points": -5})
    return "fewest_points is -5; allowed: 1 to 1000000"


def no_quantiles(folder: Path) -> str:
    scores = json.loads((folder / MANIFEST).read_text())["scores"]
    change(folder, scores=scores | {"distance": [math.nan] * 1001})
    return "the quantiles of distance are not 1001 finite numbers that grow"


def negative_vols(folder: Path) -> str:
    variant(folder.rename(folder.with_name("positive")), folder, factor=-1.0)
    return "the decoder gives vols for its middle surface that are not positive"


def after(folder: Path, name: str, output: str, *nodes: onnx.NodeProto, **constants: np.ndarray) -> None:
    """Append nodes to a graph, which make ``output`` of what it was, ``before``."""
    model = onnx.load(folder / name)
    last = next(node for node in model.graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "before"
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    model.graph.node.extend(nodes)
    (folder / name).write_bytes(model.SerializeToString())
    write_checksum(folder, name)


def scores_that_are_no_numbers(folder: Path) -> str:
    after(folder, SCORER, "misfit", helper.make_node("Mul", ["before", "nan"], ["misfit"]), nan=np.float32(np.nan))
    return "scorer gives values that are not finite"


def takes_all_memory(folder: Path) -> str:
    """Four gigabytes of zeros, which are added to the vols."""
    after(
        folder,
        DECODER,
        "iv",
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["before", "zero"], ["iv"]),
        shape=np.array([2**30]),
    )
    return "bad"  # the start of onnxruntime's bad allocation


def endless(folder: Path) -> str:
    """A decoder that passes its vols on and on."""
    flag, vols = (helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []), "passed")
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Identity", [vols], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("step", onnx.TensorProto.INT64, []),
            flag,
            helper.make_tensor_value_info(vols, onnx.TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", onnx.TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["many", "true", "before"], ["iv"], body=body)
    after(folder, DECODER, "iv", loop, many=np.array(2**62), true=np.ones((), np.bool_))
    return "its graphs do not end within"


def a_pipe(folder: Path) -> str:
    (folder / DECODER).unlink()
    os.mkfifo(folder / DECODER)
    return f"{DECODER} is not a regular file"


def a_manifest_that_is_a_pipe(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    return f"{MANIFEST} is not a regular file"


def a_device(folder: Path) -> str:
    (folder / SCORER).unlink()
    (folder / SCORER).symlink_to("/dev/zero")
    return f"{SCORER} is not a regular file"


def too_large_a_file(folder: Path) -> str:
    os.truncate(folder / DECODER, 2**40)  # of which the disk holds nothing
    return f"{DECODER} has {2**40} bytes; a file of a bundle has at most"


_FAULTS = (truncated, wrong_checksum, other_format, no_manifest, half_a_manifest, no_file, not_a_graph,
           fails_when_called, not_finite, odd_values, nested, too_large_a_number, other_kind, too_few_points,
           no_quantiles, negative_vols, scores_that_are_no_numbers, takes_all_memory, endless, a_pipe,
           a_manifest_that_is_a_pipe, a_device, too_large_a_file)  # fmt: skip


def change(folder: Path, **values: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why bundles were refused."""
    found: list[str] = []
    monkeypatch.setattr(logs, "warning", lambda _, *, reason: found.append(reason))
    return found


@pytest.fixture
def trials(variants: dict[str, Path], tmp_path: Path) -> Trials:
    """The variants are known to be fit."""
    found = Trials(tmp_path / "tried")
    for folder in variants.values():
        found.note_fit(fingerprint(folder))
    return found


@pytest.fixture
def follower(variants: dict[str, Path], counters: Metrics, trials: Trials, tmp_path: Path) -> Follower:
    """It serves the version one, through a link."""
    point(tmp_path / "current", variants["one"])
    found = Follower(champion(tmp_path / "current", counters), provider="cpu", threads=1, trials=trials)
    assert found.refresh()
    return found


def refused() -> float:
    return REGISTRY.get_sample_value("volvae_refused_bundles_total") or 0.0


@pytest.mark.parametrize(
    "spoil", [*_FAULTS[:3], *(pytest.param(spoil, marks=pytest.mark.slow) for spoil in _FAULTS[3:])]
)
def test_a_bundle_that_is_not_fit_is_refused_once_and_the_former_stays(
    spoil: Callable[[Path], str],
    follower: Follower,
    variants: dict[str, Path],
    tmp_path: Path,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if spoil is endless:
        monkeypatch.setattr(trial, "_SECONDS", 3.0)
    bad = tmp_path / "bad"
    shutil.copytree(variants["double"], bad)
    message, before = spoil(bad), refused()
    former = follower.served
    for _ in range(2):
        point(follower.folder, bad)
        for _ in range(3):
            assert not follower.refresh()
        assert follower.served is former
        point(follower.folder, variants["one"])
        assert follower.refresh()
        assert follower.served is former
    assert refused() == before + 2, "once each time that it came"
    assert len(warnings) == 2
    assert message in warnings[0]
    assert "\n" not in warnings[0]
    point(follower.folder, variants["double"])
    assert follower.refresh()
    assert follower.served.version == "double"


@pytest.mark.parametrize("name", [*GRAPHS, SCENARIOS])
def test_a_bundle_with_a_damaged_file_is_refused_before_its_trial(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As it may be a copy that is under way, for which no child need be started."""
    whole = with_scenarios(shutil.copytree(bundle, tmp_path / "bundle"))
    tried: list[Fingerprint] = []
    monkeypatch.setattr(trial, "_try", lambda found, *_: tried.append(found) or "")
    trials = Trials(tmp_path / "tried")
    damaged = shutil.copytree(whole, tmp_path / "damaged")
    (damaged / name).write_bytes((whole / name).read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"{name} was altered"):
        trials.check(fingerprint(damaged))
    assert tried == []
    trials.check(fingerprint(whole))
    assert tried == [fingerprint(whole)]


@pytest.mark.slow
def test_where_a_key_is_set_only_what_it_signed_is_taken(
    bundle: Path, counters: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and at each exchange; what a bundle lacks is found before its trial."""
    known = tamper.signed_bundles(bundle, tmp_path)
    monkeypatch.setenv(VERIFY_KEY, str(known.key))
    tried: list[str] = []
    monkeypatch.setattr(trial, "_try", lambda found, *_: tried.append(found.version) or "")
    point(tmp_path / "current", known.foreign)
    trials = Trials(tmp_path / "tried")
    follower = Follower(champion(tmp_path / "current", counters), provider="cpu", threads=1, trials=trials)
    assert not follower.refresh()
    point(tmp_path / "current", known.ours)
    assert follower.refresh()
    signature = (known.other / SIGNATURE).read_bytes()
    for content in (b"", (known.ours / SIGNATURE).read_bytes(), signature[:-1]):
        (known.other / SIGNATURE).write_bytes(content)
        point(tmp_path / "current", known.other)
        assert not follower.refresh()
        assert follower.served.version == "ours"
    (known.other / SIGNATURE).write_bytes(signature)
    assert follower.refresh()
    assert follower.served.version == "other"
    assert tried == ["ours", "other"]


@pytest.mark.parametrize("manifest_first", [True, False])
def test_a_bundle_that_arrives_in_pieces_is_served_when_it_is_whole(
    bundle: Path, variants: dict[str, Path], counters: Metrics, trials: Trials, tmp_path: Path, *, manifest_first: bool
) -> None:
    """Copied over the one that is served, with a look after each file, and one in the midst of each."""
    folder = tmp_path / "bundle"
    shutil.copytree(variants["one"], folder)
    follower = Follower(champion(folder, counters), provider="cpu", threads=1, trials=trials)
    assert follower.refresh()
    former = follower.served
    names = sorted((path.name for path in variants["double"].iterdir()), key=MANIFEST.__eq__, reverse=manifest_first)
    for name in names:
        content = (variants["double"] / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        follower.refresh()
        assert follower.served is former
        (folder / name).write_bytes(content)
        if name != names[-1]:
            follower.refresh()
            assert follower.served is former or not manifest_first
    assert follower.refresh()
    assert follower.served.version == fingerprint(variants["double"]).version != former.version
    z = np.ones((1, former.model.latents), np.float32)
    np.testing.assert_array_equal(follower.served.model.decode(z), 2.0 * former.model.decode(z))


def test_a_bundle_that_is_exchanged_while_it_is_read_is_read_again(
    follower: Follower, variants: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    """Else it would be served by the name of another."""
    folder, former, load = tmp_path / "bundle", follower.served, runtime.load
    shutil.copytree(variants["double"], folder)
    point(follower.folder, folder)

    def late(found: Path, **options: object) -> SurfaceModel:
        monkeypatch.setattr(runtime, "load", load)
        shutil.copytree(variants["half"], folder, dirs_exist_ok=True)
        return load(found, **options)

    monkeypatch.setattr(runtime, "load", late)
    assert not follower.refresh()
    assert follower.served is former
    assert warnings == [f"{folder} changed while it was read"]
    assert follower.refresh()
    np.testing.assert_array_equal(
        follower.served.model.sample(1, seed=1), SurfaceModel.load(variants["half"]).sample(1, seed=1)
    )


@pytest.fixture(scope="module")
def followed(variants: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server, and the link that it follows."""
    folder = tmp_path_factory.mktemp("followed")
    point(folder / "current", variants["one"])
    with serving(folder / "current", folder, "--poll", "0.05", "--workers", "2") as server:
        wait_for(lambda: len(server.said("serves a model")) == 2, seconds=60, what="both workers")
        yield server, folder / "current"


def refusals(server: Server) -> list[dict]:
    return server.said("a bundle is refused, the former stays")


@pytest.mark.slow
def test_a_server_says_why_it_refuses_and_takes_the_next_good_one(
    followed: tuple[Server, Path], variants: dict[str, Path], tmp_path: Path
) -> None:
    server, link = followed
    for number, spoil in enumerate((truncated, wrong_checksum, other_format, no_manifest), 1):
        bad = tmp_path / spoil.__name__
        shutil.copytree(variants["double"], bad)
        message = spoil(bad)
        point(link, bad)
        wait_for(lambda number=number: len(refusals(server)) == 2 * number, seconds=60, what="both workers' refusal")
        assert all(message in line["reason"] and line["level"] == "warning" for line in refusals(server)[-2:])
        assert server.metrics()["volvae_refused_bundles_total",] == 2 * number
        assert server.version() == "one"
        assert server.ask("POST", "/sample", "{}").headers["volvae-model-version"] == "one"
    point(link, variants["double"])
    wait_for(lambda: len(server.said("serves a model")) == 4, seconds=60, what="the next good one")
    assert {server.version() for _ in range(20)} == {"double"}
    assert server.metrics()["volvae_swaps_total",] == 2


def priorities(process: psutil.Process) -> dict[int, int]:
    """The nice value of each thread, field 19 of its stat; see proc(5)."""
    stats = {int(path.parent.name): path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/stat")}
    return {thread: int(stat.rpartition(")")[2].split()[16]) for thread, stat in stats.items()}


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority of each thread")
USUAL = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize("threads", [1, 2])
def test_what_looks_for_models_gives_way_to_requests(threads: int, variants: dict[str, Path], tmp_path: Path) -> None:
    """Not where onnxruntime would keep the priority for threads of its own."""
    point(tmp_path / "current", variants["one"])
    with serving(tmp_path / "current", tmp_path, "--poll", "0.05", "--threads", str(threads)) as server:
        point(tmp_path / "current", variants["half"])
        wait_for(lambda: server.version() == "half", seconds=60, what="the exchange")
        found = [priorities(worker) for worker in psutil.Process(server.process.pid).children(recursive=True)]
        lower = {max(10, USUAL)} if threads == 1 else set()
        assert {nice for of_threads in found for nice in of_threads.values()} == {USUAL} | lower
        assert all(of_threads[min(of_threads)] == USUAL for of_threads in found)  # where requests are answered


@linux_only
def test_a_trial_gives_way_no_more_than_what_looks_for_models() -> None:
    """Else it would take a hundredth of a busy core, and end for lack of time."""
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        there = pool.submit(priority_in_child).result()
    assert there == max(10, USUAL)


def priority_in_child() -> int:
    """The nice value of a child that gives way, as the trial does."""
    code = "import os; from deploy.server.priority import give_way; give_way(); print(os.getpriority(0, 0))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@linux_only
def test_where_priorities_are_forbidden_the_usual_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a filter of system calls; the server would look for no model any more."""
    forbidden = Mock(side_effect=PermissionError)
    monkeypatch.setattr(os, "setpriority", forbidden)
    give_way()
    forbidden.assert_called_once()


@pytest.fixture
def never_ending(variants: dict[str, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "never_ending"
    shutil.copytree(variants["double"], folder)
    endless(folder)
    return folder


@pytest.mark.slow
def test_sigterm_ends_a_start_whose_model_is_tried_still(never_ending: Path, tmp_path: Path) -> None:
    with started(never_ending, tmp_path) as server:
        wait_for(lambda: processes(server) > 1, seconds=60, what="the trial")  # one removes the temporary folder
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert not server.said("listens")


@pytest.mark.slow
def test_a_server_goes_on_and_ends_while_a_model_is_tried(
    never_ending: Path, variants: dict[str, Path], tmp_path: Path
) -> None:
    link = tmp_path / "current"
    point(link, variants["one"])
    with serving(link, tmp_path, "--poll", "0.05", "--drain", "0", "--grace", "1") as server:
        before = processes(server)
        point(link, never_ending)
        wait_for(lambda: processes(server) > before, seconds=60, what="the trial")
        assert server.version() == "one"
        assert server.ask("POST", "/sample", "{}").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert not server.said("a worker did not finish and is killed")


@pytest.mark.slow
def test_the_next_good_model_does_not_wait_for_a_trial_without_end(
    follower: Follower,
    never_ending: Path,
    variants: dict[str, Path],
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "_SECONDS", 1e6)
    point(follower.folder, never_ending)
    exchange = threading.Timer(2.0, point, (follower.folder, variants["double"]))
    exchange.start()
    assert not follower.refresh()
    exchange.join()
    assert warnings == [f"{never_ending} was replaced before its trial ended"]
    assert follower.refresh()
    assert follower.served.version == "double"


def test_one_trial_does_for_all_workers(
    variants: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tried, both = fingerprint(variants["double"]), [], threading.Event()
    ours, theirs = Trials(tmp_path), Trials(tmp_path)  # as those of two workers

    def fails(_: Fingerprint, check_wanted: Callable[[], None], __: object) -> str:
        tried.append(1)
        both.wait(60.0)
        check_wanted()
        return "it is not fit"

    def wanted() -> bool:  # asked by the one that waits for the other
        both.set()
        return True

    monkeypatch.setattr(trial, "_try", fails)
    monkeypatch.setattr(trial, "_REST", 1e6)
    with ThreadPoolExecutor() as pool:
        for outcome in [pool.submit(trials.check, found, wanted) for trials in (ours, theirs)]:
            assert str(outcome.exception()) == "it is not fit"
    assert tried == [1]


@pytest.mark.parametrize("left", ["", '["it is n'])
def test_a_trial_whose_worker_was_killed_is_done_by_the_next(
    left: str, variants: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tried = fingerprint(variants["double"]), []
    (tmp_path / found.manifest).write_text(left)
    monkeypatch.setattr(trial, "_try", lambda *_: tried.append(1) or "")
    for _ in range(2):
        Trials(tmp_path).check(found)
    assert tried == [1]


def test_a_trial_that_another_bundle_ended_says_nothing_of_its_own(
    variants: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, found = Trials(tmp_path), fingerprint(variants["double"])
    monkeypatch.setattr(trial, "_try", lambda _, check_wanted, __: check_wanted() or "")
    with pytest.raises(BundleError, match="was replaced before its trial ended"):
        trials.check(found, lambda: False)
    trials.check(found)


def test_outcomes_of_old_are_forgotten(
    variants: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_try", lambda *_: "")
    monkeypatch.setattr(trial, "_KEPT", 2)
    trials, found = Trials(tmp_path), [fingerprint(folder) for folder in variants.values()]
    for age, one in zip((2, 1, 0), found, strict=True):
        trials.check(one)
        os.utime(tmp_path / one.manifest, (1000 - age, 1000 - age))
    assert {path.name for path in tmp_path.iterdir()} == {one.manifest for one in found[1:]}


def processes(server: Server) -> int:
    """Python's children of the supervisor and of its workers; one that multiprocessing needs counts, too."""
    return len(psutil.Process(server.process.pid).children(recursive=True))


@pytest.mark.slow
def test_a_bundle_that_failed_is_not_tried_again_at_each_look(
    follower: Follower, variants: dict[str, Path], tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial takes a second of a core, and the folder is looked at every other second."""
    bad, tried, really = tmp_path / "bad", [], trial._try
    shutil.copytree(variants["double"], bad)
    negative_vols(bad)
    monkeypatch.setattr(trial, "_REST", 1e6)
    monkeypatch.setattr(trial, "_try", lambda *arguments: tried.append(1) or really(*arguments))
    point(follower.folder, bad)
    for _ in range(5):
        assert not follower.refresh()
    assert len(tried) == len(warnings) == 1
    trials_file = tmp_path / "tried" / fingerprint(bad).manifest
    trials_file.write_text(json.dumps([warnings[0], 0.0]))  # the time is over
    assert not follower.refresh()
    assert len(tried) == 2


@pytest.mark.parametrize("name", ["模型-1", "a\nb", "a\x01", " blank"])
def test_a_version_that_no_header_can_carry_is_refused(
    name: str, follower: Follower, variants: dict[str, Path], tmp_path: Path, warnings: list[str]
) -> None:
    shutil.copytree(variants["double"], tmp_path / name)
    point(follower.folder, tmp_path / name)
    assert not follower.refresh()
    assert "must be printable ASCII" in warnings[0]
    assert follower.served.version == "one"


def test_a_trial_that_ends_without_a_word_is_explained() -> None:
    assert trial._end(-signal.SIGXCPU) == "its graphs do not end within 30 s of processor time"
    assert trial._end(-signal.SIGSEGV) == "it ends the process with code -11, or takes more than 2048 MiB"
