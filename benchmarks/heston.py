"""Heston surfaces a second beside QuantLib, agreement with it, and options of a stress grid by outcome.

`python -m benchmarks heston` runs it, on one core.
"""

import math
import statistics
from collections.abc import Iterator

import numpy as np
import QuantLib as ql
import torch

from benchmarks import stress
from benchmarks.turns import in_turns
from pipeline.settings.params import read_params
from pipeline.settings.prepare import HestonPrepare
from pipeline.sources.simulation import box, sobol_design
from vae.pricing import compiled, heston_surfaces
from vae.surface.grid import Grid

_ROUNDS = 5
_VOL_AGREEMENT = 1e-8
_AGREEMENT_SURFACES = 64


def results() -> dict[str, float]:
    """All figures of the pricing of simulated surfaces."""
    return {**surfaces(), **agreement(), **stressed()}


def surfaces() -> dict[str, float]:
    """Surfaces a second of the default design: volvae, and QuantLib's analytic engine with its Black inversion."""
    design, grid = default_design(4096)
    few = design[:2].tolist()
    kernels = compiled.kernels(torch.device("cpu"))
    seconds = in_turns(
        {
            "compiled": lambda: heston_surfaces.surfaces(design, grid, kernels=kernels),
            "eager": lambda: heston_surfaces.surfaces(design, grid),
            "quantlib": lambda: quantlib_vols(few, grid),
        },
        repeats=1,
        rounds=_ROUNDS,
    )
    theirs = len(few) / seconds.pop("quantlib")
    ours = {name: len(design) / value for name, value in seconds.items()}
    return {
        **{f"surfaces_per_second_volvae_{name}_1_core": speed for name, speed in ours.items()},
        "surfaces_per_second_quantlib_1_core": theirs,
        **{f"surfaces_ratio_{name}": speed / theirs for name, speed in ours.items()},
    }


def agreement() -> dict[str, float]:
    """The number of nodes of the default design with a vol known to 1e-8, and of those on which QuantLib differs.

    QuantLib's Black inversion does not reach the smallest prices. So vols are compared through prices: its Heston price
    less its Black price at our vol, over vega.
    """
    design, grid = default_design(4096)
    vols = heston_surfaces.surfaces(design, grid, vol_tolerance=_VOL_AGREEMENT).vol
    few = slice(None, None, len(design) // _AGREEMENT_SURFACES)
    differences = vol_differences(design[few].tolist(), grid, vols[few].numpy())
    return {
        "default_nodes_known_to_1e-8_percent": 100.0 * (~vols.isnan()).double().mean().item(),
        "default_nodes_compared_with_quantlib": float(len(differences)),
        "default_nodes_off_by_more_than_1e-8": float((differences > _VOL_AGREEMENT).sum()),
    }


def vol_differences(parameters: list[list[float]], grid: Grid, vols: np.ndarray) -> np.ndarray:
    """Distances of known vols [surface, tenor, node] to QuantLib's, [node]."""
    differences = []
    for row, theta in enumerate(parameters):
        for i, j, option, kind, strike in options(theta, grid, stress.ENGINES[-1]):
            deviation = vols[row, i, j] * math.sqrt(grid.tenors[i])
            if not math.isnan(deviation):
                d1 = -math.log(strike) / deviation + 0.5 * deviation
                vega = statistics.NormalDist().pdf(d1) * math.sqrt(grid.tenors[i])
                differences.append(abs(option.NPV() - ql.blackFormula(kind, strike, 1.0, deviation)) / vega)
    return np.array(differences)


def stressed() -> dict[str, float]:
    """Options of the stress grid by outcome."""
    found = stress.verdict()
    return {
        "stress_options": float(stress.OPTIONS),
        "stress_options_that_agree": float(found.agree),
        "stress_options_flagged": float(found.flagged),
        "stress_options_wrong": float(found.wrong),
    }


def default_design(count: int) -> tuple[torch.Tensor, Grid]:
    """Parameters and grid of params.yaml."""
    params = read_params().prepare
    if not isinstance(params, HestonPrepare):
        raise SystemExit("make bench measures prepare.source: heston")
    return sobol_design(box(params), 0, count, seed=params.seed), params.grid.build()


def quantlib_vols(parameters: list[list[float]], grid: Grid) -> np.ndarray:
    """The same vols by QuantLib's analytic engine and Black inversion, option by option."""
    vols = np.empty((len(parameters), *grid.shape))
    for row, theta in enumerate(parameters):
        for i, j, option, kind, strike in options(theta, grid, ql.AnalyticHestonEngine):
            price = max(option.NPV(), 1e-14)
            deviation = ql.blackFormulaImpliedStdDev(kind, strike, 1.0, price, 1.0, 0.0, 0.2, 1e-10, 1000)
            vols[row, i, j] = deviation / math.sqrt(grid.tenors[i])
    return vols


def options(
    parameters: list[float], grid: Grid, engine: stress.Engine
) -> Iterator[tuple[int, int, ql.VanillaOption, int, float]]:
    """The out-of-the-money option of each point, with its tenor, node, kind and strike."""
    today = ql.Date(1, 7, 2020)
    ql.Settings.instance().evaluationDate = today
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    v0, kappa, theta, vol_of_vol, rho = parameters
    process = ql.HestonProcess(flat, flat, ql.QuoteHandle(ql.SimpleQuote(1.0)), v0, kappa, theta, vol_of_vol, rho)
    pricing = engine(ql.HestonModel(process))
    for i, tenor in enumerate(grid.tenors):
        exercise = ql.EuropeanExercise(today + round(365 * tenor))
        for j, k in enumerate(grid.log_moneyness[i]):
            kind, strike = (ql.Option.Call if k >= 0 else ql.Option.Put), math.exp(k)
            option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), exercise)
            option.setPricingEngine(pricing)
            yield i, j, option, kind, strike
