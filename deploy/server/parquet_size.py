"""Sizes of a Parquet file once it is unpacked, found before anything is unpacked.

A few kilobytes can state that they hold two gigabytes, in the footer or in the head of a page, and a footer of nested
groups ends the process that reads it. So the footer and the heads of all pages are read here first.

Reference: https://github.com/apache/parquet-format, ``src/main/thrift/parquet.thrift``.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from deploy.server.compact_thrift import Struct, ThriftError, read_struct

_MAGIC = b"PAR1"
_MOST_FOOTER = 256 * 1024  # bytes
_MOST_PAGES = 10_000
_MOST_HEAD = 64 * 1024  # bytes of the head of a page, which of a column of numbers has 100; each becomes a Python value
# numbers of fields
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4  # of the footer
_CHILDREN = 5  # of an element of the schema
_COLUMNS, _GROUP_ROWS = 1, 3  # of a row group
_FILE, _META = 1, 3  # of a column in it
_VALUES, _PACKED, _DATA, _DICTIONARY = 5, 7, 9, 11  # of what is known of the column
_PAGE_UNPACKED, _PAGE_PACKED = 2, 3  # of a page


class ParquetError(ValueError):
    """The bytes are no Parquet file of plain columns; the message says why."""


class Unpacked(NamedTuple):
    """Sizes of a file.

    Attributes:
        rows: as the footer and its row groups state them.
        bytes: of all pages with their heads, unpacked.
    """

    rows: int
    bytes: int


def unpacked(content: bytes) -> Unpacked:
    """The sizes of a file once it is unpacked.

    Raises:
        ParquetError: it is no Parquet file, a column is nested, its parts contradict each other, or it has too many.
    """
    if len(content) < 12 or content[:4] != _MAGIC or content[-4:] != _MAGIC:
        raise ParquetError("it does not begin and end as Parquet does")
    length = struct.unpack("<I", content[-8:-4])[0]
    if length > min(_MOST_FOOTER, len(content) - 12):
        raise ParquetError(f"its footer has {length} bytes; allowed: {_MOST_FOOTER}")
    end = len(content) - 8 - length
    try:
        footer, _ = read_struct(content[end:-8])
        return _sizes(footer, content, end)
    except ThriftError as error:
        raise ParquetError(f"its footer or a page cannot be read: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ParquetError("its footer or a page lacks a part, or has one of another type") from error


def _sizes(footer: Struct, content: bytes, end: int) -> Unpacked:
    root, *elements = footer[_SCHEMA]
    if any(element.get(_CHILDREN) for element in elements) or root[_CHILDREN] != len(elements):
        raise ParquetError("it has a nested column; allowed: columns of numbers")
    if not footer[_ROWS]:
        raise ParquetError("it has no rows")
    rows = 0
    pages: list[int] = []
    for group in footer[_GROUPS]:
        if len(group[_COLUMNS]) != len(elements) or group[_GROUP_ROWS] < 0:
            raise ParquetError("a row group has other columns than the schema")
        rows += group[_GROUP_ROWS]
        for column in group[_COLUMNS]:
            if column.get(_FILE) or column[_META][_VALUES] != group[_GROUP_ROWS]:
                raise ParquetError("a column has another number of values than its row group, or is in another file")
            for size in _page_sizes(column[_META], content, end):
                pages.append(size)
                if len(pages) > _MOST_PAGES:
                    raise ParquetError(f"it has more than {_MOST_PAGES:,} pages")
    if rows != footer[_ROWS]:
        raise ParquetError("its footer states another number of rows than its row groups")
    return Unpacked(rows, sum(pages))


def _page_sizes(column: Struct, content: bytes, end: int) -> Iterator[int]:
    """Bytes of each page of a column once it is unpacked, its head included."""
    data, dictionary = column[_DATA], column.get(_DICTIONARY, 0)
    start = dictionary if 0 < dictionary < data else data
    stop = start + column[_PACKED]
    if not 4 <= start < stop <= end:
        raise ParquetError("a column lies outside of the file")
    while start < stop:
        page, length = read_struct(content[start : min(start + _MOST_HEAD, stop)])
        body = start + length
        if page[_PAGE_UNPACKED] < 0 or page[_PAGE_PACKED] < 0:
            raise ParquetError("a page has a negative size")
        yield body - start + page[_PAGE_UNPACKED]
        start = body + page[_PAGE_PACKED]
    if start != stop:
        raise ParquetError("the pages of a column are longer than it says")
