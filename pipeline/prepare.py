"""The stage prepare: splits of exact Heston surfaces with quote noise, of a user's quotes or of a user's array."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline.errors import StageError
from pipeline.files import formats
from pipeline.files.atomic import check_writable, new_folder
from pipeline.progress import track
from pipeline.settings.params import ArrayPrepare, HestonPrepare, Params, QuotesPrepare
from pipeline.sources import array, executors, quotes, simulation
from pipeline.sources.simulation import Shard
from vae.pricing import heston, heston_surfaces

CHECKPOINTS = Path(".checkpoints/prepare")  # outside DVC: its outputs are deleted before a stage runs


def main(params: Params, *, surfaces: Path, metrics: Path) -> None:
    """Write the splits and the grid to the folder ``surfaces`` and the data report to ``metrics``."""
    check_writable(metrics)
    settings = params.prepare
    with new_folder(surfaces) as folder:
        if isinstance(settings, QuotesPrepare):
            figures = quotes.write(settings, folder)
        elif isinstance(settings, ArrayPrepare):
            figures = array.write(settings, folder)
        else:
            figures = write(settings, folder)
        formats.write_json(metrics, figures)
    shutil.rmtree(CHECKPOINTS, ignore_errors=True)


def write(settings: HestonPrepare, folder: Path) -> dict[str, float | str]:
    """Write Heston surfaces and their grid to a folder; flat figures of the data."""
    shards = finished_shards(settings)
    figures: dict[str, float | str] = {}
    for split in formats.SPLITS:
        parts = [path for shard, path in shards.items() if shard.split == split]
        figures |= _figures(split, parts)
        formats.join_tensors(folder / f"{split}.safetensors", parts)
    formats.write_json(folder / formats.GRID, settings.grid.build().to_dict())
    formats.write_json(folder / formats.LAW, simulation.law(settings)._asdict())
    return figures


def finished_shards(settings: HestonPrepare) -> dict[Shard, Path]:
    """The file of each shard in the order of the design; those of a run that was killed are not made again.

    A file's name ends in the sha256 of its content, so that a damaged one is noticed and made again.
    """
    key = simulation.key_of(settings)
    store = CHECKPOINTS / key[:16]
    _remove_others(store)
    shards = simulation.plan(settings)
    found = {shard: path for shard in shards if (path := _intact(store, shard))}
    if found:
        print(f"prepare: resumed with {len(found)} of {len(shards)} shards from {store}", file=sys.stderr, flush=True)
    made = _timed(_run(settings, partial(simulation.simulate, settings, key), [s for s in shards if s not in found]))
    for shard, content, _ in track(made, total=len(shards), done=len(found), label="prepare", note=_note):
        found[shard] = store / f"{_stem(shard)}-{formats.sha256(content)}.safetensors"
        formats.write_bytes(found[shard], content)
    return {shard: found[shard] for shard in shards}


def _run(
    settings: HestonPrepare, function: Callable[[Shard], bytes], shards: Sequence[Shard]
) -> Iterator[tuple[Shard, bytes]]:
    """The shards as they are done, by the engine of the settings; a GPU is one worker."""
    if settings.engine == "dask":
        return executors.dask(function, shards, address=str(settings.address))
    cores = 1 if torch.cuda.is_available() else torch.get_num_threads()
    return executors.local(function, shards, workers=settings.workers or cores)


class _Made(NamedTuple):
    shard: Shard
    content: bytes
    surfaces_per_second: float


def _timed(results: Iterator[tuple[Shard, bytes]]) -> Iterator[_Made]:
    """Results with the speed since the first was asked for."""
    start, surfaces = time.monotonic(), 0
    for shard, content in results:
        surfaces += shard.size
        yield _Made(shard, content, surfaces / (time.monotonic() - start))


def _note(made: _Made) -> str:
    return f"{made.surfaces_per_second:,.0f} surfaces/s"


def _stem(shard: Shard) -> str:
    return f"{shard.split}-{shard.number:05}"


def _intact(store: Path, shard: Shard) -> Path | None:
    """The file of a shard whose content is what its name says; any other one is removed."""
    for path in store.glob(f"{_stem(shard)}-*.safetensors"):
        if formats.sha256(formats.read_bytes(path)) == path.stem.rpartition("-")[2]:
            return path
        path.unlink()
    return None


def _remove_others(store: Path) -> None:
    """Remove the shards of other settings: they would only fill the disk."""
    for other in CHECKPOINTS.glob("*"):
        if other != store:
            shutil.rmtree(other)


def _figures(split: str, parts: Sequence[Path]) -> dict[str, float | str]:
    """Accepted surfaces of a split, rejected ones by reason and, of the training split, the ranges of its numbers.

    Raises:
        StageError: fewer than two surfaces are left.
    """
    reports = [json.loads(formats.read_text(part)["report"]) for part in parts]
    accepted = sum(report["surfaces"] for report in reports)
    rejected = {reason: sum(report["rejected"][reason] for report in reports) for reason in heston_surfaces.FLAGS[1:]}
    if accepted < 2:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count)
        raise StageError(f"{accepted} {split} surfaces are complete, too few: {reasons}; narrow prepare.grid.nodes")
    figures: dict[str, float | str] = {f"{split}_surfaces": accepted}
    figures |= {f"{split}_rejected_{reason.replace(' ', '_')}": count for reason, count in rejected.items()}
    if split == "train":
        for name in (*heston.PARAMETERS, "iv"):
            lows, highs = zip(*(report["ranges"][name] for report in reports if report["surfaces"]), strict=True)
            unit = "_vol" if name == "iv" else ""
            figures |= {f"train_{name}_min{unit}": min(lows), f"train_{name}_max{unit}": max(highs)}
    return figures
