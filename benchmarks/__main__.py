"""make bench: a card for people, and one JSON document as the last line.

Every pair is measured in turns within one run, so that its ratio holds where the machine's speed wanders.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import QuantLib as ql
import torch

from pipeline import weights
from pipeline.params import read_params
from pipeline.simulation import sobol_design
from vae import graphs, heston
from vae.grid import Grid
from vae.runtime import SurfaceModel

_ROUNDS = 5
_BUNDLE, _MODEL = Path("artifacts/bundle"), Path("artifacts/model")


def main() -> None:
    """Measure on one core and print."""
    torch.set_num_threads(1)
    results = {**surfaces(), **(decoding() if _BUNDLE.exists() else {})}
    for name, value in results.items():
        print(f"{name:52} {value:14,.1f}")
    if not _BUNDLE.exists():
        print(f"decoding was left out: {_BUNDLE} does not exist; `make run` makes it", file=sys.stderr)
    print(json.dumps(results))


def surfaces() -> dict[str, float]:
    """Surfaces a second of the default design: volvae, and QuantLib's analytic engine with its Black inversion."""
    params = read_params().prepare
    grid = params.grid.build()
    design = sobol_design(params.heston, 0, 4096, seed=params.seed)
    few = design[:2]
    ours, theirs = in_turns(lambda: heston.surfaces(design, grid), lambda: quantlib_surfaces(few, grid))
    rates = len(design) / ours, len(few) / theirs
    return {
        "surfaces_per_second_volvae_1_core": rates[0],
        "surfaces_per_second_quantlib_1_core": rates[1],
        "surfaces_ratio": rates[0] / rates[1],
    }


def decoding() -> dict[str, float]:
    """Surfaces a second through the decoder: onnxruntime and torch eager, one thread, three batch sizes."""
    model = SurfaceModel.load(_BUNDLE, provider="cpu", threads=1)
    eager = graphs.Decoder(weights.read_model(_MODEL).float(), model.grid)
    results = {}
    for batch in (1, 256, 4096):
        z = torch.randn(batch, model.latents)
        repeats = max(1, 4096 // batch)
        with torch.no_grad():
            ours, theirs = in_turns(
                partial(repeat, repeats, model.decode, z.numpy()), partial(repeat, repeats, eager, z)
            )
        results[f"decode_per_second_onnxruntime_batch_{batch}"] = batch * repeats / ours
        results[f"decode_ratio_to_torch_eager_batch_{batch}"] = theirs / ours
    return results


def repeat(times: int, call: Callable[[Any], object], argument: object) -> None:
    """Call again and again."""
    for _ in range(times):
        call(argument)


def in_turns(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of each, after one call to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_ROUNDS + 1):
        for call, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def quantlib_surfaces(parameters: torch.Tensor, grid: Grid) -> np.ndarray:
    """The same vols, option by option."""
    today = ql.Date(1, 7, 2020)
    ql.Settings.instance().evaluationDate = today
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    spot = ql.QuoteHandle(ql.SimpleQuote(1.0))
    vols = np.empty((len(parameters), *grid.shape))
    for row, (v0, kappa, theta, vol_of_vol, rho) in enumerate(parameters.tolist()):
        process = ql.HestonProcess(flat, flat, spot, v0, kappa, theta, vol_of_vol, rho)
        engine = ql.AnalyticHestonEngine(ql.HestonModel(process))
        for i, tenor in enumerate(grid.tenors):
            exercise = ql.EuropeanExercise(today + round(365 * tenor))
            for j, k in enumerate(grid.log_moneyness[i]):
                kind, strike = (ql.Option.Call if k >= 0 else ql.Option.Put), math.exp(k)
                option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), exercise)
                option.setPricingEngine(engine)
                price = max(option.NPV(), 1e-14)
                deviation = ql.blackFormulaImpliedStdDev(kind, strike, 1.0, price, 1.0, 0.0, 0.2, 1e-10, 1000)
                vols[row, i, j] = deviation / math.sqrt(tenor)
    return vols


if __name__ == "__main__":
    main()
