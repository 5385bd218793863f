"""The stage train: a VAE on the prepared surfaces, resumed from a checkpoint where one fits.

`torchrun --nproc-per-node N -m pipeline train ...` shares every batch among N processes.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline import train_checkpoint
from pipeline.dynamics import check_dynamics, fit_motion
from pipeline.errors import InputError, StageError
from pipeline.files import formats, motion_file, trained_model
from pipeline.files.atomic import check_writable, new_folder
from pipeline.files.csv_tables import write_csv
from pipeline.files.dataset import Dataset
from pipeline.files.trained_model import Prior
from pipeline.prior import check_conditions, fit_prior
from pipeline.progress import track
from pipeline.settings.train import PenaltyParams, TrainParams
from pipeline.train_checkpoint import CHECKPOINT, REFIT_CHECKPOINT
from vae.model.arbitrage_penalty import ArbitragePenalty
from vae.model.autoencoder import Architecture, Observations, Vae, transformed
from vae.model.linear import PrincipalComponents, age_weights, components_of_known, principal_components
from vae.model.mixture import Mixture
from vae.model.rows import ROWS, empty_columns, has_missing
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR, Unit
from vae.training.calibrate import calibrate
from vae.training.data_parallel import Replicas
from vae.training.schedule import Schedule
from vae.training.trainer import DivergedError, Epoch, Trainer

_TOLERANCE = 1e-6  # of the forward
_CALIBRATED = 1000  # most surfaces that completions are calibrated with


def new_trainer(
    settings: TrainParams,
    train: Tensor,
    validation: Tensor,
    *,
    likelihood: str = "gaussian",
    device: torch.device | None = None,
    grid: Grid | None = None,
    weights: Tensor | None = None,
    components: PrincipalComponents | None = None,
    stop_after: int | None = None,
    replicas: Replicas = Replicas(),  # noqa: B008 - frozen
) -> Trainer:
    """The trainer at its start: the best linear model of the training surfaces.

    Args:
        settings: settings of the stage.
        train: points [surface, D], NaN where missing. Where the device is the CPU and none is missing, they are read
            as they are needed, so that they may lie in a file that is larger than the memory.
        validation: likewise, in memory.
        likelihood: of a point given z.
        device: of both models; the CPU by default.
        grid: of the surfaces; needed where arbitrage is penalised.
        weights: of the training surfaces, with a mean of 1, [surface]; all count alike by default.
        components: of the law of the surfaces, where it is known better than from these; theirs by default.
        stop_after: as of ``Trainer``.
        replicas: this process among those that train together.

    Raises:
        ValueError: the sizes of the model do not suit the data.
    """
    sizes = settings.model
    architecture = Architecture(
        **{"dimension": train.shape[1], **sizes.model_dump()},
        likelihood=likelihood,  # type: ignore[arg-type]  # checked there
        sees_missing=bool(settings.hidden_share or has_missing(train) or has_missing(validation)),
    )
    if components is None:
        inner = partial(transformed, transform=sizes.transform)
        components = components_of_known([train], sizes.latents, weights, inner)
    architecture = without_rounding(architecture, components, latents=sizes.latents + settings.scaffold_latents)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn from torch's global generator
        torch.manual_seed(settings.seed)
        start = Vae.from_components(architecture, components)
        scaffolded = replace(architecture, latents=sizes.latents + settings.scaffold_latents)
        model = Vae.from_components(scaffolded, components)
    device = device or torch.device("cpu")
    for module in (start, model):
        module.float().to(device)
        module.precision = torch.bfloat16 if settings.precision == "bfloat16" else None
    on_gpu = device.type == "cuda"  # the work of whose steps is recorded, and reads no memory of the host
    seen = _observations(start, train, device, points=on_gpu and (settings.hidden_share > 0.0 or start.pointwise))
    held_out = _observations(start, validation, device, points=start.pointwise)
    penalty = _penalty(settings.arbitrage, grid, device) if grid and settings.arbitrage.epochs else None
    schedule = _schedule(settings)
    return Trainer(
        model,
        seen,
        held_out,
        schedule,
        start=start,
        replicas=replicas,
        penalty=penalty,
        weights=None if weights is None else weights.float().to(device),
        surfaces=None if on_gpu else train,
        stop_after=stop_after,
        compiled=settings.compiled,
    )


def without_rounding(architecture: Architecture, components: PrincipalComponents, *, latents: int) -> Architecture:
    """The architecture with no direction in its basis, and no noise, that single precision cannot tell from 0.

    Args:
        architecture: as params.yaml describes it.
        components: of the training data.
        latents: those of the scaffold included.

    Raises:
        ValueError: the data vary in fewer directions than the model has latents.
    """
    if components.directions < latents:
        raise ValueError(
            f"the data varies in {components.directions} directions only, fewer than latents and scaffold_latents "
            f"({latents})"
        )
    least = (components.rounding / architecture.dimension).sqrt().item()
    basis, floor = min(architecture.basis, components.directions), max(architecture.scale_floor, least)
    factors = min(architecture.residual_factors, basis, architecture.dimension - 1)
    return replace(architecture, basis=basis, residual_factors=factors, scale_floor=floor)


def main(settings: TrainParams, *, surfaces: Path, model: Path, metrics: Path, curve: Path) -> None:
    """Write weights and architecture to the folder ``model``, figures to ``metrics`` and ``curve``."""
    data = Dataset(surfaces)
    with _joined(settings) as (replicas, device), _arithmetic(settings):
        if replicas.rank:  # helps the first process, which writes
            _trained(settings, data, device, replicas)
            return
        for path in (metrics, curve):
            check_writable(path)
        with new_folder(model) as folder:
            trainer, rows = _trained(settings, data, device, replicas)
            shipped = best_model(trainer)
            if _noisy(trainer):
                shape = None if data.of_vectors else data.grid.shape
                shipped.calibration = calibrate(shipped, _calibrating(data), shape=shape, seed=settings.seed)
            prior = fit_prior(settings, shipped, data)
            if settings.dynamics is not None:
                motion_file.write(folder, fit_motion(settings.dynamics, shipped, data))
            weights = {name: value.float() for name, value in shipped.state_dict().items()}
            trained_model.write_model(folder, trainer.architecture, weights, prior)
            write_csv(curve, _curve(trainer, data.unit), rows)
            formats.write_json(metrics, _summary(trainer, shipped, prior, rows, data))
        for checkpoint in (CHECKPOINT, REFIT_CHECKPOINT):
            checkpoint.unlink(missing_ok=True)


def choose_device(name: str) -> torch.device:
    """The device that params.yaml names; ``auto`` is CUDA where torch finds it. Each of several processes has its own.

    Raises:
        InputError: params.yaml names CUDA and torch finds none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: train.device: cuda, but torch finds no CUDA device; allowed here: auto, cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _trained(
    settings: TrainParams, data: Dataset, device: torch.device, replicas: Replicas
) -> tuple[Trainer, list[list[float]]]:
    """The trainer at its end, and the rows of the training curve."""
    train, validation = (torch.from_numpy(data.points(split)) for split in ("train", "validation"))
    _check_kind(settings, data)
    check_dynamics(settings, data)
    check_conditions(settings, data, {"train": len(train), "validation": len(validation)})
    _check_columns(train, data)
    ages = _age_weights(settings, data, "train"), _age_weights(settings, data, "train", "validation")
    start = partial(
        new_trainer,
        settings,
        validation=validation,
        likelihood=data.likelihood,
        device=device,
        grid=data.grid if settings.arbitrage.epochs else None,
        components=components_of_law(settings, data),
        replicas=replicas,
    )
    try:
        trainer = start(train, weights=ages[0])
    except ValueError as error:
        raise InputError(f"params.yaml: train: {error}") from error
    basis = trainer.architecture.basis
    if basis < settings.model.basis and not replicas.rank:
        print(
            f"train: the data varies in {basis} directions only, so that the basis is {basis} instead of "
            f"{settings.model.basis}",
            file=sys.stderr,
            flush=True,
        )
    key, first = train_checkpoint.key(settings, data), not replicas.rank
    rows = _run(trainer, settings, data, CHECKPOINT, key, first=first)
    if not settings.refit:
        return trainer, rows
    again = start(torch.cat([train, validation]), weights=ages[1], stop_after=trainer.best_epoch)
    _run(again, settings, data, REFIT_CHECKPOINT, f"{key} {trainer.best_epoch}", first=first, label="refit")
    return again, rows


def components_of_law(settings: TrainParams, data: Dataset) -> PrincipalComponents | None:
    """Principal components of the law of simulated surfaces: of those without noise, and the variance of the noise.

    None where that law is not known, or where surfaces weigh by their age. Components of noisy surfaces are mixed with
    noise where they have little variance. A decoder adds that noise to each surface that lies far along them, and a
    tenth of a basis point from node to node is a butterfly where a smile has no curvature left.
    """
    if data.law is None or settings.model.transform != "none" or settings.half_life_days is not None:
        return None
    clean = principal_components(torch.from_numpy(data.truth("train")))
    return clean._replace(variances=clean.variances + data.law.quote_noise_vol**2)


def _age_weights(settings: TrainParams, data: Dataset, *splits: str) -> Tensor | None:
    """Weights of surfaces that halve with each ``half_life_days`` of age, with a mean of 1; None where all are alike.

    Raises:
        InputError: the data have no dates.
    """
    if settings.half_life_days is None:
        return None
    dates = [found for split in splits if (found := data.date(split)) is not None]
    if not dates:
        raise InputError(
            f"params.yaml: train.half_life_days is {settings.half_life_days:g}, but the data have no dates; "
            f"allowed: null"
        )
    weights = age_weights(torch.from_numpy(np.concatenate(dates)), settings.half_life_days)
    return weights / weights.mean()


def _check_kind(settings: TrainParams, data: Dataset) -> None:
    """Raise InputError for settings that need a grid where the data are vectors."""
    if not data.of_vectors:
        return
    if settings.arbitrage.epochs:
        raise InputError(
            f"params.yaml: train.arbitrage.epochs is {settings.arbitrage.epochs}, but the data are vectors, which have "
            f"no arbitrage; allowed: 0"
        )
    if settings.conditions:
        raise InputError(
            f"params.yaml: train.conditions names {', '.join(settings.conditions)}, but the data are vectors, which "
            f"have none; allowed: []"
        )


def _check_columns(train: Tensor, data: Dataset) -> None:
    """Raise InputError where no surface of train [surface, D] has a certain point; vectors have them all."""
    empty = empty_columns(train)
    if not empty.any():
        return
    tenor, node = divmod(int(empty.nonzero()[0]), data.grid.shape[1])
    raise InputError(
        f"{data.file('train')}: {int(empty.sum())} of {len(empty)} points are known in no surface, the first at tenor "
        f"{DAYS_PER_YEAR * data.grid.tenors[tenor]:g} days, node {data.grid.nodes[node]:g}; leave them out of "
        f"prepare.grid"
    )


def _observations(model: Vae, x: Tensor, device: torch.device, *, points: bool) -> Observations:
    """Observations x [surface, D] of a model, made in blocks."""
    missing = has_missing(x)
    blocks = (model.observe(block.to(device), points=points, missing=missing) for block in x.split(ROWS))
    return Observations.join((block if points or missing else block._replace(points=None) for block in blocks), len(x))


def _penalty(settings: PenaltyParams, grid: Grid, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Penalty of surfaces [batch, D]: ``settings.nats`` for each 1e-6 of the forward that an arbitrage earns."""
    measure = ArbitragePenalty(grid).to(device)
    return lambda x: settings.nats / _TOLERANCE * measure(x.unflatten(-1, grid.shape))


def _schedule(settings: TrainParams) -> Schedule:
    values = settings.schedule()
    return Schedule(**{field.name: values[field.name] for field in fields(Schedule)})


@contextlib.contextmanager
def _joined(settings: TrainParams) -> Iterator[tuple[Replicas, torch.device]]:
    """This process among those that torchrun started, and its device."""
    device, count = choose_device(settings.device), int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Replicas(), device
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Replicas(torch.distributed.get_rank(), count), device
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _arithmetic(settings: TrainParams) -> Iterator[None]:
    """Set how matrix products are rounded and whether sums have one order; restore torch's settings afterwards."""
    before = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_float32_matmul_precision("high" if settings.precision == "tf32" else "highest")
    torch.use_deterministic_algorithms(settings.deterministic)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.use_deterministic_algorithms(before[1])


def _run(
    trainer: Trainer,
    settings: TrainParams,
    data: Dataset,
    checkpoint: Path,
    key: str,
    *,
    first: bool,
    label: str = "train",
) -> list[list[float]]:
    """Train to the end; the rows of the training curve. The first process writes checkpoints and shows progress."""
    unit, items = data.unit, "vectors" if data.of_vectors else "surfaces"
    rows = train_checkpoint.resume(trainer, checkpoint, key)
    started, begun = time.monotonic(), trainer.next_epoch

    def note(epoch: Epoch) -> str:
        speed = (epoch.number - begun) * trainer.surfaces / (time.monotonic() - started)
        scale = f"scale {unit.text(epoch.scale)}, " if _noisy(trainer) else ""
        return f"validation ELBO {epoch.validation_elbo:,.1f} nats, {scale}{speed:,.0f} {items}/s"

    epochs = trainer.epochs()
    if first:
        epochs = track(epochs, total=trainer.total_epochs, done=begun, label=label, note=note)
    try:
        for epoch in epochs:
            scale = [unit.per_one * epoch.scale] if _noisy(trainer) else []
            rows.append([*epoch[:3], *scale, epoch.skipped_steps])
            due = epoch.number % settings.checkpoint_epochs == 0
            if settings.refit if trainer.finished else due:
                state = trainer.state()  # of which each process has a part
                if first:
                    train_checkpoint.write(checkpoint, state, key, rows)
    except DivergedError as error:
        kept = f"; the last good state is in {checkpoint}" if checkpoint.exists() else ""
        raise StageError(f"{error}: lower train.learning_rate{kept}") from error
    return rows


def _noisy(trainer: Trainer) -> bool:
    """Whether observations have a noise of their own, which Bernoulli points have not."""
    return trainer.architecture.likelihood == "gaussian"


def _curve(trainer: Trainer, unit: Unit) -> tuple[str, ...]:
    """Names of the columns of the training curve."""
    scale = (f"scale{unit.suffix}",) if _noisy(trainer) else ()
    return ("epoch", "train_objective_nats", "validation_elbo_nats", *scale, "skipped_steps")


def best_model(trainer: Trainer) -> Vae:
    """The model with the best weights on validation, in double precision on the CPU."""
    model = Vae(trainer.architecture)
    model.load_state_dict(trainer.best_weights)
    return model.double().eval()


def _calibrating(data: Dataset) -> Tensor:
    """Surfaces that completions are calibrated with, [surface, D].

    Validation surfaces of dated data are a few weeks of one kind of market, so the surfaces before them count as well.
    """
    dated = not data.of_vectors and data.date("validation") is not None
    splits = ("train", "validation") if dated else ("validation",)
    x = torch.from_numpy(np.concatenate([data.points(split) for split in splits])).double()
    return x[:: -(-len(x) // _CALIBRATED)]


def _summary(trainer: Trainer, shipped: Vae, prior: Prior, rows: list[list[float]], data: Dataset) -> dict[str, float]:
    """Flat metrics of the run."""
    figures = {
        "best_validation_elbo_nats": trainer.best_elbo,
        "initial_ppca_validation_elbo_nats": trainer.initial_elbo,
        "epochs": len(rows),
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "basis": trainer.architecture.basis,
        "skipped_steps": int(sum(row[-1] for row in rows)),
        "prior_components": len(prior.law.weights) if isinstance(prior.law, Mixture) else 0,
    }
    if not data.of_vectors:
        figures["arbitrage_penalty_cost_nats"] = trainer.unpenalised_elbo - trainer.best_elbo
    if _noisy(trainer):
        unit = data.unit
        figures[f"scale{unit.suffix}"] = unit.per_one * shipped.noise.square().mean().sqrt().item()
    return figures
