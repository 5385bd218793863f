"""One surface of a data set that ``prepare`` made of quotes, as quotes for its completion."""

from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.sources.one_surface import Choice, OneSurface, place_of


def read(folder: Path, choice: Choice) -> OneSurface:
    """The known points of one surface of a data set that ``prepare`` made of quotes.

    Raises:
        InputError: the folder holds no dated surfaces, or several of which none is chosen.
    """
    data = Dataset(folder)
    grid, splits = data.grid, [data.arrays(split) for split in SPLITS]
    if any("date" not in split for split in splits):
        raise InputError(f"{folder} holds surfaces without dates; allowed: those that prepare makes of quotes")
    columns = {
        name: np.concatenate([np.asarray(split.get(name, split["date"] * known), np.float64) for split in splits])
        for name, known in (("date", 1), ("time", 1), ("market", 0))
    }
    place = place_of(str(folder), markets=data.markets, choice=choice, **columns)
    iv = np.concatenate([np.asarray(split["iv"], np.float64) for split in splits])[place.rows][0]
    known = np.isfinite(iv)
    tenor, k = (np.broadcast_to(part, iv.shape)[known] for part in (grid.tenors[:, None], grid.log_moneyness_of(iv)))
    noise, row = np.full(len(k), np.nan), np.arange(1, len(k) + 1)
    return OneSurface(iv[known], tenor, k, None, noise, row, len(k), [], place.when, place.market)
