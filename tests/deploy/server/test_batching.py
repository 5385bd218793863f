"""Calls that are joined, late, unreadable or left: each caller gets its own, or its own refusal."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from deploy.server import batching, endpoints
from deploy.server.batching import Engine
from deploy.server.endpoints import Endpoint, Tensor
from deploy.server.errors import LateError, RefusedError
from deploy.server.metrics import Metrics
from tests.deploy.serving import inputs_of, serving
from vae.runtime import SurfaceModel

_BATCHED = ("decoder", "encoder", "scorer")
Feeds = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def found(model: SurfaceModel) -> dict[str, Endpoint]:
    return endpoints.make_endpoints(model)


def of_rows(model: SurfaceModel, name: str, rows: list[int]) -> list[Feeds]:
    """Calls of so many rows, no two rows alike."""
    draws = model.draw(sum(rows), seed=9)
    values = draws.latents if name == "decoder" else np.maximum(draws.iv, 0.01)  # the tiny model draws some below 0
    parts = np.split(values, np.cumsum(rows)[:-1])
    return [{"z" if name == "decoder" else "iv": part, **_mask(model, name, part)} for part in parts]


def _mask(model: SurfaceModel, name: str, iv: np.ndarray) -> Feeds:
    if name == "decoder" or not model.manifest["reads_missing"]:
        return {}
    mask = np.ones_like(iv)
    mask[:, 0, 1] = 0.0
    return {"mask": mask}


def run(counters: Metrics, work: Callable[[Engine], Awaitable[object]], *, deadline: float = 60.0) -> object:
    async def main() -> object:
        return await work(Engine(deadline=deadline, metrics=counters))

    return asyncio.run(main())


def together(counters: Metrics, endpoint: Endpoint, calls: list[Feeds]) -> list[dict | BaseException]:
    """Outcomes of calls that are made in one turn of the event loop."""
    return run(
        counters,
        lambda engine: asyncio.gather(
            *(engine.call(endpoint, c, engine.deadline()) for c in calls), return_exceptions=True
        ),
    )


def alone(counters: Metrics, endpoint: Endpoint, feeds: Feeds) -> dict[str, np.ndarray]:
    return run(counters, lambda engine: engine.call(endpoint, feeds, engine.deadline()))


def called(name: str) -> float:
    """Calls of a model so far."""
    return REGISTRY.get_sample_value("volvae_rows_count", {"model": name}) or 0.0


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("name", _BATCHED)
@pytest.mark.parametrize("rows", [[1] * 20, [3, 1, 40, 7, 1, 64, 2], [64] * 4], ids=["ones", "mixed", "most"])
def test_joined_calls_give_each_caller_the_rows_of_a_call_alone(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics, name: str, rows: list[int]
) -> None:
    calls = of_rows(model, name, rows)
    before = called(name)
    answers = together(counters, found[name], calls)
    assert called(name) == before + 1, "they are one call"
    for answer, feeds in zip(answers, calls, strict=True):
        same(answer, alone(counters, found[name], feeds))


def coming(counters: Metrics, endpoint: Endpoint, calls: list[Feeds]) -> list[dict[str, np.ndarray]]:
    """Outcomes of calls that are made one per turn of the event loop."""

    async def work(engine: Engine) -> list[dict[str, np.ndarray]]:
        tasks = []
        for feeds in calls:
            tasks.append(asyncio.create_task(engine.call(endpoint, feeds, engine.deadline())))
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    return run(counters, work)


def test_calls_are_joined_as_long_as_each_turn_brings_another(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics
) -> None:
    calls = of_rows(model, "decoder", [1, 2, 1, 3])
    before = called("decoder")
    answers = coming(counters, found["decoder"], calls)
    assert called("decoder") == before + 1
    for answer, feeds in zip(answers, calls, strict=True):
        same(answer, alone(counters, found["decoder"], feeds))


def test_none_waits_for_a_stream_of_others_to_end(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics
) -> None:
    calls = of_rows(model, "decoder", [1] * 200)
    before = called("decoder")
    answers = coming(counters, found["decoder"], calls)
    assert called("decoder") - before >= 200 // 64
    same(answers[-1], alone(counters, found["decoder"], calls[-1]))


def test_calls_that_cannot_be_joined_are_not(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics
) -> None:
    large = of_rows(model, "decoder", [65, 65])
    before = called("decoder"), called("sampler")
    together(counters, found["decoder"], large)
    sampler = inputs_of(model)["sampler"]
    for answer in together(counters, found["sampler"], [sampler, sampler]):
        same(answer, alone(counters, found["sampler"], sampler))
    assert (called("decoder"), called("sampler")) == (before[0] + 2, before[1] + 4)


def test_the_order_in_which_a_call_names_its_inputs_changes_nothing(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics
) -> None:
    (feeds,) = of_rows(model, "encoder", [2])
    turned = dict(reversed(feeds.items()))
    first, second = together(counters, found["encoder"], [feeds, turned])
    same(first, second)


@pytest.mark.parametrize("name", _BATCHED)
def test_one_that_cannot_be_read_spoils_none_of_the_others(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics, name: str
) -> None:
    calls = of_rows(model, name, [2, 1, 3])
    key = next(iter(calls[1]))
    calls[1] = {**calls[1], key: np.full_like(calls[1][key], np.inf)}
    first, spoilt, last = together(counters, found[name], calls)
    assert isinstance(spoilt, RefusedError)
    same(first, alone(counters, found[name], calls[0]))
    same(last, alone(counters, found[name], calls[2]))


class Slow:
    """A model that gives back what it gets when it is let go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        tensor = Tensor("x", "FP32", (endpoints.ANY,))
        self.endpoint = Endpoint("slow", (tensor,), (tensor,), self._call, most=2)

    def _call(self, inputs: Feeds) -> dict[str, np.ndarray]:
        self.begun.set()
        assert self.go_on.wait(30)
        return dict(inputs)


def numbers(*values: float) -> Feeds:
    return {"x": np.array(values, np.float32)}


def test_a_call_whose_deadline_passes_before_it_starts_or_between_its_parts_is_late(
    counters: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, ran, now = Slow(), [], [0.0]
    for module in (batching, endpoints):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def work(engine: Engine) -> list[object]:
        within = asyncio.create_task(engine.call(slow.endpoint, numbers(1, 2, 3), engine.deadline()))  # two parts
        await asyncio.to_thread(slow.begun.wait, 30)
        before = asyncio.create_task(engine.call(slow.endpoint, numbers(4), engine.deadline()))
        aside = asyncio.create_task(engine.in_thread(lambda: ran.append(1), engine.deadline()))
        await asyncio.sleep(0)  # both are called
        now[0] = 61.0
        slow.go_on.set()
        return await asyncio.gather(within, before, aside, return_exceptions=True)

    answers = run(counters, work, deadline=60.0)
    assert [type(answer) for answer in answers] == [LateError, LateError, LateError]
    assert ran == []


def test_a_caller_who_leaves_breaks_none_of_the_others(
    model: SurfaceModel, found: dict[str, Endpoint], counters: Metrics
) -> None:
    """Before the calls are joined, and while they run."""
    calls = of_rows(model, "decoder", [1, 1, 1])
    slow = Slow()

    async def work(engine: Engine) -> tuple[list[object], list[object]]:
        soon = [asyncio.create_task(engine.call(found["decoder"], feeds, engine.deadline())) for feeds in calls]
        await asyncio.sleep(0)
        soon[1].cancel()
        long = [
            asyncio.create_task(engine.call(slow.endpoint, numbers(value), engine.deadline())) for value in (1, 2, 3)
        ]
        await asyncio.to_thread(slow.begun.wait, 30)
        long[0].cancel()
        slow.go_on.set()
        return await asyncio.gather(*soon, return_exceptions=True), await asyncio.gather(*long, return_exceptions=True)

    soon, long = run(counters, work)
    assert isinstance(soon[1], asyncio.CancelledError)
    for number in (0, 2):
        same(soon[number], alone(counters, found["decoder"], calls[number]))
    assert isinstance(long[0], asyncio.CancelledError)
    assert [answer["x"].tolist() for answer in long[1:]] == [[2.0], [3.0]]


def test_less_than_no_rows_do_not_count(found: dict[str, Endpoint], counters: Metrics) -> None:
    def rows() -> float:
        return REGISTRY.get_sample_value("volvae_rows_sum", {"model": "sampler"}) or 0.0

    before = rows()
    with pytest.raises(RefusedError, match="n is -5"):
        alone(counters, found["sampler"], {"key": np.array([1], np.uint64), "count": np.array([-5])})
    assert rows() == before


def test_an_error_that_nobody_expects_reaches_its_caller(counters: Metrics) -> None:
    def fail(_: Feeds) -> dict[str, np.ndarray]:
        raise KeyError("of the model")

    tensor = Tensor("x", "FP32", (endpoints.ANY,))
    broken = Endpoint("broken", (tensor,), (tensor,), fail, most=10, quick=1)
    answers = together(counters, broken, [numbers(1), numbers(2), numbers(3)])
    assert [type(answer) for answer in answers] == [KeyError] * 3


@pytest.mark.slow
def test_a_late_answer_is_504_and_the_server_goes_on(bundle: Path, tmp_path: Path) -> None:
    tensors = [("key", "UINT64", 1), ("count", "INT64", 500_000)]
    inputs = [{"name": name, "datatype": kind, "shape": [1], "data": [value]} for name, kind, value in tensors]
    body = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    with serving(bundle, tmp_path, "--deadline", "0.01") as server:
        answer = server.ask("POST", "/v2/models/sampler/infer", body)
        assert answer.status == 504
        assert answer.json() == {"error": "there was no answer before the deadline"}
        assert server.ask("GET", "/v2").status == 200
        assert server.metrics()["volvae_queue",] == 0
