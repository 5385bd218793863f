"""An array of a safetensors file that is read where it is used, so that it may be larger than the memory."""

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from pipeline.files.formats import read_header, reading

_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which Python names from 3.13 on
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


def mapped_array(path: Path, name: str) -> NDArray[Any]:
    """An array of floating-point numbers in memory that the system reads from the file, and may drop, as it is used.

    What is written to the array changes this memory and never the file. Nothing else may change the file meanwhile:
    one that takes the place of the file does not matter.

    Raises:
        InputError: there is no such file, it is of another format, or it has no such array.
    """
    with reading(path), safetensors.safe_open(path, framework="numpy") as file:  # which compares header and size
        kind, shape = (part := file.get_slice(name)).get_dtype(), part.get_shape()
    with reading(path), path.open("rb") as stream:
        if kind not in _TYPES:
            raise ValueError(f"{name} holds {kind}")
        if 0 in shape:  # no memory of this size can be mapped
            return np.empty(shape, _TYPES[kind])
        header, data = read_header(stream)
        begin, end = (data + place for place in header[name]["data_offsets"])
        before = begin % mmap.ALLOCATIONGRANULARITY
        # Reserved memory, and so a file that is read, could be no larger than what the machine has.
        memory = mmap.mmap(
            stream.fileno(),
            end - begin + before,
            flags=mmap.MAP_PRIVATE | _NO_RESERVE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
            offset=begin - before,
        )
    found: NDArray[Any] = np.frombuffer(memory, _TYPES[kind], offset=before)
    return found.reshape(shape)
