"""The stage train: a VAE on the prepared surfaces, resumed from a checkpoint where one fits."""

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from pipeline import files, weights
from pipeline.atomic import check_writable, new_folder
from pipeline.errors import InputError, StageError
from pipeline.params import Params, TrainParams
from pipeline.progress import track
from vae.fit import DivergedError, Epoch, Fit, Schedule
from vae.model import Architecture, Coordinates, Vae
from vae.ppca import principal_components
from vae.units import BASIS_POINTS

CHECKPOINT = Path(".checkpoints/train.safetensors")  # outside DVC: its outputs are deleted before a stage runs
_ROWS = 65_536  # surfaces in double precision at a time: bounds the memory
_CURVE = ("epoch", "train_elbo_nats", "validation_elbo_nats", "scale_bp", "skipped_steps")


def new_fit(params: TrainParams, train: Tensor, validation: Tensor) -> Fit:
    """The training state at the pPCA of the training surfaces; both arguments are their points [surface, D].

    Raises:
        ValueError: the sizes of the model do not suit the data.
    """
    device = choose_device(params.device)
    torch.manual_seed(params.seed)  # initial weights
    sizes = params.model
    architecture = Architecture(train.shape[1], sizes.basis, sizes.latents, sizes.width, sizes.depth)
    # Coordinates in double precision: a vol has 8 digits in single, and 4 are the surfaces' common mean.
    components = principal_components(train)
    model = Vae.from_components(architecture, components)
    single = [_coordinates(model, part, device) for part in (train, validation)]
    schedule = Schedule(
        epochs=params.epochs,
        batch=params.batch,
        learning_rate=params.learning_rate,
        scale_rate=params.scale_rate,
        warmup_steps=params.warmup_steps,
        gradient_clip=params.gradient_clip,
        seed=params.seed,
    )
    return Fit(model.float().to(device), single[0], single[1], schedule)


def _coordinates(model: Vae, points: Tensor, device: torch.device) -> Coordinates:
    """Observations [surface, D] in the basis of a model, in double precision some at a time, then rounded."""
    blocks = [model.coordinates(block.double()) for block in points.split(_ROWS)]
    return Coordinates(*(torch.cat([part.float() for part in parts]).to(device) for parts in zip(*blocks, strict=True)))


def main(params: Params, *, surfaces: Path, model: Path, metrics: Path, curve: Path) -> None:
    """Write weights and architecture to the folder ``model``, figures to ``metrics`` and ``curve``."""
    for path in (metrics, curve):
        check_writable(path)
    with new_folder(model) as folder:
        train, validation = (files.read_points(surfaces, split) for split in ("train", "validation"))
        try:
            fit = new_fit(params.train, train, validation)
        except ValueError as error:
            raise InputError(f"params.yaml: train: {error}") from error
        rows = _run(fit, params.train, key=_key(params.train, surfaces))
        weights.write_model(folder, fit.model.architecture, fit.best_weights)
        files.write_csv(curve, _CURVE, rows)
        files.write_json(metrics, _summary(fit, rows))
    CHECKPOINT.unlink(missing_ok=True)


def choose_device(name: str) -> torch.device:
    """The device that params.yaml names; ``auto`` is CUDA where there is one.

    Raises:
        InputError: CUDA is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: train.device: cuda, but torch finds no CUDA device; allowed here: auto, cpu")
    return torch.device(name)


def _run(fit: Fit, params: TrainParams, *, key: str) -> list[list[float]]:
    """Train to the end with checkpoints; the rows of the training curve."""
    rows = _resume(fit, key)
    started, first = time.monotonic(), fit.next_epoch

    def note(epoch: Epoch) -> str:
        speed = (epoch.number - first) * fit.surfaces / (time.monotonic() - started)
        scale = BASIS_POINTS * epoch.scale
        return f"validation ELBO {epoch.validation_elbo:,.1f} nats, scale {scale:.2f} bp, {speed:,.0f} surfaces/s"

    epochs = track(fit.epochs(), total=params.epochs, done=first, label="train", note=note)
    try:
        for epoch in epochs:
            rows.append([*epoch[:3], BASIS_POINTS * epoch.scale, epoch.skipped_steps])
            if epoch.number % params.checkpoint_epochs == 0 and epoch.number < params.epochs:
                metadata = {"key": key, "curve": json.dumps(rows)}
                files.write_tensors(CHECKPOINT, fit.state(), metadata)
    except DivergedError as error:
        kept = f"; the last good state is in {CHECKPOINT}" if CHECKPOINT.exists() else ""
        raise StageError(f"{error}{kept}") from error
    return rows


def _resume(fit: Fit, key: str) -> list[list[float]]:
    """Restore the checkpoint where it belongs to the same data and settings; the curve so far."""
    if not CHECKPOINT.exists():
        return []
    tensors, metadata = files.read_tensors(CHECKPOINT)
    if metadata.get("key") != key:
        return []
    fit.restore(tensors)
    print(f"train: resumed after epoch {fit.next_epoch} from {CHECKPOINT}", file=sys.stderr, flush=True)
    rows: list[list[float]] = json.loads(metadata["curve"])
    return rows


def _key(params: TrainParams, surfaces: Path) -> str:
    """What a checkpoint depends on: the settings that change the result, and the data."""
    settings = params.model_dump_json(exclude={"checkpoint_epochs"})
    data = [files.sha256(files.read_bytes(surfaces / f"{s}.safetensors")) for s in ("train", "validation")]
    return files.sha256("\n".join([settings, torch.__version__, *data]).encode())


def _summary(fit: Fit, rows: list[list[float]]) -> dict[str, float]:
    """Flat metrics of the run."""
    return {
        "best_validation_elbo_nats": fit.best_elbo,
        "initial_ppca_validation_elbo_nats": fit.initial_elbo,
        "epochs": len(rows),
        "scale_bp": BASIS_POINTS * fit.best_weights["log_scale"].exp().item(),
        "parameters": sum(p.numel() for p in fit.model.parameters()),
        "skipped_steps": int(sum(row[-1] for row in rows)),
    }
