"""Sizes of Parquet files beside those that pyarrow writes into their footers."""

import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.server.compact_thrift import ThriftError
from deploy.server.parquet_size import ParquetError, _page_sizes, unpacked

_TABLE = pa.table(
    {
        "random": np.random.default_rng(0).normal(size=30_000),
        "constant": np.zeros(30_000, np.float32),
        "gaps": pa.array([None, 1] * 15_000),
    }
)


def parquet(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "row_group_size": 7_000},
        {"compression": "none", "use_dictionary": False, "write_page_checksum": True},
        {"compression": "gzip", "data_page_version": "2.0", "data_page_size": 4096},
        {"compression": "brotli", "write_page_index": True, "store_schema": False},
        {"compression": "lz4", "column_encoding": "BYTE_STREAM_SPLIT", "use_dictionary": False},
    ],
)
def test_sizes_are_those_of_the_writer(options: dict) -> None:
    """The footer's total_uncompressed_size of a column counts the pages with their heads."""
    table = _TABLE.drop_columns("gaps") if "column_encoding" in options else _TABLE
    content = parquet(table, **options)
    footer = pq.read_metadata(io.BytesIO(content))
    stated = sum(
        footer.row_group(group).column(column).total_uncompressed_size
        for group in range(footer.num_row_groups)
        for column in range(footer.num_columns)
    )
    assert unpacked(content) == (30_000, stated)


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def nested(depth: int) -> bytes:
    """A file whose footer holds groups within groups, as thrift's compact protocol writes them."""
    elements = [b"\x48\x01s\x15\x02\x00", *[b"\x35\x02\x18\x01a\x15\x02\x00"] * depth, b"\x15\x0a\x25\x02\x18\x01l\x00"]
    footer = b"".join([b"\x15\x04\x19\xfc", varint(len(elements)), *elements, b"\x16\x00\x19\x0c\x00"])
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def test_a_footer_of_nested_groups_is_refused() -> None:
    """Of 30,000 groups it ends the process that has pyarrow read it; of one, pyarrow reads it."""
    assert pq.read_schema(io.BytesIO(nested(1))).names == ["a"]
    for depth in (1, 30_000):
        with pytest.raises(ParquetError, match="nested column"):
            unpacked(nested(depth))


def test_a_page_that_states_too_much_counts() -> None:
    """The head of a page, not the footer, says how much memory a reader takes for it."""
    content = bytearray(parquet(pa.table({"x": [0.5]}), compression="zstd", use_dictionary=False))
    before = unpacked(bytes(content))
    assert content[4:8] == b"\x15\x00\x15\x1c"  # a data page of 14 bytes
    content[4:8] = b"\x15\x00\x15\x7e"
    assert unpacked(bytes(content)) == (before.rows, before.bytes + 63 - 14)


def test_the_head_of_a_page_has_a_bound() -> None:
    """It is read into Python values, of which a list of bytes makes one of each byte."""
    head = b"\x15\x00" * 3 + b"\x19\xf3" + varint(100_000) + b"\x01" * 100_000 + b"\x00"
    small, large = (b"PAR1" + head[:6] + middle + b"\x00" * 8 for middle in (b"\x00", head[6:]))
    column = {9: 4, 7: 7}
    assert list(_page_sizes(column, small, len(small))) == [7]
    with pytest.raises(ThriftError, match="ends too early"):
        list(_page_sizes(column | {7: len(head)}, large, len(large)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin and end"),
        (b"PAR1" + bytes(8) + b"PAR2", "does not begin and end"),
        (b"PAR1" + struct.pack("<I", 2**31) + b"PAR1", "footer has 2147483648 bytes"),
        (b"PAR1\x00" + struct.pack("<I", 1) + b"PAR1", "lacks a part"),
        (b"PAR1\x15" + struct.pack("<I", 1) + b"PAR1", "ends too early"),
        (b"PAR1\x1d\x00" + struct.pack("<I", 2) + b"PAR1", "value of type 13"),
        (b"PAR1" + b"\x1c" * 40 + struct.pack("<I", 40) + b"PAR1", "nested too deeply"),
        (b"PAR1" + b"\x16" + b"\xff" * 40 + struct.pack("<I", 41) + b"PAR1", "more than 64 bits"),
    ],
)
def test_what_is_no_parquet_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ParquetError, match=message):
        unpacked(content)


_SMALL = parquet(_TABLE.slice(0, 20), compression="snappy", row_group_size=7)


@given(place=st.integers(0, len(_SMALL) - 1), byte=st.integers(0, 255), end=st.integers(0, len(_SMALL)))
def test_damage_is_refused_or_read(place: int, byte: int, end: int) -> None:
    """Whatever the bytes are, there is no other error, and no size below 0."""
    content = bytearray(_SMALL)
    content[place] = byte
    for damaged in (bytes(content), _SMALL[:end]):
        try:
            found = unpacked(damaged)
        except ParquetError:
            continue
        assert found.rows >= 0
        assert found.bytes >= 0
