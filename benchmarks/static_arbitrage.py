"""Static arbitrage of samples, by our measure and by fast-vollib's (`python -m benchmarks.static_arbitrage`).

Our measure judges the samples of eight seeds: of one sample in 20,000 with arbitrage, 100,000 have 5 +- 2. fast-vollib,
which takes seconds for a hundred surfaces, judges the worst by our measure and others at random. It sees each smile at
its own nodes, beside the next longer one read there. The benchmark uses the bundle that `make run` leaves, and
fast-vollib, which `make bench` puts beside the environment.
"""

import functools
import json
import math
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving import BUNDLE
from pipeline.sources import executors
from vae.runtime import SurfaceModel
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces
from vae.surface.units import BASIS_POINTS

_SEEDS = tuple(range(8))
_SAMPLES, _BLOCK = 100_000, 10_000  # of a seed, and of those drawn at a time
_JUDGED = 300  # surfaces of each kind that fast-vollib judges
_TOLERANCE = 1e-6  # of the forward


class _Block(NamedTuple):
    """Consecutive samples of a seed, drawn from the model of a bundle."""

    bundle: Path
    seed: int
    start: int
    samples: int


def results(
    *,
    bundle: Path = BUNDLE,
    count: int = _SAMPLES,
    seeds: Sequence[int] = _SEEDS,
    judged: int = _JUDGED,
    workers: int = os.cpu_count() or 1,
) -> dict[str, float]:
    """Shares of samples without static arbitrage: ``count`` of each seed, and those of the last one alone."""
    blocks = [
        _Block(bundle, seed, start, min(_BLOCK, count - start))
        for seed, start in product(seeds, range(0, count, _BLOCK))
    ]
    profit_of = dict(executors.local(_profit, blocks, workers=workers))
    profit = np.concatenate([profit_of[block] for block in blocks]).reshape(len(seeds), count)
    free = profit <= _TOLERANCE
    order = np.argsort(-profit, axis=None)
    others = np.random.default_rng(1).choice(order[judged:], judged, replace=False)
    rate = float(free.mean())
    figures = {
        "arbitrage_samples": float(profit.size),
        "arbitrage_free_rate": rate,
        "arbitrage_free_se_rate": math.sqrt(rate * (1.0 - rate) / profit.size),
        f"arbitrage_free_rate_of_{count}": float(free[-1].mean()),
        "arbitrage_largest_bp_of_forward": BASIS_POINTS * float(profit.max()),
    }
    for name, rows in (("worst", order[:judged]), ("others", others)):
        ones = [_Block(bundle, seeds[row // count], int(row % count), 1) for row in rows]
        passed = [passes for _, passes in executors.local(_passes, ones, workers=workers)]
        figures |= {
            f"arbitrage_free_rate_of_{name}": float(free.ravel()[rows].mean()),
            f"arbitrage_free_rate_of_{name}_fast_vollib": float(np.mean(passed)),
        }
    return figures


@functools.cache
def _model(bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(bundle, provider="cpu", threads=1)


def _drawn(block: _Block) -> NDArray[np.floating]:
    """Samples [surface, tenor, node]."""
    return _model(block.bundle).sample(block.samples, seed=block.seed, offset=block.start)


def _profit(block: _Block) -> NDArray[np.float64]:
    """The gain of the best static arbitrage in each sample, in units of the forward, [surface]."""
    return arbitrage.violations(_drawn(block), _model(block.bundle).grid).profit


def _passes(block: _Block) -> bool:
    return free_by_fast_vollib(_drawn(block)[0], _model(block.bundle).grid)


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
