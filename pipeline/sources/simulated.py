"""The source of simulated surfaces, ``heston`` the first: exact vols with quote noise, made in shards."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from pipeline.errors import StageError
from pipeline.files import formats
from pipeline.files.atomic import check_space, free_space, on_one_disk
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.files.join import join_tensors
from pipeline.settings.prepare import SimulatedPrepare
from pipeline.sources import executors, shards, simulation
from pipeline.sources.shards import Shard
from vae.pricing.simulated_models import MODELS, SimulatedModel


def write(settings: SimulatedPrepare, folder: Path) -> dict[str, float | str]:
    """Write the splits, their grid and their law to a folder; flat figures of the data.

    Where the surfaces take more than half of the space that is free beside their shards, a shard is removed once its
    split has its surfaces. A run that is killed then makes these again.
    """
    model, data, needed = MODELS[settings.source], Dataset(folder), bytes_of(settings)
    apart = not on_one_disk(folder, shards.CHECKPOINTS)
    if apart:
        check_space(folder, needed, content="the surfaces of prepare.surfaces")
    files = finished_shards(settings)
    parts = {split: [path for shard, path in files.items() if shard.split == split] for split in SPLITS}
    figures: dict[str, float | str] = {}
    for split in SPLITS:
        figures |= _figures(model, split, parts[split])
    scarce = not apart and free_space(folder) < 2 * needed
    for split in SPLITS:
        join_tensors(data.file(split), parts[split], remove=scarce)
    data.write_grid(settings.grid.build())
    data.write_law(simulation.law(settings))
    return figures


def finished_shards(settings: SimulatedPrepare) -> dict[Shard, Path]:
    """The file of each shard in the order of the design; those that a killed run has left are not made again."""
    key = simulation.key_of(settings)
    each = simulation.surface_bytes(settings)
    return shards.finished(simulation.plan(settings), key=key, surface_bytes=each, run=partial(_run, settings, key))


def bytes_of(settings: SimulatedPrepare) -> int:
    """Size of the data set on disk, but for the headers of its files."""
    return simulation.surface_bytes(settings) * sum(shard.size for shard in simulation.plan(settings))


def _run(settings: SimulatedPrepare, key: str, missing: Sequence[Shard]) -> Iterator[tuple[Shard, bytes]]:
    """The content of shards as they are done, by the engine of the settings; a GPU is one worker."""
    simulate = partial(simulation.simulate, settings, key)
    if settings.engine == "dask":
        return executors.dask(simulate, missing, address=str(settings.address))
    cores = 1 if torch.cuda.is_available() else torch.get_num_threads()
    return executors.local(simulate, missing, workers=settings.workers or cores)


def _figures(model: SimulatedModel, split: str, parts: Sequence[Path]) -> dict[str, float | str]:
    """Accepted surfaces of a split, rejected ones by reason and, of the training split, the ranges of its numbers.

    Raises:
        StageError: fewer than two surfaces are left.
    """
    reports = [json.loads(formats.read_text(part)["report"]) for part in parts]
    accepted = sum(report["surfaces"] for report in reports)
    rejected = {reason: sum(report["rejected"][reason] for report in reports) for reason in model.flags[1:]}
    if accepted < 2:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count)
        raise StageError(f"{accepted} {split} surfaces are complete, too few: {reasons}; narrow prepare.grid.nodes")
    figures: dict[str, float | str] = {f"{split}_surfaces": accepted}
    figures |= {f"{split}_rejected_{reason.replace(' ', '_')}": count for reason, count in rejected.items()}
    if split == "train":
        for name in (*model.parameters, "iv"):
            lows, highs = zip(*(report["ranges"][name] for report in reports if report["surfaces"]), strict=True)
            unit = "_vol" if name == "iv" else ""
            figures |= {f"train_{name}_min{unit}": min(lows), f"train_{name}_max{unit}": max(highs)}
    return figures
