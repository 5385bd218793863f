"""Thrift's compact protocol, in which Parquet writes its footer and the heads of its pages: bytes to plain values.

Reference: https://github.com/apache/thrift, ``doc/specs/thrift-compact-protocol.md``.
"""

from collections.abc import Callable
from typing import Any

from deploy.server.varint import read_varint

Struct = dict[int, Any]

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST = 16  # structs within structs; the footer of a table of numbers has five


class ThriftError(ValueError):
    """The bytes are no struct."""


def read_struct(content: bytes) -> tuple[Struct, int]:
    """The struct with which the bytes begin, its fields by number, and the offset after it.

    Bytes and doubles stay bytes. Nothing is read twice, so that it takes no longer than the bytes are many; a byte may
    become a value of fifty. So the caller bounds the bytes.

    Raises:
        ThriftError: the bytes end within it, or it is no struct.
    """
    reader = _Reader(content)
    try:
        found = reader.struct(_DEEPEST)
    except IndexError as error:
        raise ThriftError("it ends too early") from error
    return found, reader.place


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content, self.place = content, 0
        self._values: dict[int, Callable[[int], Any]] = {
            _TRUE: lambda _: self._byte() == _TRUE,  # in a list; a field has its value in its head
            _FALSE: lambda _: self._byte() == _TRUE,
            _BYTE: lambda _: self._byte(),
            _I16: lambda _: self._integer(),
            _I32: lambda _: self._integer(),
            _I64: lambda _: self._integer(),
            _DOUBLE: lambda _: self._bytes(8),
            _BINARY: lambda _: self._bytes(self._varint()),
            _LIST: self._list,
            _SET: self._list,
            _MAP: self._map,
            _STRUCT: self.struct,
        }

    def struct(self, depth: int) -> Struct:
        found: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401 - a value of any type
        if kind not in self._values:
            raise ThriftError(f"it has a value of type {kind}")
        if not depth:
            raise ThriftError("it is nested too deeply")
        return self._values[kind](depth - 1)

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size = self._varint() if head >> 4 == 15 else head >> 4
        return [self._value(head & 15, depth) for _ in range(size)]  # each takes a byte at least

    def _map(self, depth: int) -> list[Any]:
        size = self._varint()
        kinds = self._byte() if size else 0
        return [(self._value(kinds >> 4, depth), self._value(kinds & 15, depth)) for _ in range(size)]

    def _byte(self) -> int:
        found = self._content[self.place]
        self.place += 1
        return found

    def _bytes(self, size: int) -> bytes:
        end = self.place + size
        if end > len(self._content):
            raise ThriftError("it ends too early")
        found = self._content[self.place : end]
        self.place = end
        return found

    def _varint(self) -> int:
        try:
            found, self.place = read_varint(self._content, self.place)
        except ValueError as error:
            raise ThriftError(str(error)) from error
        return found

    def _integer(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)
