"""The file formats of the stages, written atomically: safetensors, JSON and plain bytes. Never imports torch."""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files.atomic import new_file

_METADATA = "__metadata__"  # key of the header of safetensors


class Arrays(NamedTuple):
    """Arrays by name, and the text stored beside them."""

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the path cannot be written.
    """
    with new_file(path) as stream:
        stream.write(content)


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has neither NaN nor infinity: None in their place."""
    return value if math.isfinite(value) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as JSON, keys in the given order, numbers finite."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as safetensors."""
    write_bytes(path, array_bytes(arrays, metadata))


def array_bytes(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Arrays as the content of a safetensors file."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(contiguous, dict(metadata or {}))
    return _in_order(content) if len(metadata or {}) > 1 else content


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted by name; safetensors writes them in an order that it draws anew."""
    with io.BytesIO(content) as stream:
        header, begin = read_header(stream)
    header[_METADATA] = dict(sorted(header[_METADATA].items()))
    return header_bytes(header) + content[begin:]


def read_header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begin; the file is known to be one."""
    length = int.from_bytes(stream.read(8), "little")
    return json.loads(stream.read(length)), 8 + length


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """The beginning of a safetensors file, up to its data, which lie aligned."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: there is no such file, or it holds something else, or an object in it has a key twice.
    """
    with reading(path):
        value = json.loads(path.read_text("utf-8"), object_pairs_hook=_of_pairs)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, but holds a {type(value).__name__}")
    return value


def _of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has {key!r} twice in one object")
        found[key] = value
    return found


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: there is no such file.
    """
    with reading(path):
        return path.read_bytes()


def read_arrays(path: Path) -> Arrays:
    """The arrays and text of a safetensors file.

    Raises:
        InputError: there is no such file, or it is of another format.
    """
    with reading(path), safetensors.safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return Arrays(arrays, file.metadata() or {})


def read_text(path: Path) -> dict[str, str]:
    """The text stored beside the arrays of a safetensors file.

    Raises:
        InputError: there is no such file, or it is of another format.
    """
    with reading(path), safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def sha256(content: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of the content of a file of any size.

    Raises:
        InputError: there is no such file.
    """
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.exists():  # safetensors calls all errors so
            raise InputError(f"{path} does not exist; `dvc repro` makes it") from error
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or of another format: {error}") from error
