import contextlib
import json
import socket
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from deploy.server import draws, endpoints, requests, surface_routes
from deploy.server.errors import LateError
from deploy.server.served import Served
from tests.deploy.serving import ROOT, Server, serving
from tests.services import wait_for
from vae.runtime import SurfaceModel

BINARY, LINES = "application/octet-stream", "application/x-ndjson"


def test_samples_in_json_are_those_of_the_runtime(server: Server, model: SurfaceModel) -> None:
    answer = server.post("/sample", {"count": 3, "seed": 7, "offset": 2, "temperature": 0.5})
    assert answer.status == 200
    found = answer.json()
    expected = model.sample(3, seed=7, offset=2, temperature=0.5)
    np.testing.assert_array_equal(np.array(found["iv"], np.float32), expected)
    assert found["grid"] == model.grid.to_dict()
    assert found["seed"] == 7
    assert found["model_version"] == answer.headers["volvae-model-version"] == server.version()


@pytest.mark.slow
def test_a_condition_in_percent_is_refused_by_every_route(market_bundle: Path, tmp_path: Path) -> None:
    """By the routes of surfaces and by those of graphs, which gRPC calls too."""
    graph = {
        "inputs": [
            {"name": "key", "datatype": "UINT64", "shape": [1], "data": [7]},
            {"name": "count", "datatype": "INT64", "shape": [1], "data": [1]},
            {"name": "conditions", "datatype": "FP32", "shape": [2], "data": [0.2, 25.0]},
        ]
    }
    with serving(market_bundle, tmp_path) as server:
        high = SurfaceModel.load(market_bundle, provider="cpu").condition_ranges["atm_level"][1]
        known = server.ask("GET", "/openapi.json").json()["components"]["schemas"]["Sample"]["properties"]
        assert known["conditions"]["properties"]["atm_level"]["maximum"] == high
        for path, asked in (("/sample", {"conditions": {"atm_level": 25.0}}), ("/v2/models/sampler/infer", graph)):
            answer = server.post(path, asked)
            assert answer.status == 400
            assert "the condition atm_level is 25; the model knows" in answer.json()["error"]


def test_samples_may_have_noise_and_another_prior(server: Server, model: SurfaceModel) -> None:
    asked = {"seed": 7, "prior": "standard_normal", "noise": True}
    found = np.array(server.post("/sample", {"count": 3, **asked}).json()["iv"], np.float32)
    np.testing.assert_array_equal(found, model.sample(3, **asked))
    assert (found != model.sample(3, seed=7, prior="standard_normal")).all()


def test_a_missing_seed_is_random_and_in_the_answer(server: Server, model: SurfaceModel) -> None:
    first, second = (server.post("/sample", {}).json() for _ in range(2))
    assert first["seed"] != second["seed"]
    np.testing.assert_array_equal(np.array(first["iv"], np.float32), model.sample(1, seed=first["seed"]))


@pytest.mark.parametrize("count", [1, 1024, 3000])
def test_samples_streamed_in_binary(server: Server, model: SurfaceModel, count: int) -> None:
    answer = server.post("/sample", {"count": count, "seed": 7}, BINARY)
    assert answer.headers["content-type"] == BINARY
    shape = tuple(map(int, answer.headers["volvae-shape"].split(",")))
    assert shape == (count, *model.grid.shape)
    assert answer.headers["volvae-model-version"] == server.version()
    np.testing.assert_array_equal(np.frombuffer(answer.body, "<f4").reshape(shape), model.sample(count, seed=7))


def test_samples_streamed_in_lines(server: Server, model: SurfaceModel) -> None:
    answer = server.post("/sample", {"count": 150, "seed": 7, "offset": 5}, LINES)
    rows = [json.loads(line) for line in answer.body.splitlines()]
    assert [row["row"] for row in rows] == list(range(5, 155))
    np.testing.assert_array_equal(
        np.array([row["iv"] for row in rows], np.float32), model.sample(150, seed=7, offset=5)
    )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html, application/x-ndjson;q=0.5, application/octet-stream", LINES),
        ("APPLICATION/OCTET-STREAM", BINARY),
    ],
)
def test_the_first_kind_of_answer_that_a_request_names_is_given(server: Server, accept: str, kind: str) -> None:
    assert server.post("/sample", {}, accept).headers["content-type"] == kind


def test_a_surface_is_completed_as_by_the_runtime(server: Server, model: SurfaceModel) -> None:
    quotes = {"iv": [0.2, 0.22, 0.3], "tenor": [0.5, 0.6, 0.5], "log_moneyness": [0.0, -0.1, 9.0]}
    found, expected = server.post("/complete", quotes).json(), model.complete(**quotes)
    for name, values in expected._asdict().items():
        np.testing.assert_array_equal(np.array(found[name], np.asarray(values).dtype), values, err_msg=name)
    assert found["outside"] == expected.outside
    deltas = {"iv": [0.2], "tenor": [0.5], "call_delta": [0.5], "weight": [2.0]}
    np.testing.assert_array_equal(
        np.array(server.post("/complete", deltas).json()["iv"], np.float32), model.complete(**deltas).iv
    )


def test_surfaces_are_scored_as_by_the_runtime(server: Server, model: SurfaceModel) -> None:
    iv = model.sample(3, seed=1)
    iv[0, 0, 0] = np.nan
    sent = [[[None if np.isnan(vol) else float(vol) for vol in row] for row in surface] for surface in iv]
    found, expected = server.post("/score", {"iv": sent}).json(), model.score(iv)
    for name in ("nats", "misfit", "distance", "error"):
        np.testing.assert_array_equal(np.array(found[name], np.float32), getattr(expected, name))
    for name in ("percentile", "misfit_percentile", "distance_percentile", "error_percentile"):
        np.testing.assert_allclose(np.array(found[name], float), getattr(expected, name))
    assert found["odd"] == expected.odd.tolist()


@pytest.mark.parametrize(
    ("path", "values", "accept", "status", "message"),
    [
        ("/sample", {"count": 0}, None, 400, "Expected `int` >= 1 - at `$.count`"),
        ("/sample", {"number": 1}, None, 400, "unknown field `number`; allowed: count, seed, offset"),
        ("/sample", {"count": 10**7}, BINARY, 400, "count is 10000000; allowed: 1 to 1000000"),
        ("/sample", {"seed": 2**64}, None, 400, "allowed: 0 to 2^64 - 1"),
        ("/sample", {"seed": 2**64}, BINARY, 400, "allowed: 0 to 2^64 - 1"),
        ("/sample", {"conditions": {"skew": 1}}, None, 400, "'skew' is not a condition; allowed: none"),
        ("/sample", {"market": "AUDUSD"}, None, 400, "no condition market, so it cannot be asked for 'AUDUSD'"),
        ("/complete", {"iv": [0.2], "tenor": [0.5], "log_moneyness": [0.0], "market": "A"}, None, 400, "asked for 'A'"),
        ("/sample", {}, "image/png", 406, "Accept may name application/json"),
        ("/complete", {"iv": [0.2], "tenor": [0.5]}, None, 400, "tenor and one of log_moneyness and call_delta"),
        ("/complete", {"iv": [0.2, 0.3], "tenor": [0.5, 0.6, 0.7], "log_moneyness": [0.0]}, None, 400, "differ in sha"),
        ("/complete", {"iv": [0.2], "tenor": [0.5], "log_moneyness": [0.9]}, None, 400, "no quote is within reach"),
        ("/complete", {"iv": [1e300], "tenor": [0.5], "log_moneyness": [0.0]}, None, 400, "the median vol 1e+300 is"),
        ("/complete", {"iv": [0.2], "tenor": [0.5], "log_moneyness": [1e300]}, None, 400, "in different units"),
        ("/complete", {"iv": [20, 24], "tenor": [0.5, 0.6], "log_moneyness": [0.0, 0.0]}, None, 400, "divide by 100"),
        ("/complete", {"iv": [0.2], "tenor": [182.0], "log_moneyness": [0.0]}, None, 400, "more than 50 years"),
        ("/complete", {"iv": [0.2], "tenor": [0.5], "call_delta": [50.0]}, None, 400, "deltas in percent"),
        ("/score", {"iv": [[[21.0] * 4] * 2]}, None, 400, "surface 0: the median vol 21 is 2100 %"),
        ("/score", {"iv": [[[0.2]]]}, None, 400, "[surface][tenor][node] of 2 tenors and 4 nodes"),
        ("/score", {"iv": [[[0.2], [0.2, 0.3]]]}, None, 400, "[surface][tenor][node] of 2 tenors and 4 nodes"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_line(
    server: Server, path: str, values: object, accept: str | None, status: int, message: str
) -> None:
    answer = server.post(path, values, accept)
    assert answer.status == status
    assert message in answer.json()["error"]


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    page = server.ask("GET", "/reference")
    assert page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    assert text == (ROOT / "deploy/explorer/reference.html").read_text()
    assert "://" not in text.replace("curl", "")


def test_examples_of_the_document_are_answered(server: Server) -> None:
    for path, operations in server.ask("GET", "/openapi.json").json()["paths"].items():
        example = operations["post"]["requestBody"]["content"]["application/json"]["example"]
        answer = server.post(path, example)
        if path == "/scenarios":  # tests/deploy/server/test_memory_routes.py asks a model that has one
            assert "no law of motion" in answer.json()["error"]
        else:
            assert answer.status == 200, path


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/sample", "/complete", "/score"])
def test_answers_are_those_of_the_document(server: Server, path: str) -> None:
    """Whatever is sent that the document allows: status, headers, kind and schema of the answer."""
    import schemathesis  # noqa: PLC0415  slow to import

    schema = schemathesis.openapi.from_url(f"http://{server.address}/openapi.json")

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=schema[path]["POST"].as_strategy())
    def check(case: schemathesis.Case) -> None:
        # a surface may have no known point, a quote may lie off the grid: the document cannot say so
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    check()


class Clock:
    """A clock that goes on by a second at each look."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        patch.setattr(endpoints.time, "monotonic", self)

    def __call__(self) -> float:
        self.looks += 1
        return float(self.looks)


def sent(values: object) -> surface_routes._Sent:
    return surface_routes._Sent(json.dumps(values).encode(), "application/json", "application/json", {}, 1)


def test_requests_end_at_their_deadline(model: SurfaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before each call of a graph, not only before the first."""
    iv = np.maximum(model.sample(2000, seed=1), 0.01).tolist()
    noisy = {"iv": [0.1, 0.4] * 50, "tenor": [0.4] * 100, "log_moneyness": [0.0] * 100}
    served = Served(Path(), model, {}, "one")
    rows = draws.Samples(served, requests.Sample(count=10_000, seed=1), 1)
    works = {
        "score": partial(surface_routes._scored, served, sent({"iv": iv})),
        "complete": partial(surface_routes._completed, None, served, sent(noisy)),
        "sample": rows.answer,
    }
    clock = Clock(monkeypatch)
    for name, work in works.items():
        clock.looks = 0
        assert work(1e9).status_code == 200
        assert clock.looks > 3, f"{name} takes several calls of graphs"
        clock.looks = 0
        with pytest.raises(LateError):
            work(2.0)
        assert clock.looks == 3, name


@pytest.mark.slow
def test_a_stream_whose_reader_waits_leaves_its_place_to_others(bundle: Path, tmp_path: Path) -> None:
    asked = b'{"count": 1000000, "seed": 1}'
    head = b"POST /sample HTTP/1.1\r\nHost: localhost\r\nAccept: %b\r\nContent-Length: %d\r\n\r\n"
    with serving(bundle, tmp_path, "--queue", "1", "--receive", "600") as server:
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as unread:
            unread.sendall(head % (BINARY.encode(), len(asked)) + asked)
            assert unread.recv(12) == b"HTTP/1.1 200"
            wait_for(lambda: server.post("/sample", {}).status == 200, seconds=30, what="a place in the queue")
            assert server.post("/sample", {}, BINARY).status == 429, "streams have a bound of their own"
        wait_for(lambda: server.post("/sample", {}, BINARY).status == 200, seconds=30, what="the stream's end")


def test_a_request_of_many_small_parts_is_refused_unread(server: Server) -> None:
    item = b"[[[1]]],"
    body = b'{"iv": [%b[]]}' % (item * (2**20 - 10))
    for path in ("/score", "/v2/models/decoder/infer"):
        answer = server.ask("POST", path, body)
        assert answer.status == 413
        assert "numbers or lists" in answer.json()["error"]
    assert server.ask("POST", "/sample", b'{"conditions": {%b"a": 1}}' % (b'"a": 1,' * 20_000)).status == 413


def test_a_refusal_quotes_no_more_of_a_request_than_a_line(server: Server) -> None:
    name = "x" * 100_000
    tensor = {"name": name, "shape": [1], "datatype": "FP32", "data": [1]}
    for path, body in (("/v2/models/decoder/infer", {"inputs": [tensor]}), ("/score", {"iv": [], name: 1})):
        answer = server.post(path, body)
        assert answer.status == 400
        assert len(answer.body) < 2000
