"""Tables of numbers in bodies, as streams of Arrow or as Parquet: bytes to columns, columns to bytes.

A body is bounded before it is unpacked. Arrow must not be compressed, so that its columns are parts of the body; of
Parquet the footer and the heads of the pages are read first.

Reference: https://arrow.apache.org/docs/format/Columnar.html; https://github.com/apache/parquet-format.
"""

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deploy.server import errors, parquet_size
from deploy.server.answers import ARROW
from deploy.server.errors import ProtocolError

Columns = Mapping[str, NDArray[Any]]

_MOST_BATCHES = 10_000
_MOST_HEAD = 256 * 1024  # bytes of what a stream says of its columns


class Wanted(NamedTuple):
    """A column of a request.

    Attributes:
        name: of the column.
        needed: whether the table must have it.
        whole: whether it holds integers.
        gaps: whether null is a number that is missing, which becomes NaN.
    """

    name: str
    needed: bool = True
    whole: bool = False
    gaps: bool = False


def read(content: bytes, kind: str, wanted: Sequence[Wanted], *, most_rows: int) -> dict[str, NDArray[Any]]:
    """The columns of a table, float64 or int64, each [row].

    Args:
        content: of the body.
        kind: ARROW or PARQUET.
        wanted: all columns that the table may have.
        most_rows: that are allowed.

    Raises:
        ProtocolError: it is no such table, lacks a column, has another one, or one of another type or with null.
        HTTPException: it has too many rows, takes too many bytes unpacked, or Arrow is compressed.
    """
    try:
        table = _arrow(content, wanted, most_rows) if kind == ARROW else _parquet(content, wanted, most_rows)
        if not table.num_rows:
            raise ProtocolError("the table has no rows")
        return {one.name: _numbers(table[one.name], one) for one in wanted if one.name in table.column_names}
    except (pa.ArrowException, OSError, struct.error, UnicodeDecodeError) as error:
        name = "stream of Arrow" if kind == ARROW else "Parquet file"
        raise ProtocolError(f"the body is not a {name}: {(str(error).splitlines() or [''])[0]}") from error


class Writer:
    """Writes a table of ARROW or PARQUET batch by batch, and returns the bytes of each."""

    def __init__(self, kind: str) -> None:
        self._kind, self._sink = kind, _Sink()
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch, *, last: bool) -> bytes:
        """The bytes of a batch, of the beginning before the first and of the end after the last."""
        if self._writer is None:
            self._writer = (
                pa.ipc.new_stream(self._sink, batch.schema)
                if self._kind == ARROW
                else pq.ParquetWriter(self._sink, batch.schema, compression="zstd")
            )
        self._writer.write_batch(batch)
        if last:
            self._writer.close()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:  # noqa: ANN401 - whatever holds bytes
        self._parts.append(bytes(part))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _arrow(content: bytes, wanted: Sequence[Wanted], most_rows: int) -> pa.Table:
    """The table of a stream, whose columns are views of the body."""
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(content))):
        if message.metadata.size > _MOST_HEAD or number > _MOST_BATCHES:
            raise errors.table_too_large(f"{_MOST_BATCHES} batches, and {_MOST_HEAD} bytes for their heads")
        if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            raise errors.compressed_arrow()
    with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
        _check(stream.schema, wanted)
        batches, rows = [], 0
        for batch in stream:
            rows += batch.num_rows
            if rows > most_rows:
                raise errors.table_too_large(f"{most_rows} rows")
            batch.validate(full=True)  # before any of its numbers is looked at: it may state more than it has
            batches.append(batch)
        return pa.Table.from_batches(batches, stream.schema)


def _is_compressed(message: bytes) -> bool:
    """Whether the head of a batch, a flatbuffer that Arrow has verified, names a compression."""
    root = struct.unpack_from("<I", message)[0]
    header = _field(message, root, 2)  # Message.header
    batch = header + struct.unpack_from("<I", message, header)[0]
    return bool(_field(message, batch, 3))  # RecordBatch.compression


def _field(message: bytes, table: int, number: int) -> int:
    """The offset of a field of a flatbuffer's table; 0 where it has none."""
    fields = table - struct.unpack_from("<i", message, table)[0]
    place = 4 + 2 * number
    offset = (
        struct.unpack_from("<H", message, fields + place)[0]
        if place < struct.unpack_from("<H", message, fields)[0]
        else 0
    )
    return table + offset if offset else 0


def _parquet(content: bytes, wanted: Sequence[Wanted], most_rows: int) -> pa.Table:
    """The table of a Parquet file."""
    try:
        size = parquet_size.unpacked(content)
    except parquet_size.ParquetError as error:
        raise ProtocolError(f"the body is not a Parquet file that can be read: {error}") from error
    if size.rows > most_rows:
        raise errors.table_too_large(f"{most_rows} rows")
    most = _bytes_of(most_rows, len(wanted))
    if size.bytes > most:
        raise errors.table_too_large(f"{most} bytes once it is unpacked")
    with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
        _check(file.schema_arrow, wanted)
        return file.read(use_threads=False)


def _bytes_of(rows: int, columns: int) -> int:
    """Bytes that a table may take unpacked: 8 for a number, twice for dictionaries, and some for heads of pages."""
    return 16 * rows * columns + 2**20


def _check(schema: pa.Schema, wanted: Sequence[Wanted]) -> None:
    """Raise ProtocolError unless the columns of a table are those that are wanted."""
    names = [one.name for one in wanted]
    for name in schema.names:
        if name not in names:
            raise ProtocolError(f"the column {name[:100]!r} is not read here; allowed: {', '.join(names)}")
        if schema.names.count(name) > 1:
            raise ProtocolError(f"the column {name!r} is given twice")
    for one in wanted:
        if one.name in schema.names:
            _check_type(one, schema.field(one.name).type)
        elif one.needed:
            raise ProtocolError(
                f"there is no column {one.name!r}; needed: {', '.join(w.name for w in wanted if w.needed)}"
            )


def _check_type(one: Wanted, kind: pa.DataType) -> None:
    integer = pa.types.is_integer(kind)
    if not (integer or (pa.types.is_floating(kind) and not one.whole)):
        allowed = "integers" if one.whole else "integers and floats"
        raise ProtocolError(f"the column {one.name!r} has the type {str(kind)[:100]}; allowed: {allowed}")


def _numbers(column: pa.ChunkedArray, one: Wanted) -> NDArray[Any]:
    """A column as float64 or int64."""
    if column.null_count and not one.gaps:
        row = column.is_null().to_numpy().argmax()
        raise ProtocolError(
            f"the column {one.name!r} is null in row {row}, counted from 0; it must have a number there"
        )
    if one.whole:
        try:
            return column.cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]
        except pa.ArrowInvalid as error:
            raise ProtocolError(f"the column {one.name!r} has an integer beyond 64 bits with a sign") from error
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)  # type: ignore[no-any-return]
