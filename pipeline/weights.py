"""The trained model on disk: weights as safetensors, architecture as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from pipeline import files
from pipeline.errors import InputError
from vae.model import Architecture, Vae

_WEIGHTS, _ARCHITECTURE = "weights.safetensors", "architecture.json"


def write_model(folder: Path, architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Write both files to an existing folder."""
    files.write_tensors(folder / _WEIGHTS, weights)
    files.write_json(folder / _ARCHITECTURE, asdict(architecture))


def read_model(folder: Path) -> Vae:
    """The model of a folder, in double precision on the CPU.

    Raises:
        InputError: a file is missing, damaged or does not fit the other.
    """
    architecture = files.read_json(folder / _ARCHITECTURE)
    weights = files.read_tensors(folder / _WEIGHTS).tensors
    try:
        model = Vae(Architecture(**architecture))
        model.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder} does not hold one model: {' '.join(str(error).split())}") from error
    return model.double().eval()
