"""Completion of surfaces that the model did not learn, and of noisy quotes (`python -m benchmarks.outside`).

Forty random quotes of each surface, with the noise of the data and without weights. The benchmark uses the bundle and
the test surfaces that `make run` leaves, and makes others: those of Hagan, Kumar, Lesniewski, Woodward (2002),
"Managing smile risk", with beta 1; a skew that falls as a power of the tenor, as in Gatheral, Jaisson, Rosenbaum
(2018), "Volatility is rough"; a jump at one date; and one vol for all.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving import BUNDLE, SURFACES
from pipeline.files.dataset import Dataset
from vae.runtime import SurfaceModel
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, Z90

Array = NDArray[np.float64]

_QUOTES, _SURFACES = 40, 60
_OWN_BY_OTHERS = 10  # own surfaces for each other one, as at most one in a hundred may be flagged
_NOISES = (20.0, 50.0)  # bp
_LEARNED_BP = 1.0


def results(*, bundle: Path = BUNDLE, surfaces: Path = SURFACES, count: int = _SURFACES) -> dict[str, float]:
    """Share of surfaces that are flagged, coverage of 90 % intervals, and error by that with the right weights."""
    model = SurfaceModel.load(bundle, provider="cpu", threads=1)
    test = Dataset(surfaces).arrays("test")["clean"].astype(np.float64)
    random = np.random.default_rng(1)

    def own() -> Array:
        return np.asarray(test[random.integers(len(test))])

    makers: dict[str, Callable[[], Array]] = {
        "sabr": lambda: sabr(model.grid, random),
        "power_skew": lambda: power_skew(model.grid, random),
        "event": lambda: with_jump(own(), model.grid, random),
        "flat": lambda: np.full(model.grid.shape, 0.8),
    }
    figures: dict[str, float] = {}
    for noise in (_LEARNED_BP, *_NOISES):
        own_count = _OWN_BY_OTHERS * count if noise == _LEARNED_BP else count
        figures |= _figures(f"own_{noise:g}_bp", own, model, noise, own_count, random)
    for name, make in makers.items():
        figures |= _figures(name, make, model, _LEARNED_BP, count, random)
    return figures


def sabr(grid: Grid, random: np.random.Generator) -> Array:
    """Hagan's vols of a random SABR model with beta 1, [tenor, node]."""
    alpha, rho, nu = random.uniform((0.1, -0.85, 0.3), (0.4, -0.1, 1.5))
    z = -nu / alpha * np.where(grid.log_moneyness == 0.0, 1e-9, grid.log_moneyness)
    angle = np.log((np.sqrt(1.0 - 2.0 * rho * z + z**2) + z - rho) / (1.0 - rho))
    drift = 0.25 * rho * nu * alpha + (2.0 - 3.0 * rho**2) / 24.0 * nu**2
    return np.asarray(alpha * z / angle * (1.0 + drift * grid.tenors[:, None]))


def power_skew(grid: Grid, random: np.random.Generator) -> Array:
    """Vols whose skew falls as a power of the tenor, [tenor, node]."""
    level, skew, curvature, hurst = random.uniform((0.12, 0.2, 0.1, 0.05), (0.35, 0.5, 0.4, 0.2))
    tenor = grid.tenors[:, None]
    y = grid.log_moneyness / (3.0 * level * np.sqrt(tenor))
    variance = 1.0 + 0.3 * skew**2 + (3.0 * curvature * y**2 - 1.5 * skew * y) * tenor**hurst
    return np.asarray(level * np.sqrt(variance))


def with_jump(iv: Array, grid: Grid, random: np.random.Generator) -> Array:
    """Vols iv [tenor, node] with a jump of 3 to 7 % at a date."""
    date, size = random.uniform((0.05, 0.03), (0.5, 0.07))
    tenor = grid.tenors[:, None]
    return np.asarray(np.sqrt(iv**2 + size**2 * (tenor > date) / tenor))


def _figures(
    name: str, make: Callable[[], Array], model: SurfaceModel, noise: float, count: int, random: np.random.Generator
) -> dict[str, float]:
    flagged, covered, square, right = [], [], list[Array](), list[Array]()
    for _ in range(count):
        iv = make()
        hidden = np.full(iv.shape, fill_value=True)
        hidden.flat[random.choice(iv.size, _QUOTES, replace=False)] = False
        seen = np.where(hidden, np.nan, iv + 1e-4 * noise * random.standard_normal(iv.shape))
        found, weighted = model.complete(seen), model.complete(seen, weight=(_LEARNED_BP / noise) ** 2)
        quoted = iv + 1e-4 * _LEARNED_BP * random.standard_normal(iv.shape)
        flagged.append(found.outside)
        covered.append((np.abs(found.iv - quoted) < Z90 * found.std)[hidden].mean())
        for errors, surface in ((square, found.iv), (right, weighted.iv)):
            errors.append(np.square(surface - iv)[hidden].mean())
    return {
        f"outside_flagged_{name}": float(np.mean(flagged)),
        f"outside_coverage_90_{name}": float(np.mean(covered)),
        f"outside_rmse_bp_{name}": BASIS_POINTS * float(np.sqrt(np.mean(square))),
        f"outside_error_by_right_weights_{name}": float(np.sqrt(np.mean(square) / np.mean(right))),
    }


if __name__ == "__main__":
    print(json.dumps(results(), indent=2))
