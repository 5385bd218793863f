"""Tensors of torch as safetensors files: the weights of a model, the state of its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor

from pipeline.files.formats import reading, write_bytes


class Tensors(NamedTuple):
    """Tensors by name, and the text stored beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    write_bytes(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as the content of a safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, dict(metadata or {}))


def read_tensors(path: Path) -> Tensors:
    """The tensors and text of a safetensors file, on the CPU.

    Raises:
        InputError: there is no such file, or it is of another format.
    """
    with reading(path), safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return Tensors(tensors, file.metadata() or {})
