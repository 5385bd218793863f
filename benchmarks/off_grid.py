"""Completion from quotes between the points of the grid: error and coverage (`python -m benchmarks.off_grid`).

Quotes are exact Heston vols at random places, with the noise of the data. The benchmark uses the bundle and the test
surfaces that `make run` leaves.
"""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.serving import BUNDLE, SURFACES
from pipeline.files.dataset import Dataset
from vae.pricing import heston_surfaces
from vae.runtime import SurfaceModel
from vae.surface.grid import Grid

Array = NDArray[np.float64]

_QUOTES = (10, 20, 100)
_SURFACES = 200
_HALF_WIDTH = 1.645  # of a 90 % interval, in standard deviations


def results(*, bundle: Path = BUNDLE, surfaces: Path = SURFACES, count: int = _SURFACES) -> dict[str, float]:
    """Mean error of completed surfaces and the share of noisy vols inside 90 % intervals, by number of quotes."""
    model, data = SurfaceModel.load(bundle, provider="cpu", threads=1), Dataset(surfaces)
    test = data.arrays("test")
    noise = data.law.quote_noise_vol if data.law else 0.0
    generator = np.random.default_rng(1)
    figures = {}
    for quotes in _QUOTES:
        errors, covered = [], []
        for parameters, clean, noisy in zip(
            *(test[name][:count] for name in ("parameters", "clean", "iv")), strict=True
        ):
            k, tenor, iv = exact_quotes(parameters, model.grid, quotes, generator)
            iv = iv + noise * generator.standard_normal(quotes)
            found = model.complete(iv, tenor=tenor, log_moneyness=k)
            errors.append(np.abs(found.iv - clean).mean())
            covered.append((np.abs(found.iv - noisy) < _HALF_WIDTH * found.std).mean())
        figures[f"off_grid_mae_bp_{quotes}_quotes"] = 1e4 * float(np.mean(errors))
        figures[f"off_grid_coverage_90_{quotes}_quotes"] = float(np.mean(covered))
    return figures


def exact_quotes(
    parameters: Array, grid: Grid, quotes: int, generator: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Log-moneyness, tenors and exact vols of quotes at random places, as many in each interval between tenors."""
    places = generator.uniform(0.0, len(grid.tenors) - 1, quotes)
    tenor = np.sort(np.interp(places, np.arange(len(grid.tenors)), grid.tenors))
    node = generator.uniform(grid.nodes[0], grid.nodes[-1], quotes)
    nodes, column = np.unique(node, return_inverse=True)
    dense = Grid(tenor, nodes, grid.convention)
    vol = heston_surfaces.surfaces(torch.from_numpy(parameters[None]).double(), dense).vol[0].numpy()
    return dense.log_moneyness[np.arange(quotes), column], tenor, vol[np.arange(quotes), column]


if __name__ == "__main__":
    print(json.dumps(results(), indent=2))
