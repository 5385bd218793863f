"""Static arbitrage of samples, by our measure and by fast-vollib's (`python -m benchmarks.static_arbitrage`).

Our measure judges all samples. fast-vollib, which takes seconds for a hundred surfaces, judges the worst by our measure
and others at random. It sees each smile at its own nodes, beside the next longer one read there. The benchmark uses the
bundle that `make run` leaves, and fast-vollib, which `make bench` puts beside the environment.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving import BUNDLE
from vae.runtime import SurfaceModel
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces
from vae.surface.units import BASIS_POINTS

_SAMPLES, _BLOCK = 100_000, 10_000
_JUDGED = 300  # surfaces of each kind that fast-vollib judges
_TOLERANCE = 1e-6  # of the forward


def results(*, bundle: Path = BUNDLE, count: int = _SAMPLES, judged: int = _JUDGED) -> dict[str, float]:
    """Shares of samples without static arbitrage."""
    model = SurfaceModel.load(bundle, provider="cpu")
    starts = range(0, count, _BLOCK)
    blocks = (_drawn(model, start, min(_BLOCK, count - start)) for start in starts)
    profit = np.concatenate([arbitrage.violations(iv, model.grid).profit for iv in blocks])
    order = np.argsort(-profit)
    others = np.random.default_rng(1).choice(order[judged:], judged, replace=False)
    figures = {
        "arbitrage_samples": float(count),
        "arbitrage_free_rate": float((profit <= _TOLERANCE).mean()),
        "arbitrage_largest_bp_of_forward": BASIS_POINTS * float(profit.max()),
    }
    for name, rows in (("worst", order[:judged]), ("others", others)):
        free = np.array([free_by_fast_vollib(_drawn(model, int(row), 1)[0], model.grid) for row in rows])
        figures |= {
            f"arbitrage_free_rate_of_{name}": float((profit[rows] <= _TOLERANCE).mean()),
            f"arbitrage_free_rate_of_{name}_fast_vollib": float(free.mean()),
        }
    return figures


def _drawn(model: SurfaceModel, offset: int, count: int) -> NDArray[np.floating]:
    """Samples from a row on, [surface, tenor, node]."""
    return model.sample(count, seed=7, offset=offset)


def free_by_fast_vollib(iv: NDArray[np.floating], grid: Grid) -> bool:
    """Whether fast-vollib finds no static arbitrage in a surface [tenor, node]."""
    from fast_vollib.surface import IVSurface  # noqa: PLC0415  only `make bench` installs it

    surface = Surfaces(iv[None], grid)
    for smile in range(len(grid.tenors)):
        tenors, k = grid.tenors[smile : smile + 2], grid.log_moneyness[smile]
        vols = np.stack([surface.at(k, tenor)[0] for tenor in tenors], axis=1)
        if not IVSurface.from_logmoneyness(k, tenors, vols).validate(tolerance=_TOLERANCE).passed:
            return False
    return True


if __name__ == "__main__":
    print(json.dumps(results(), indent=2))
