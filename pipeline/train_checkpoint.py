"""Checkpoints of the stage train: the state of a training that another run goes on from."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import InputError
from pipeline.files import formats, tensor_files
from pipeline.files.dataset import Dataset
from pipeline.files.stage_code import code_sha256
from pipeline.settings.train import TrainParams
from vae.training.trainer import Trainer

CHECKPOINT = Path(".checkpoints/train.safetensors")  # outside DVC: its outputs are deleted before a stage runs
REFIT_CHECKPOINT = CHECKPOINT.with_name("refit.safetensors")
_CHECKSUM = "sha256"  # key of the checksum in a checkpoint


def key(settings: TrainParams, data: Dataset) -> str:
    """Hash of all that the result depends on: settings, code, torch's version and data."""
    values, code = settings.model_dump_json(exclude=set(settings.result_free)), code_sha256("train")
    splits = [formats.sha256_of(data.file(split)) for split in ("train", "validation")]
    return formats.sha256("\n".join([values, code, torch.__version__, *splits]).encode())


def write(checkpoint: Path, tensors: Mapping[str, Tensor], key: str, curve: list[list[float]]) -> None:
    """Write the state of a training, what it belongs to and the curve so far, with their checksum."""
    metadata = {"key": key, "curve": json.dumps(curve)}
    tensor_files.write_tensors(checkpoint, tensors, {**metadata, _CHECKSUM: _checksum(tensors, metadata)})


def resume(trainer: Trainer, checkpoint: Path, key: str) -> list[list[float]]:
    """Restore the checkpoint where it belongs to the same settings, code and data; the curve so far."""
    if not checkpoint.exists():
        return []
    try:
        tensors, metadata = tensor_files.read_tensors(checkpoint)
    except InputError:
        tensors, metadata = {}, {}
    if metadata.pop(_CHECKSUM, None) != _checksum(tensors, metadata):
        print(f"train: {checkpoint} is damaged; training starts anew", file=sys.stderr, flush=True)
        return []
    if metadata["key"] != key:
        return []
    trainer.restore(tensors)
    print(f"train: resumed after epoch {trainer.next_epoch} from {checkpoint}", file=sys.stderr, flush=True)
    rows: list[list[float]] = json.loads(metadata["curve"])
    return rows


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    text = json.dumps(metadata, sort_keys=True).encode()
    return formats.sha256(text + tensor_files.tensor_bytes(tensors))
