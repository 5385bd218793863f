"""Joins safetensors files row by row without holding them in memory."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors

from pipeline.files.atomic import new_file
from pipeline.files.formats import header_bytes, reading

_BYTES = {"F32": 4, "F64": 8}


def join_tensors(path: Path, parts: Sequence[Path], *, remove: bool = False) -> None:
    """Write the rows of safetensors files, which hold the same tensors, as one; a tensor of a part at a time in memory.

    Args:
        path: of the whole.
        parts: its rows in order.
        remove: whether each part is removed once its rows are written: both take no more of the disk than one then.

    Raises:
        InputError: a part cannot be read, or the path cannot be written.
    """
    layouts = [_layout(part) for part in parts]
    header: dict[str, dict[str, Any]] = {}
    offset = 0
    # Wide numbers first, so that all lie aligned.
    for name, (dtype, _, *rest) in sorted(layouts[0].items(), key=lambda item: (-_BYTES[item[1][0]], item[0])):
        shape = [sum(layout[name][1] for layout in layouts), *rest]
        size = math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    with new_file(path) as stream:
        stream.write(header_bytes(header))
        places = {name: stream.tell() + entry["data_offsets"][0] for name, entry in header.items()}
        for part in parts:
            for name in header:
                with reading(part), safetensors.safe_open(part, framework="numpy") as file:
                    content = file.get_tensor(name).tobytes()
                stream.seek(places[name])
                places[name] += stream.write(content)
            if remove:
                part.unlink()


def _layout(path: Path) -> dict[str, list[Any]]:
    """Type and shape of each tensor of a safetensors file."""
    with reading(path), safetensors.safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in sorted(file.keys())}
        return {name: [part.get_dtype(), *part.get_shape()] for name, part in slices.items()}
