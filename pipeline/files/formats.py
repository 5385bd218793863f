"""The few file formats of the stages, written atomically: safetensors, JSON, CSV and plain bytes."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor

from pipeline.errors import InputError
from pipeline.files.atomic import new_file
from vae.surface.grid import Grid

SPLITS = ("train", "validation", "test")
GRID = "grid.json"
LAW = "law.json"  # of simulated data: what their density needs
_BYTES = {"F32": 4, "F64": 8}
VALUES = "values"  # tensor of a split that holds vectors instead of surfaces
_CONDITION = "condition."  # begins the names of tensors that hold a number of each date


class Tensors(NamedTuple):
    """Tensors by name, and the text stored beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class Law(NamedTuple):
    """Standard deviation of the noise on each vol, and the logarithm of the volume of the box of parameters."""

    quote_noise_vol: float
    log_volume: float


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the path cannot be written.
    """
    with new_file(path) as stream:
        stream.write(content)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as JSON, keys in the given order, numbers finite."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    write_bytes(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as the content of a safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, dict(metadata or {}))


def join_tensors(path: Path, parts: Sequence[Path]) -> None:
    """Write the rows of safetensors files, which hold the same tensors, as one; a tensor of a part at a time in memory.

    Raises:
        InputError: a part cannot be read, or the path cannot be written.
    """
    layouts = [_layout(part) for part in parts]
    header, offset = {}, 0
    for name, (dtype, _, *rest) in sorted(layouts[0].items(), key=lambda item: (-_BYTES[item[1][0]], item[0])):
        shape = [sum(layout[name][1] for layout in layouts), *rest]
        size = math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # what follows, wide numbers first, lies aligned
    with new_file(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            for part in parts:
                with reading(part), safetensors.safe_open(part, framework="numpy") as file:
                    stream.write(file.get_tensor(name).tobytes())


def _layout(path: Path) -> dict[str, list[Any]]:
    """Type and shape of each tensor of a safetensors file."""
    with reading(path), safetensors.safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in sorted(file.keys())}
        return {name: [part.get_dtype(), *part.get_shape()] for name, part in slices.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    with reading(path):
        value = json.loads(path.read_text("utf-8"))
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, but holds a {type(value).__name__}")
    return value


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: there is no such file.
    """
    with reading(path):
        return path.read_bytes()


def read_tensors(path: Path) -> Tensors:
    """The tensors and text of a safetensors file.

    Raises:
        InputError: there is no such file, or it is of another format.
    """
    with reading(path), safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return Tensors(tensors, file.metadata() or {})


def read_text(path: Path) -> dict[str, str]:
    """The text stored beside the tensors of a safetensors file.

    Raises:
        InputError: there is no such file, or it is of another format.
    """
    with reading(path), safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def read_split(surfaces: Path, split: str) -> dict[str, Tensor]:
    """One of ``SPLITS`` of the prepared data; docs/formats.md lists its tensors by source."""
    return read_tensors(surfaces / f"{split}.safetensors").tensors


def read_points(surfaces: Path, split: str, name: str = "iv") -> Tensor:
    """All points of each surface (or vector) of a split, [surface, D]; NaN where missing.

    Raises:
        InputError: the split is empty, or a surface has no point.
    """
    path = surfaces / f"{split}.safetensors"
    with reading(path), safetensors.safe_open(path, framework="pt") as file:
        points: Tensor = file.get_tensor(VALUES if VALUES in file.keys() else name).flatten(1)  # noqa: SIM118
    if not len(points):
        raise InputError(f"{path} is empty; give the split {split} a larger share in params.yaml")
    empty = points.isnan().all(1)
    if empty.any():
        raise InputError(f"{path}: surface {int(empty.nonzero()[0]) + 1} has no point; raise prepare.quotes.min_points")
    return points


def write_dated(path: Path, iv: Tensor, dates: Tensor, conditions: Mapping[str, Tensor]) -> None:
    """Write a split of surfaces iv [date, tenor, node] with the numbers of their dates by name, [date]."""
    numbers = {f"{_CONDITION}{name}": values for name, values in conditions.items()}
    write_tensors(path, {"iv": iv, "date": dates, **numbers})


def read_conditions(surfaces: Path, split: str) -> dict[str, Tensor]:
    """The numbers of each date by name, float64 [surface], NaN where unknown; none where data has no dates."""
    tensors = read_split(surfaces, split)
    return {name.removeprefix(_CONDITION): x for name, x in tensors.items() if name.startswith(_CONDITION)}


def read_likelihood(surfaces: Path) -> str:
    """The likelihood that the data asks for: of surfaces always Gaussian."""
    return read_text(surfaces / f"{SPLITS[0]}.safetensors").get("likelihood", "gaussian")


def read_grid(surfaces: Path) -> Grid:
    """The grid of the prepared surfaces."""
    path = surfaces / GRID
    if surfaces.is_dir() and not path.exists():
        raise InputError(
            f"{surfaces} holds no {GRID}: prepare.source: array makes vectors; allowed: surfaces on a grid"
        )
    try:
        return Grid.from_dict(read_json(path))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is not a grid: {error}") from error


def read_law(surfaces: Path) -> Law | None:
    """The law of simulated data; None where the data has none that is known."""
    path = surfaces / LAW
    if not path.exists():
        return None
    try:
        return Law(**{name: float(value) for name, value in read_json(path).items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is not a law: {error}") from error


def sha256(content: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of reading a file as one line that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; `dvc repro` makes it") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or of another format: {error}") from error
