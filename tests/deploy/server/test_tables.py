"""Tables in bodies: what is read, what is refused, and that nothing is unpacked before it is bounded."""

import io
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from deploy.server import tables
from deploy.server.answers import ARROW, PARQUET, TABLES
from deploy.server.errors import ProtocolError
from deploy.server.tables import Wanted, Writer

_WANTED = (Wanted("iv", gaps=True), Wanted("tenor_years"), Wanted("surface", needed=False, whole=True))
_PLAIN = {"iv": [0.2, None, 0.3], "tenor_years": [0.5, 0.25, 1.0], "surface": [3, 1, 2]}


def arrow(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return stream.getvalue()


def parquet(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


_WRITERS: dict[str, Callable[[pa.Table], bytes]] = {ARROW: arrow, PARQUET: parquet}


def read(content: bytes, kind: str, wanted: Sequence[Wanted] = _WANTED, most_rows: int = 100) -> dict:
    return tables.read(content, kind, wanted, most_rows=most_rows)


@pytest.mark.parametrize("kind", TABLES)
def test_columns_are_read_to_the_bit(kind: str) -> None:
    found = read(_WRITERS[kind](pa.table(_PLAIN)), kind)
    np.testing.assert_array_equal(found["iv"], [0.2, np.nan, 0.3])
    np.testing.assert_array_equal(found["tenor_years"], [0.5, 0.25, 1.0])
    np.testing.assert_array_equal(found["surface"], np.array([3, 1, 2]), strict=True)


@pytest.mark.parametrize("kind", TABLES)
def test_what_is_written_batch_by_batch_is_one_table(kind: str) -> None:
    table = pa.table({"x": np.random.default_rng(0).normal(size=50)}).replace_schema_metadata({"seed": "7"})
    writer = Writer(kind)
    parts = [writer.write(batch, last=False) for batch in table.to_batches(20)[:2]]
    parts.append(writer.write(table.to_batches(20)[2], last=True))
    assert all(parts)
    content = io.BytesIO(b"".join(parts))
    found = pa.ipc.open_stream(content).read_all() if kind == ARROW else pq.read_table(content)
    assert found.equals(table, check_metadata=True)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"iv": [0.2]}, "no column 'tenor_years'; needed: iv, tenor_years"),
        (_PLAIN | {"vol": [1, 2, 3]}, "column 'vol' is not read here; allowed: iv, tenor_years, surface"),
        (_PLAIN | {"tenor_years": [0.5, None, 1.0]}, "column 'tenor_years' is null in row 1"),
        (
            _PLAIN | {"tenor_years": ["1Y", "2Y", "3Y"]},
            "'tenor_years' has the type string; allowed: integers and floats",
        ),
        (_PLAIN | {"iv": [True, False, True]}, "column 'iv' has the type bool"),
        (_PLAIN | {"iv": pa.array(["a"] * 3).dictionary_encode()}, "column 'iv' has the type dictionary"),
        (_PLAIN | {"surface": [1.0, 2.0, 3.0]}, "column 'surface' has the type double; allowed: integers"),
        (_PLAIN | {"surface": pa.array([1, 2, 2**64 - 1], pa.uint64())}, "column 'surface' has an integer beyond"),
        ({"iv": pa.array([], pa.float64()), "tenor_years": pa.array([], pa.float64())}, "no rows"),
    ],
)
def test_another_table_is_refused_by_the_name_of_the_column(kind: str, columns: dict, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        read(_WRITERS[kind](pa.table(columns)), kind)


def test_nested_columns_are_refused() -> None:
    nested = pa.table({"iv": [[0.2]], "tenor_years": [0.5]})
    with pytest.raises(ProtocolError, match="column 'iv' has the type list<"):
        read(arrow(nested), ARROW)
    with pytest.raises(ProtocolError, match="nested column"):
        read(parquet(nested), PARQUET)


def test_columns_may_not_be_given_twice() -> None:
    with pytest.raises(ProtocolError, match="column 'iv' is given twice"):
        read(arrow(pa.Table.from_arrays([pa.array([0.2])] * 2, ["iv", "iv"])), ARROW)


def zeros(rows: int) -> pa.Table:
    return pa.table({"iv": np.zeros(rows), "tenor_years": np.zeros(rows)})


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (arrow(zeros(10**6), compression="zstd"), ARROW, 415, "not be compressed"),
        (arrow(zeros(101)), ARROW, 413, "allowed: 100 rows"),
        (parquet(zeros(101)), PARQUET, 413, "allowed: 100 rows"),
        (parquet(zeros(10**6), compression="zstd"), PARQUET, 413, "allowed: 100 rows"),
        (parquet(pa.table({"iv": ["x" * 2**22]}), compression="zstd"), PARQUET, 413, "bytes once it is unpacked"),
        (arrow(pa.table({"iv": [0.2]}).replace_schema_metadata({"a": "b" * 2**19})), ARROW, 413, "heads"),
    ],
)
def test_bombs_are_refused_before_they_are_unpacked(content: bytes, kind: str, status: int, message: str) -> None:
    before = pa.total_allocated_bytes()
    with pytest.raises(HTTPException, match=message) as raised:
        read(content, kind)
    assert raised.value.status_code == status
    assert pa.default_memory_pool().bytes_allocated() - before < 2**16


_BYTES = {kind: write(pa.table(_PLAIN)) for kind, write in _WRITERS.items()}
_PLACES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3)


@given(kind=st.sampled_from(TABLES), changes=_PLACES, end=st.integers(0, 2000))
def test_damage_is_refused_or_read(kind: str, changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(_BYTES[kind])
    for place, byte in changes:
        content[place % len(content)] = byte
    for damaged in (bytes(content), _BYTES[kind][:end]):
        try:
            found = read(damaged, kind)
        except (ProtocolError, HTTPException):
            continue
        assert {len(column) for column in found.values()} <= {1, 2, 3}


@pytest.mark.slow
def test_a_server_without_pyarrow_starts_and_knows_no_tables() -> None:
    """As in its image; and with pyarrow a worker that is asked for no table does not load it."""
    program = (
        "import sys; {}; import deploy.server.run, deploy.server.worker; from deploy.server import surface_routes;"
        "print(*surface_routes._FOUND, 'pyarrow.lib' in sys.modules)"
    )
    without = (
        "sys.modules['pyarrow'] = None; from importlib import util; find = util.find_spec; "
        "util.find_spec = lambda name: None if name == 'pyarrow' else find(name)"
    )
    found = [
        subprocess.run([sys.executable, "-c", program.format(start)], capture_output=True, text=True, check=True).stdout
        for start in (without, "pass")
    ]
    assert found == ["application/json False\n", f"application/json {ARROW} {PARQUET} False\n"]
