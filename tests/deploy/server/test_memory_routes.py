"""Completion from a state that the client keeps, and scenarios, over HTTP beside the runtime."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.server import answers, openapi
from deploy.server.answers import ARROW, PARQUET
from deploy.server.served import Served
from deploy.server.settings import Settings
from pipeline.files.surface_tables import write_scenarios
from tests.deploy.serving import Server
from vae.runtime import SurfaceModel

BINARY, LINES = "application/octet-stream", "application/x-ndjson"
_QUOTES = {"iv": [0.21, 0.2], "tenor": [0.1, 0.4], "log_moneyness": [0.0, 0.05]}

pytestmark = pytest.mark.slow


def test_a_client_keeps_the_state_between_completions(moving: Server, own: SurfaceModel) -> None:
    first = moving.post("/complete", {**_QUOTES, "previous": "newest"}).json()
    expected = own.complete(**_QUOTES, previous=own.state)
    assert expected.state is not None
    np.testing.assert_array_equal(np.array(first["iv"], np.float32), expected.iv)
    assert first["state"] == own.state_to_plain(expected.state)

    asked = {**_QUOTES, "previous": first["state"], "elapsed": 0.5, "log_return": -0.01}
    second = moving.post("/complete", asked).json()
    after = own.complete(**_QUOTES, previous=expected.state, elapsed=0.5, log_return=-0.01)
    np.testing.assert_array_equal(np.array(second["std"], np.float32), after.std)
    assert second["state"]["elapsed"] == 0.5
    assert moving.post("/complete", _QUOTES).json()["state"] is None


def test_scenarios_in_json_are_those_of_the_runtime(moving: Server, own: SurfaceModel) -> None:
    answer = moving.post("/scenarios", {"count": 3, "days": 2, "seed": 7, "offset": 2})
    assert answer.status == 200
    found, expected = answer.json(), own.scenarios(days=2, n=3, seed=7, offset=2)
    np.testing.assert_array_equal(np.array(found["iv"], np.float32), expected.iv)
    np.testing.assert_array_equal(np.array(found["log_return"], np.float32), expected.log_return)
    free = expected.arbitrage_free(own.grid)
    assert (found["arbitrage_free"], found["with_arbitrage"]) == (free.tolist(), 6)  # the last date has arbitrage
    assert found["dates"] == ["2020-06-01", "2020-06-02"]
    assert (found["seed"], found["grid"]) == (7, own.grid.to_dict())
    assert found["model_version"] == answer.headers["volvae-model-version"]


def test_scenarios_are_the_table_of_the_file(moving: Server, own: SurfaceModel, tmp_path: Path) -> None:
    answer = moving.ask("POST", "/scenarios", '{"count": 300, "days": 2, "seed": 7}', {"accept": ARROW})
    found = pa.ipc.open_stream(io.BytesIO(answer.body)).read_all()
    write_scenarios(tmp_path / "paths.parquet", [own.scenarios(days=2, n=300, seed=7)], own.grid)
    assert found.equals(pq.read_table(tmp_path / "paths.parquet").cast(found.schema))


def test_a_table_of_quotes_is_completed_from_the_newest_state(moving: Server, own: SurfaceModel) -> None:
    table = pa.table(_QUOTES).rename_columns(["iv", "tenor_years", "log_moneyness"])
    content = io.BytesIO()
    pq.write_table(table, content)
    path, kind = "/complete?previous=newest&elapsed=2&log_return=-0.01", {"content-type": PARQUET}
    found = moving.ask("POST", path, content.getvalue(), kind).json()
    expected = own.complete(**_QUOTES, previous=own.state, elapsed=2.0, log_return=-0.01)
    np.testing.assert_array_equal(np.array(found["std"], np.float32), expected.std)
    assert found["state"] == own.state_to_plain(expected.state)


def test_the_example_of_the_document_is_answered(moving: Server) -> None:
    operation = moving.ask("GET", "/openapi.json").json()["paths"]["/scenarios"]["post"]
    (content,) = operation["requestBody"]["content"].values()
    assert moving.post("/scenarios", content["example"]).status == 200


def test_scenarios_start_at_a_state_and_lead_through_dates(moving: Server, own: SurfaceModel) -> None:
    state = own.complete(**_QUOTES, previous=own.state).state
    assert state is not None
    asked = {"count": 2, "seed": 1, "state": own.state_to_plain(state), "dates": ["2020-06-03"]}
    found = np.array(moving.post("/scenarios", asked).json()["iv"], np.float32)
    expected = own.scenarios(state, [state.date.replace(day=3)], 2, seed=1)
    np.testing.assert_array_equal(found, expected.iv)
    first, second = (moving.post("/scenarios", {}).json()["seed"] for _ in range(2))
    assert first != second


def test_scenarios_have_a_given_return(moving: Server, own: SurfaceModel) -> None:
    asked = {"count": 3, "days": 2, "seed": 7, "offset": 2, "log_return": -0.01}
    found, expected = (
        moving.post("/scenarios", asked).json(),
        own.scenarios(days=2, n=3, seed=7, offset=2, log_return=-0.01),
    )
    np.testing.assert_array_equal(np.array(found["iv"], np.float32), expected.iv)
    np.testing.assert_allclose(np.array(found["log_return"])[:, -1], -0.01, rtol=1e-6)
    assert found["effective_size"] == expected.effective_size
    assert moving.post("/scenarios", {"seed": 1}).json()["effective_size"] is None


@pytest.mark.parametrize("count", [1, 700])
def test_scenarios_are_streamed(moving: Server, own: SurfaceModel, count: int) -> None:
    asked = {"count": count, "days": 3, "seed": 7, "offset": 5}
    answer = moving.post("/scenarios", asked, BINARY)
    shape = tuple(map(int, answer.headers["volvae-shape"].split(",")))
    assert shape == (count, 3, 10)
    found = np.frombuffer(answer.body, "<f4").reshape(shape)
    expected = own.scenarios(days=3, n=count, seed=7, offset=5)
    np.testing.assert_allclose(found[..., 0], expected.log_return, atol=1e-7)
    np.testing.assert_array_equal(found[..., 1], expected.arbitrage_free(own.grid))
    np.testing.assert_allclose(found[..., 2:].reshape(expected.iv.shape), expected.iv, rtol=1e-6)
    rows = [json.loads(line) for line in moving.post("/scenarios", asked, LINES).body.splitlines()]
    assert [row["row"] for row in rows] == list(range(5, 5 + count))
    np.testing.assert_allclose(np.array([row["iv"] for row in rows]), expected.iv, rtol=1e-6)
    assert [row["arbitrage_free"] for row in rows] == expected.arbitrage_free(own.grid).tolist()
    np.testing.assert_allclose(np.array([row["log_return"] for row in rows]), expected.log_return, atol=1e-7)


@pytest.mark.parametrize(
    ("path", "asked", "reason"),
    [
        ("/complete", {**_QUOTES, "elapsed": 1.0}, "elapsed and log_return say what passed since a state"),
        (
            "/complete",
            {**_QUOTES, "previous": "newest", "elapsed": 2000.0},
            "elapsed is 2000.0; allowed: 1e-06 to 1000",
        ),
        ("/complete", {**_QUOTES, "previous": "yesterday"}, "the request cannot be read"),
        ("/complete", {**_QUOTES, "previous": {"model": "x"}}, "missing required field `date`"),
        (
            "/complete",
            {**_QUOTES, "previous": {"model": "x"}},
            "one of an earlier version of volvae cannot be read",
        ),
        (
            "/scenarios",
            {"state": {"model": "x"}},
            "start anew from the bundle's, which is model.state",
        ),
        ("/complete", {**_QUOTES, "previous": {"filtered": [0.0]}}, "filtered of the state must be finite numbers [8]"),
        ("/complete", {**_QUOTES, "previous": {"model": "x"}, "whole": True}, "the state is of another model"),
        ("/scenarios", {"state": {"filtered": [0.0] * 9}}, "filtered of the state must be finite numbers [8], not [9]"),
        ("/scenarios", {"state": {"covariance": [[0.0]]}}, "covariance of the state must be finite numbers [8, 8]"),
        ("/scenarios", {"days": 0}, "Expected `int` >= 1 - at `$.days`"),
        ("/scenarios", {"dates": []}, "Expected `array` of length >= 1"),
        ("/scenarios", {"dates": ["2020-05-29"]}, "dates that rise from 2020-05-29"),
        ("/scenarios", {"count": 10**6, "days": 1000}, "count times days is 1000000000; allowed: 1 to"),
        ("/scenarios", {"count": 60_000, "days": 10}, "bytes of numbers; in JSON"),
        ("/scenarios", {"sead": 1}, "unknown field `sead`"),
        ("/scenarios", {"log_return": -0.9}, "log_return is -0.9, and 0.0 of the paths that the law of motion draws"),
        ("/scenarios", {"log_return": 0.0, "days": 65}, "days must be 1 to 64 dates that rise from 2020-05-29"),
        ("/scenarios", {"state": {"spread": [[0.0]]}}, "spread of the state must be finite numbers [8, 8], not [1, 1]"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    moving: Server, own: SurfaceModel, path: str, asked: dict[str, Any], reason: str
) -> None:
    plain = own.state_to_plain(own.state)
    sent = {name: value for name, value in asked.items() if name != "whole"}
    for name in ("previous", "state"):
        if isinstance(sent.get(name), dict) and ("whole" in asked or "model" not in sent[name]):
            sent[name] = plain | sent[name]
    answer = moving.post(path, sent)
    assert answer.status == 400
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_model_without_a_law_of_motion_says_so(server: Server) -> None:
    for path, asked in (("/complete", {**_QUOTES, "previous": "newest"}), ("/scenarios", {})):
        answer = server.post(path, asked)
        assert answer.status == 400
        assert "no law of motion; one of dated data has it where train.dynamics is set" in answer.json()["error"]


def test_the_document_describes_them(moving_bundle: Path, own: SurfaceModel) -> None:
    document = json.loads(
        answers.to_json(openapi.document(Served(moving_bundle, own, {}, "one"), Settings(moving_bundle)))
    )
    schemas = document["components"]["schemas"]
    assert {"Scenarios", "Paths", "Path", "State"} <= set(schemas)
    content = document["paths"]["/scenarios"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", BINARY, LINES, ARROW, PARQUET}
    assert schemas["Paths"]["properties"]["iv"]["items"]["items"]["minItems"] == own.grid.shape[0]
