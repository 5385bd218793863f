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
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces
from vae.surface.units import BASIS_POINTS, Z90

Array = NDArray[np.float64]

_QUOTES = (10, 20, 100)
_SURFACES = 200


def results(*, bundle: Path = BUNDLE, surfaces: Path = SURFACES, count: int = _SURFACES) -> dict[str, float]:
    """Mean error of completed surfaces and the share of noisy vols inside 90 % intervals, by number of quotes."""
    model, data = SurfaceModel.load(bundle, provider="cpu", threads=1), Dataset(surfaces)
    test = data.arrays("test")
    noise = data.law.quote_noise_vol if data.law else 0.0
    generator = np.random.default_rng(1)
    figures = reading(test["parameters"][:count], test["clean"][:count], model)
    for quotes in _QUOTES:
        errors, covered = [], []
        for parameters, clean, noisy in zip(
            *(test[name][:count] for name in ("parameters", "clean", "iv")), strict=True
        ):
            k, tenor, iv = exact_quotes(parameters, model.grid, quotes, generator)
            iv = iv + noise * generator.standard_normal(quotes)
            found = model.complete(iv, tenor=tenor, log_moneyness=k)
            errors.append(np.abs(found.iv - clean).mean())
            covered.append((np.abs(found.iv - noisy) < Z90 * found.std).mean())
        figures[f"off_grid_mae_bp_{quotes}_quotes"] = BASIS_POINTS * float(np.mean(errors))
        figures[f"off_grid_coverage_90_{quotes}_quotes"] = float(np.mean(covered))
    return figures


def reading(parameters: Array, clean: Array, model: SurfaceModel) -> dict[str, float]:
    """Errors of exact surfaces read half-way between tenors, and arbitrage of surfaces read at four times as many.

    Args:
        parameters: of exact surfaces, [surface, 5].
        clean: their vols, [surface, tenor, node].
        model: whose samples are read too.
    """
    grid = model.grid
    between = Grid(0.5 * (grid.tenors[1:] + grid.tenors[:-1]), grid.nodes, grid.convention)
    exact = heston_surfaces.surfaces(torch.from_numpy(parameters).double(), between).vol.numpy()
    error = BASIS_POINTS * (_read(clean, grid, between) - exact)
    parts = np.linspace(grid.tenors[:-1], grid.tenors[1:], 4, endpoint=False).T.ravel()
    dense = Grid(np.append(parts, grid.tenors[-1]), grid.nodes, grid.convention)
    figures = {"reading_rms_bp": float(np.sqrt(np.mean(error**2))), "reading_worst_bp": float(np.abs(error).max())}
    for name, iv in (("data", clean), ("sample", model.sample(len(clean), seed=1))):
        found = arbitrage.violations(_read(iv, grid, dense), dense)
        figures[f"reading_arbitrage_free_rate_{name}"] = arbitrage.free_rate(found, tolerance=1e-6)
    return figures


def _read(iv: NDArray[np.floating], grid: Grid, other: Grid) -> Array:
    """Surfaces of one grid read at the points of another, [surface, tenor, node], inside the nodes by a rounding."""
    k = (1.0 - 1e-12) * other.log_moneyness
    read = [Surfaces(iv, grid).at(row, tenor) for row, tenor in zip(k, other.tenors.tolist(), strict=True)]
    return np.stack(read, axis=1)


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
