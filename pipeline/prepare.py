"""The stage prepare: splits of exact Heston surfaces with quote noise, of a user's quotes or of a user's array."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline import arrays, files, quotes
from pipeline.atomic import check_writable, new_folder
from pipeline.errors import StageError
from pipeline.params import ArrayPrepare, HestonPrepare, HestonRanges, Params, QuotesPrepare
from pipeline.progress import track
from vae import heston
from vae.units import BASIS_POINTS

_CHUNK = 1024  # surfaces priced at a time: their quadrature fits the cache of a core


class Prepared(NamedTuple):
    """Accepted surfaces of one split, and how many were rejected by reason.

    ``iv`` is quoted, ``clean`` exact, both float32 [surface, tenor, node]; ``parameters`` is float64 [surface, 5].
    """

    iv: Tensor
    clean: Tensor
    parameters: Tensor
    rejected: dict[str, int]


def prepare(params: HestonPrepare) -> dict[str, Prepared]:
    """The splits: consecutive stretches of one Sobol design, so that no surface depends on another's fate."""
    sizes = [getattr(params.surfaces, split) for split in files.SPLITS]
    design = sobol_design(params.heston, sum(sizes), seed=params.seed)
    priced = _priced(params, design)
    stretches = zip(design.split(sizes), priced.vol.split(sizes), priced.flag.split(sizes), strict=True)
    return {
        split: _accepted(params, stream, parameters, heston.Surfaces(vol, flag))
        for stream, (split, (parameters, vol, flag)) in enumerate(zip(files.SPLITS, stretches, strict=True))
    }


def sobol_design(ranges: HestonRanges, surfaces: int, *, seed: int) -> Tensor:
    """Scrambled Sobol points in the box of Heston parameters, float64 [surface, 5].

    Reference: Owen (1998), "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14(4).
    """
    box = [getattr(ranges, name) for name in heston.PARAMETERS]
    low = torch.tensor([side.low for side in box], dtype=torch.float64)
    high = torch.tensor([side.high for side in box], dtype=torch.float64)
    engine = torch.quasirandom.SobolEngine(len(box), scramble=True, seed=seed)
    return low + (high - low) * engine.draw(surfaces, dtype=torch.float64)


def main(params: Params, *, surfaces: Path, metrics: Path) -> None:
    """Write the splits and the grid to the folder ``surfaces`` and the data report to ``metrics``."""
    check_writable(metrics)
    settings = params.prepare
    with new_folder(surfaces) as folder:
        if isinstance(settings, QuotesPrepare):
            figures = quotes.write(settings, folder)
        elif isinstance(settings, ArrayPrepare):
            figures = arrays.write(settings, folder)
        else:
            figures = write(settings, folder)
        files.write_json(metrics, figures)


def write(settings: HestonPrepare, folder: Path) -> dict[str, float | str]:
    """Write Heston surfaces and their grid to a folder; flat figures of the data."""
    splits = prepare(settings)
    for split, data in splits.items():
        tensors = {"iv": data.iv, "clean": data.clean, "parameters": data.parameters}
        files.write_tensors(folder / f"{split}.safetensors", tensors)
    files.write_json(folder / files.GRID, settings.grid.build().to_dict())
    return report(splits)


def report(splits: dict[str, Prepared]) -> dict[str, float | str]:
    """Counts, reasons of rejection and ranges, as flat metrics."""
    result: dict[str, float | str] = {}
    for split, data in splits.items():
        result[f"{split}_surfaces"] = len(data.iv)
        for reason, count in data.rejected.items():
            result[f"{split}_rejected_{reason.replace(' ', '_')}"] = count
    train = splits["train"]
    for name, values in zip(heston.PARAMETERS, train.parameters.T, strict=True):
        result[f"train_{name}_min"] = values.min().item()
        result[f"train_{name}_max"] = values.max().item()
    result["train_iv_min_vol"] = train.iv.min().item()
    result["train_iv_max_vol"] = train.iv.max().item()
    return result


def _priced(params: HestonPrepare, design: Tensor) -> heston.Surfaces:
    """Exact surfaces of all design points, on CUDA where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    grid = params.grid.build()
    start = time.monotonic()
    chunks = design.split(_CHUNK)

    def surfaces() -> Iterator[tuple[int, heston.Surfaces]]:
        for number, chunk in enumerate(chunks, start=1):
            priced = heston.surfaces(chunk.to(device), grid, vol_tolerance=params.vol_tolerance)
            yield number, heston.Surfaces(*(part.cpu() for part in priced))

    def speed(item: tuple[int, heston.Surfaces]) -> str:
        return f"{item[0] * _CHUNK / (time.monotonic() - start):,.0f} surfaces/s"

    tracked = track(surfaces(), total=len(chunks), label="prepare", note=speed)
    parts = zip(*(priced for _, priced in tracked), strict=True)
    return heston.Surfaces(*(torch.cat(part) for part in parts))


def _accepted(params: HestonPrepare, stream: int, parameters: Tensor, surfaces: heston.Surfaces) -> Prepared:
    """The complete surfaces of a split, with quote noise of its own random stream."""
    worst = surfaces.flag.flatten(1).amax(1)
    complete = worst == heston.OK
    rejected = {reason: int((worst == flag).sum()) for flag, reason in enumerate(heston.FLAGS) if flag != heston.OK}
    if complete.sum() < 2:
        raise StageError(f"of {len(worst)} surfaces too few are complete: {rejected}; narrow prepare.grid.nodes")
    generator = np.random.default_rng([params.seed, stream])
    noise = torch.from_numpy(generator.standard_normal(surfaces.vol.shape))
    quoted = surfaces.vol + params.quote_noise_bp / BASIS_POINTS * noise
    return Prepared(
        iv=quoted[complete].float(),
        clean=surfaces.vol[complete].float(),
        parameters=parameters[complete],
        rejected=rejected,
    )
