"""Joins safetensors files row by row without holding them in memory."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors

from pipeline.files.atomic import new_file
from pipeline.files.formats import reading

_BYTES = {"F32": 4, "F64": 8}


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
