"""The stage train: a VAE on the prepared surfaces, resumed from a checkpoint where one fits.

`torchrun --nproc-per-node N -m pipeline train ...` shares every batch among N processes.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.conditions import read_conditions
from pipeline.errors import InputError, StageError
from pipeline.files import formats, trained_model
from pipeline.files.atomic import check_writable, new_folder, write_csv
from pipeline.files.trained_model import Prior
from pipeline.progress import track
from pipeline.settings.params import Params, PenaltyParams, TrainParams
from vae.model.autoencoder import Architecture, Observations, Vae, transformed
from vae.model.linear import filled, principal_components
from vae.model.mixture import Mixture, TooFewRowsError, fewest_rows, fit_mixture
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS
from vae.training.arbitrage_penalty import ArbitragePenalty
from vae.training.data_parallel import Replicas
from vae.training.schedule import Schedule
from vae.training.trainer import DivergedError, Epoch, Trainer

CHECKPOINT = Path(".checkpoints/train.safetensors")  # outside DVC: its outputs are deleted before a stage runs
_TOLERANCE = 1e-6  # of the forward
_ROWS = 65_536  # surfaces in double precision at a time: bounds the memory
_CURVE = ("epoch", "train_objective_nats", "validation_elbo_nats", "scale_bp", "skipped_steps")


def new_fit(
    params: TrainParams,
    train: Tensor,
    validation: Tensor,
    *,
    likelihood: str = "gaussian",
    device: torch.device | None = None,
    grid: Grid | None = None,
    replicas: Replicas = Replicas(),  # noqa: B008 - frozen
) -> Trainer:
    """The training state at the best linear model of the training surfaces; both arguments are points [surface, D].

    The grid is needed where arbitrage is penalised.

    Raises:
        ValueError: the sizes of the model do not suit the data.
    """
    torch.manual_seed(params.seed)  # initial weights
    sizes = params.model
    architecture = Architecture(
        **{"dimension": train.shape[1], **sizes.model_dump()},
        likelihood=likelihood,  # type: ignore[arg-type]  # checked there
        sees_missing=bool(params.hidden_share or train.isnan().any() or validation.isnan().any()),
    )
    components = principal_components(filled(transformed(train, sizes.transform), sizes.latents))
    start = Vae.from_components(architecture, components)
    model = Vae.from_components(replace(architecture, latents=sizes.latents + params.scaffold_latents), components)
    device = device or torch.device("cpu")
    for module in (start, model):
        module.float().to(device)
        module.precision = torch.bfloat16 if params.precision == "bfloat16" else None
    data = [
        _observations(start, part, device, points=hides)
        for part, hides in ((train, params.hidden_share > 0.0), (validation, False))
    ]
    penalty = _penalty(params.arbitrage, grid, device) if grid and params.arbitrage.epochs else None
    schedule = _schedule(params)
    return Trainer(
        model, data[0], data[1], schedule, start=start, replicas=replicas, penalty=penalty, compiled=params.compiled
    )


def main(params: Params, *, surfaces: Path, model: Path, metrics: Path, curve: Path) -> None:
    """Write weights and architecture to the folder ``model``, figures to ``metrics`` and ``curve``."""
    with _joined(params.train) as (replicas, device), _arithmetic(params.train):
        if replicas.rank:  # helps the first process, which writes
            _trained(params.train, surfaces, device, replicas)
            return
        for path in (metrics, curve):
            check_writable(path)
        with new_folder(model) as folder:
            fit, rows = _trained(params.train, surfaces, device, replicas)
            shipped = best_model(fit)
            prior = fit_prior(params.train, shipped, surfaces)
            trained_model.write_model(folder, fit.architecture, fit.best_weights, prior)
            write_csv(curve, _CURVE, rows)
            formats.write_json(metrics, _summary(fit, shipped, prior, rows))
        CHECKPOINT.unlink(missing_ok=True)


def choose_device(name: str) -> torch.device:
    """The device that params.yaml names; ``auto`` is CUDA where there is one. Of several processes each has its own.

    Raises:
        InputError: CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: train.device: cuda, but torch finds no CUDA device; allowed here: auto, cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _trained(
    params: TrainParams, surfaces: Path, device: torch.device, replicas: Replicas
) -> tuple[Trainer, list[list[float]]]:
    """The fit at its end, and the rows of the training curve."""
    train, validation = (formats.read_points(surfaces, split) for split in ("train", "validation"))
    likelihood = formats.read_likelihood(surfaces)
    _check_conditions(params, surfaces, {"train": len(train), "validation": len(validation)})
    try:
        grid = formats.read_grid(surfaces) if params.arbitrage.epochs else None
        fit = new_fit(params, train, validation, likelihood=likelihood, device=device, grid=grid, replicas=replicas)
    except ValueError as error:
        raise InputError(f"params.yaml: train: {error}") from error
    return fit, _run(fit, params, key=_key(params, surfaces), first=not replicas.rank)


def _observations(model: Vae, x: Tensor, device: torch.device, *, points: bool) -> Observations:
    """Observations x [surface, D] of a model, some at a time: the mean goes first, so that digits are left."""
    missing = bool(x.isnan().any())
    return Observations.join(
        [model.observe(block.to(device), points=points, missing=missing) for block in x.split(_ROWS)]
    )


def _penalty(params: PenaltyParams, grid: Grid, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Nats of surfaces [batch, D]: ``params.nats`` for each 1e-6 of the forward that a trade earns."""
    measure = ArbitragePenalty(grid).to(device)
    return lambda x: params.nats / _TOLERANCE * measure(x.unflatten(-1, grid.shape))


def _schedule(params: TrainParams) -> Schedule:
    return Schedule(
        epochs=params.epochs,
        batch=params.batch,
        learning_rate=params.learning_rate,
        scale_rate=params.scale_rate,
        warmup_steps=params.warmup_steps,
        gradient_clip=params.gradient_clip,
        seed=params.seed,
        scaffold_latents=params.scaffold_latents,
        beta=params.beta,
        beta_warmup_epochs=params.beta_warmup_epochs,
        importance_samples=params.importance_samples,
        hidden_share=params.hidden_share,
        patience_epochs=params.patience_epochs,
        weight_decay=params.weight_decay,
        penalty_epochs=params.arbitrage.epochs,
        penalty_samples=params.arbitrage.samples,
    )


@contextlib.contextmanager
def _joined(params: TrainParams) -> Iterator[tuple[Replicas, torch.device]]:
    """This process among those that torchrun started, and its device."""
    device, count = choose_device(params.device), int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Replicas(), device
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Replicas(torch.distributed.get_rank(), count), device
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _arithmetic(params: TrainParams) -> Iterator[None]:
    """How products are rounded, and that sums are made in one order."""
    before = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_float32_matmul_precision("high" if params.precision == "tf32" else "highest")
    torch.use_deterministic_algorithms(params.deterministic)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.use_deterministic_algorithms(before[1])


def _run(fit: Trainer, params: TrainParams, *, key: str, first: bool) -> list[list[float]]:
    """Train to the end; the rows of the training curve. The first process writes checkpoints and shows progress."""
    rows = _resume(fit, key)
    started, begun = time.monotonic(), fit.next_epoch

    def note(epoch: Epoch) -> str:
        speed = (epoch.number - begun) * fit.surfaces / (time.monotonic() - started)
        scale = BASIS_POINTS * epoch.scale
        return f"validation ELBO {epoch.validation_elbo:,.1f} nats, scale {scale:.2f} bp, {speed:,.0f} surfaces/s"

    epochs = fit.epochs()
    if first:
        epochs = track(epochs, total=fit.total_epochs, done=begun, label="train", note=note)
    try:
        for epoch in epochs:
            rows.append([*epoch[:3], BASIS_POINTS * epoch.scale, epoch.skipped_steps])
            if first and epoch.number % params.checkpoint_epochs == 0 and not fit.finished:
                metadata = {"key": key, "curve": json.dumps(rows)}
                formats.write_tensors(CHECKPOINT, fit.state(), metadata)
    except DivergedError as error:
        kept = f"; the last good state is in {CHECKPOINT}" if CHECKPOINT.exists() else ""
        raise StageError(f"{error}: lower train.learning_rate{kept}") from error
    return rows


def _resume(fit: Trainer, key: str) -> list[list[float]]:
    """Restore the checkpoint where it belongs to the same data and settings; the curve so far."""
    if not CHECKPOINT.exists():
        return []
    tensors, metadata = formats.read_tensors(CHECKPOINT)
    if metadata.get("key") != key:
        return []
    fit.restore(tensors)
    print(f"train: resumed after epoch {fit.next_epoch} from {CHECKPOINT}", file=sys.stderr, flush=True)
    rows: list[list[float]] = json.loads(metadata["curve"])
    return rows


def _key(params: TrainParams, surfaces: Path) -> str:
    """What a checkpoint depends on: the settings that change the result, and the data."""
    settings = params.model_dump_json(exclude={"checkpoint_epochs"})
    data = [formats.sha256(formats.read_bytes(surfaces / f"{s}.safetensors")) for s in ("train", "validation")]
    return formats.sha256("\n".join([settings, torch.__version__, *data]).encode())


def best_model(fit: Trainer) -> Vae:
    """The model with the best weights on validation, in double precision on the CPU."""
    model = Vae(fit.architecture)
    model.load_state_dict(fit.best_weights)
    return model.double().eval()


def fit_prior(params: TrainParams, model: Vae, surfaces: Path) -> Prior:
    """The mixture of conditions and codes, of those that params.yaml names, that fits the validation split best."""
    train, validation = (
        _codes(params, model, surfaces, split, seed=seed)
        for seed, split in enumerate(("train", "validation"), start=params.seed)
    )
    candidates = [Mixture.standard_normal(train.shape[1])] if not params.conditions else []
    for components in params.prior.components:
        with contextlib.suppress(TooFewRowsError):
            candidates.append(fit_mixture(train, components, seed=params.seed))
    best = max(candidates, key=lambda mixture: mixture.log_density(validation).mean())
    return Prior(best, tuple(params.conditions))


def _check_conditions(params: TrainParams, surfaces: Path, sizes: Mapping[str, int]) -> None:
    """Raise InputError for conditions that no prior could be fitted to: before training, which may take hours."""
    if not params.conditions:
        return
    fewest = fewest_rows(min(params.prior.components), len(params.conditions) + params.model.latents)
    for split, needed in (("train", fewest), ("validation", 1)):
        count = min(sizes[split], params.prior.surfaces)
        known = int(read_conditions(tuple(params.conditions), surfaces, split).known(count).sum())
        if known < needed:
            raise InputError(
                f"params.yaml: train.conditions: {known} surfaces of the split {split} have all of "
                f"{', '.join(params.conditions)}, but train.prior.components needs {needed}"
            )


def _codes(params: TrainParams, model: Vae, surfaces: Path, split: str, *, seed: int) -> NDArray[np.float64]:
    """Conditions and a draw from the posterior of each surface that has them all, [surface, condition + latent]."""
    x = formats.read_points(surfaces, split)[: params.prior.surfaces]
    conditions = read_conditions(tuple(params.conditions), surfaces, split)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    with torch.no_grad():
        for start in range(0, len(x), _ROWS):
            rows = slice(start, min(start + _ROWS, len(x)))
            seen = model.observe(x[rows].double())
            posterior = model.encode(seen.values, seen.missing)
            z = posterior.sample(torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float64))
            asked = conditions.of(model.expand(model.decode(z)), rows)
            parts.append(torch.cat([asked, z], dim=1))
    codes = torch.cat(parts)
    return codes[~codes.isnan().any(1)].numpy()


def _summary(fit: Trainer, shipped: Vae, prior: Prior, rows: list[list[float]]) -> dict[str, float]:
    """Flat metrics of the run."""
    figures = {
        "best_validation_elbo_nats": fit.best_elbo,
        "initial_ppca_validation_elbo_nats": fit.initial_elbo,
        "arbitrage_penalty_cost_nats": fit.unpenalised_elbo - fit.best_elbo,
        "epochs": len(rows),
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "skipped_steps": int(sum(row[-1] for row in rows)),
        "prior_components": len(prior.joint.weights),
    }
    if shipped.architecture.likelihood == "gaussian":
        figures["scale_bp"] = BASIS_POINTS * shipped.noise.square().mean().sqrt().item()
    return figures
