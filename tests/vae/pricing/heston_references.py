"""Heston models and prices from other sources: published sets and QuantLib."""

import json
import math
from pathlib import Path

import numpy as np
import QuantLib as ql
import torch

from vae.pricing import heston
from vae.pricing.complex_pairs import Pair
from vae.surface.grid import Grid

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "heston.json").read_text("utf-8"))
SETS = {s["id"]: s for s in REFERENCE["sets"]}
GRID = Grid(np.array([6, 26, 182, 364]) / 365, np.linspace(-0.5, 0.4, 7))
TYPICAL = [0.04, 1.5, 0.06, 0.5, -0.7]


def model(values: dict) -> heston.Heston:
    names = {"vol_of_vol": "sigma"}
    return heston.Heston(
        *(torch.tensor([float(values[names.get(n, n)])], dtype=torch.float64) for n in heston.PARAMETERS)
    )


def log_phi(parameters: list[float], tenor: float, u: torch.Tensor) -> Pair:
    """[node, 1] at real nodes u [node]."""
    row = heston.Heston.of(torch.tensor([parameters], dtype=torch.float64))
    nodes = Pair(u.unsqueeze(-1), torch.zeros(len(u), 1, dtype=torch.float64))
    return heston.log_characteristic_function(row, torch.tensor([tenor], dtype=torch.float64), nodes)


def wings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """QuantLib's extreme wings: per maturity, log-moneyness and exact undiscounted prices per unit of forward."""
    s = SETS["quantlib_extreme_wings"]
    tenors = np.array(s["days"]) / 365
    k = -np.array(s["moneyness"]) * np.sqrt(s["theta"] * tenors)[:, None]
    forward = s["S"] * np.exp((s["r"] - s["q"]) * tenors)
    discount = np.exp(-s["r"] * tenors)
    return tenors, k, np.array(s["otm"], dtype=float) / (forward * discount)[:, None]


def quantlib_price(theta: list[float], days: int, k: float) -> float:
    """Price of the out-of-the-money option by the analytic engine with adaptive Gauss-Lobatto quadrature."""
    today = ql.Date(1, 7, 2020)
    ql.Settings.instance().evaluationDate = today
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    v0, kappa, long_run, xi, rho = theta
    process = ql.HestonProcess(flat, flat, ql.QuoteHandle(ql.SimpleQuote(1.0)), v0, kappa, long_run, xi, rho)
    option = ql.VanillaOption(ql.PlainVanillaPayoff(kind(k), math.exp(k)), ql.EuropeanExercise(today + days))
    option.setPricingEngine(ql.AnalyticHestonEngine(ql.HestonModel(process), 1e-14, 100_000))
    return float(option.NPV())


def quantlib_vol(theta: list[float], days: int, k: float) -> float | None:
    """QuantLib's implied vol; None where its own price is too small to carry 1e-8 in vol."""
    price = quantlib_price(theta, days, k)
    if price < 1e-9:
        return None
    deviation = ql.blackFormulaImpliedStdDev(kind(k), math.exp(k), 1.0, price, 1.0, 0.0, 0.2, 1e-15, 1000)
    return float(deviation) / math.sqrt(days / 365)


def kind(k: float) -> int:
    return ql.Option.Call if k >= 0 else ql.Option.Put
