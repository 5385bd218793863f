"""Tensors of torch in the files of ``formats``: the weights of a model, the state of its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.files import formats


class Tensors(NamedTuple):
    """Tensors by name, and the text stored beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    formats.write_bytes(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as the content of a safetensors file."""
    return formats.array_bytes({name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, metadata)


def read_tensors(path: Path) -> Tensors:
    """The tensors and text of a safetensors file, on the CPU.

    Raises:
        InputError: there is no such file, or it is of another format.
    """
    arrays, metadata = formats.read_arrays(path)
    return Tensors({name: torch.from_numpy(array) for name, array in arrays.items()}, metadata)
