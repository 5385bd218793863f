"""The source ``heston_paths``: surfaces of consecutive days of one Heston path, whose law of tomorrow is known exactly.

Variances and returns are drawn from their exact law. So ``evaluate`` can say how far a law of motion, which sees
surfaces and returns only, is from the truth.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files.dataset import SPLITS, Dataset, PathLaw
from pipeline.progress import track
from pipeline.settings.prepare import HestonPathsPrepare
from vae.pricing import heston_surfaces
from vae.pricing.heston_transition import Process, simulated
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR

Array = NDArray[np.float64]

SPOT, VARIANCE = "spot", "variance"  # numbers of each day
_FIRST = np.datetime64("2000-01-01").astype(int)
_ROWS = 256  # surfaces priced at a time


def write(settings: HestonPathsPrepare, folder: Path) -> dict[str, float | str]:
    """Write the splits, one after the other, their grid and their law to a folder; flat figures of the data.

    Raises:
        StageError: a vol of a day cannot be computed.
    """
    path, data, grid = settings.heston_paths, Dataset(folder), settings.grid.build()
    process = Process(path.kappa, path.theta, path.vol_of_vol, path.rho)
    law = PathLaw(*process, settings.vol_tolerance)
    sizes = [getattr(settings.surfaces, split) for split in SPLITS]
    variance, log_return = simulated(process, path.v0, sum(sizes) - 1, 1.0 / DAYS_PER_YEAR, seed=settings.seed)
    spot = np.exp(np.concatenate([[0.0], np.cumsum(log_return)]))
    blocks = np.split(variance, range(_ROWS, len(variance), _ROWS))
    tracked = track(blocks, total=len(blocks), label="prepare", note=lambda block: f"{len(block)} days")
    vols = np.concatenate([priced(law, block, grid) for block in tracked])
    missing = np.isnan(vols).any(axis=(1, 2)).sum()
    if missing:
        raise StageError(
            f"{missing} of {len(vols)} days have vols that cannot be computed to prepare.vol_tolerance; "
            f"narrow prepare.grid.nodes"
        )
    noise = np.random.default_rng([settings.seed, 1]).standard_normal(vols.shape)
    quoted = (vols + settings.quote_noise_bp / BASIS_POINTS * noise).astype(np.float32)
    days = np.arange(_FIRST, _FIRST + len(vols), dtype=np.int32)
    figures: dict[str, float | str] = {"variance_min": variance.min().item(), "variance_max": variance.max().item()}
    for split, own in zip(SPLITS, np.split(np.arange(len(vols)), np.cumsum(sizes)[:-1]), strict=True):
        data.write_surfaces(split, quoted[own], days[own], {SPOT: spot[own], VARIANCE: variance[own]})
        figures[f"{split}_surfaces"] = len(own)
    data.write_grid(grid)
    data.write_path(law)
    return figures


def priced(law: PathLaw, variance: Array, grid: Grid) -> Array:
    """Vols of days with some variances, [day, tenor, node]; NaN where they cannot be computed."""
    fixed = torch.tensor(law[: len(Process._fields)], dtype=torch.float64).expand(len(variance), -1)
    parameters = torch.cat([torch.from_numpy(variance)[:, None], fixed], dim=1)
    return heston_surfaces.surfaces(parameters, grid, vol_tolerance=law.vol_tolerance).vol.numpy()
