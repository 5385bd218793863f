"""Tables of Arrow and Parquet over HTTP: the same bits as the runtime's, there and back."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.server import surface_tables
from deploy.server.answers import ARROW, PARQUET, TABLES
from deploy.server.errors import RefusedError
from pipeline.files.surface_tables import write_surfaces
from tests.deploy.serving import Server
from vae.runtime import SurfaceModel
from vae.surface.grid import Grid

_QUOTES = {"iv": [0.2, 0.22, 0.3], "tenor": [0.5, 0.6, 0.5], "log_moneyness": [0.0, -0.1, 9.0]}
_TABLE = pa.table(_QUOTES).rename_columns(["iv", "tenor_years", "log_moneyness"])


def of_bytes(content: bytes, kind: str) -> pa.Table:
    stream = io.BytesIO(content)
    return pa.ipc.open_stream(stream).read_all() if kind == ARROW else pq.read_table(stream)


def to_bytes(table: pa.Table, kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == PARQUET:
        pq.write_table(table, stream)
    else:
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    return stream.getvalue()


def send(server: Server, path: str, table: pa.Table, kind: str, accept: str = "*/*"):
    return server.ask("POST", path, to_bytes(table, kind), {"content-type": kind, "accept": accept})


@pytest.mark.parametrize("kind", TABLES)
def test_samples_are_the_table_of_the_file(server: Server, model: SurfaceModel, kind: str, tmp_path: Path) -> None:
    """300 surfaces, so that two pieces are streamed."""
    answer = server.ask("POST", "/sample", '{"count": 300, "seed": 7}', {"accept": kind})
    assert answer.headers["content-type"] == kind
    found = of_bytes(answer.body, kind)
    write_surfaces(tmp_path / "surfaces.parquet", [model.sample(300, seed=7)], model.grid, count=300)
    assert found.equals(pq.read_table(tmp_path / "surfaces.parquet").cast(found.schema))
    facts = {name.decode(): fact.decode() for name, fact in found.schema.metadata.items()}
    assert facts == {name: answer.headers[name] for name in ("volvae-model-version", "volvae-seed", "volvae-shape")}


def test_a_part_of_a_sequence_has_its_numbers(server: Server, model: SurfaceModel) -> None:
    answer = server.ask("POST", "/sample", '{"count": 2, "seed": 7, "offset": 5}', {"accept": ARROW})
    found = of_bytes(answer.body, ARROW)
    assert found["surface"].unique().to_pylist() == [5, 6]
    np.testing.assert_array_equal(found["iv"].to_numpy(), model.sample(2, seed=7, offset=5).ravel())


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_quotes_is_completed_as_its_columns(server: Server, kind: str) -> None:
    plain = server.ask("POST", "/complete", json.dumps(_QUOTES)).json()
    assert send(server, "/complete", _TABLE, kind).json() == plain
    answer = send(server, "/complete", _TABLE, kind, kind)
    found = of_bytes(answer.body, kind)
    assert answer.headers["volvae-model-version"] == plain["model_version"]
    for name in ("iv", "std"):
        np.testing.assert_array_equal(found[name].to_numpy(), np.array(plain[name], np.float32).ravel())
    assert found["outside"].unique().to_pylist() == [plain["outside"]]
    rest = json.loads(found.schema.metadata[b"volvae"])
    assert rest == {name: part for name, part in plain.items() if name not in ("grid", "iv", "std")}


def test_a_warning_is_in_the_table(server: Server) -> None:
    """Quotes of 10 and 60 % at the same points are no surface."""
    wrong = pa.table({"iv": [0.1, 0.6] * 6, "tenor_years": [0.5] * 12, "log_moneyness": [0.0] * 12})
    found = of_bytes(send(server, "/complete", wrong, ARROW, PARQUET).body, PARQUET)
    assert found["outside"].unique().to_pylist() == [True]
    assert "quotes" in json.loads(found.schema.metadata[b"volvae"])["warning"]


@pytest.mark.parametrize("kind", TABLES)
def test_samples_sent_back_are_scored_as_by_the_runtime(server: Server, model: SurfaceModel, kind: str) -> None:
    answer = server.ask("POST", "/sample", '{"count": 3, "seed": 1, "offset": 4}', {"accept": kind})
    shuffled = of_bytes(answer.body, kind).take(np.random.default_rng(0).permutation(3 * math.prod(model.grid.shape)))
    found = of_bytes(send(server, "/score", shuffled, kind, kind).body, kind)
    expected = model.score(model.sample(3, seed=1, offset=4))
    assert found["surface"].to_pylist() == [4, 5, 6]
    for name, values in expected._asdict().items():
        sent = np.array(found[name].to_pylist(), values.dtype).reshape(values.shape)
        np.testing.assert_array_equal(sent, values, err_msg=name)
    assert found["odd"].to_pylist() == expected.odd.tolist()


def test_a_point_that_is_null_is_missing(server: Server, model: SurfaceModel) -> None:
    iv = model.sample(1, seed=1)
    iv[0, 0, 0] = np.nan
    table = pa.table(model.surfaces(iv).to_pandas()[["tenor_years", "log_moneyness", "iv"]])
    assert table["iv"].null_count == 1
    found = send(server, "/score", table, PARQUET).json()
    np.testing.assert_array_equal(np.array(found["nats"], np.float32), model.score(iv).nats)
    assert found["error"][0][0][0] == 0.0


def test_surfaces_in_deltas_are_read_by_their_deltas() -> None:
    grid = Grid([0.25, 1.0], [0.25, 0.5, 0.75], "delta")
    iv = np.linspace(0.1, 0.32, 12, dtype=np.float32).reshape(2, 2, 3)
    table = pa.Table.from_batches([surface_tables.sample(iv, grid, 3, {})])
    assert table.column_names == ["surface", "tenor_years", "log_moneyness", "call_delta", "iv"]
    found, numbers = surface_tables.surfaces(to_bytes(table, ARROW), ARROW, grid, most=12)
    np.testing.assert_array_equal(found, iv)
    assert numbers.tolist() == [3, 4]
    with pytest.raises(RefusedError, match=r"2 tenors x 3 nodes \(call_delta\)"):
        surface_tables.surfaces(to_bytes(table.slice(1), ARROW), ARROW, grid, most=12)


def flat(vol: float, quotes: int) -> pa.Table:
    columns = {"iv": vol, "tenor_years": 0.5, "log_moneyness": 0.0}
    return pa.table({name: np.full(quotes, value) for name, value in columns.items()})


@pytest.mark.parametrize(
    ("path", "table", "kind", "accept", "status", "message"),
    [
        ("/sample", _TABLE, ARROW, "*/*", 415, "allowed: application/json"),
        ("/complete", _TABLE, "text/csv", "*/*", 415, "type 'text/csv' is not read here; allowed: "),
        ("/complete", _TABLE, "application/vnd.apache.arrow.file", "*/*", 415, "allowed: application/json"),
        ("/complete", _TABLE, ARROW, "text/csv", 406, "Accept may name application/json, application/vnd.apache.arrow"),
        ("/score", _TABLE, ARROW, "application/x-ndjson", 406, "no such answer"),
        ("/complete", _TABLE.drop_columns("iv"), PARQUET, "*/*", 400, "there is no column 'iv'"),
        ("/complete?markets=A", _TABLE, PARQUET, "*/*", 400, "unknown field `markets`"),
        ("/complete?market=A", _TABLE, PARQUET, "*/*", 400, "asked for 'A'"),
        ("/complete?elapsed=2", _TABLE, ARROW, "*/*", 400, "send it as previous"),
        ("/complete?elapsed=-2&previous=newest", _TABLE, ARROW, "*/*", 400, "elapsed"),
        ("/complete?previous=newest", _TABLE, ARROW, "*/*", 400, "no law of motion"),
        ("/score", _TABLE, ARROW, "*/*", 400, "one row for each point of the model's grid of 2 tenors x 4 nodes"),
        ("/complete", flat(20.0, 1), ARROW, "*/*", 400, "divide by 100"),
        ("/complete", flat(0.2, 20_001), ARROW, "*/*", 413, "allowed: 20000 rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_in_a_line(
    server: Server, path: str, table: pa.Table, kind: str, accept: str, status: int, message: str
) -> None:
    content = to_bytes(table, kind if kind in TABLES else ARROW)
    answer = server.ask("POST", path, content, {"content-type": kind, "accept": accept})
    assert answer.status == status
    assert message in answer.json()["error"]
