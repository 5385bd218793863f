"""Prices of the stress grid of Andersen and Lake beside three engines of QuantLib.

Reference: Andersen, Lake (2019), "Robust high-precision option pricing by Fourier transforms", SSRN 3231626.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import QuantLib as ql
import torch

from vae.pricing import fourier, heston

FORWARD = 100.0
STRIKES = (100.0001, 101.0, 110.0, 200.0, 1000.0, 10000.0)
TENORS = (0.0025, 0.1, 0.5, 2.0, 10.0, 30.0)
VARIANCES = (1e-4, 0.0025, 0.04, 0.25, 1.0)  # of v0 and of theta
KAPPAS = (0.01, 0.1, 0.5, 2.0)
VOLS_OF_VOL = (1e-4, 0.1, 0.5, 1.0, 3.0)
RHOS = (-0.95, -0.5, -0.1, 0.0, 0.1, 0.5, 0.95)
TOLERANCE = 1e-9  # of the forward

Engine = Callable[[ql.HestonModel], ql.PricingEngine]


class Verdict(NamedTuple):
    """The number of options by outcome."""

    agree: int
    flagged: int
    wrong: int


def verdict(every: int = 1) -> Verdict:
    """Every option either agrees with an engine of QuantLib to 1e-9 of the forward, or is flagged, or is wrong.

    No engine of QuantLib is right on all of the grid: each misses some options by more than the tolerance. Three that
    share neither contour nor quadrature are asked in turn, the slower ones only where the ones before disagree.

    Args:
        every: the share of the models that is tested: one in ``every``.
    """
    models = torch.tensor(
        [
            (v0, kappa, theta, vol_of_vol, rho)
            for v0, theta, kappa, vol_of_vol, rho in product(VARIANCES, VARIANCES, KAPPAS, VOLS_OF_VOL, RHOS)
        ],
        dtype=torch.float64,
    )
    parameters = models[::every]
    k = torch.log(torch.tensor(STRIKES, dtype=torch.float64) / FORWARD)
    agree = flagged = wrong = 0
    for tenor in TENORS:
        ours = fourier.otm_prices(heston.Heston.of(parameters), tenor, k)
        flag = (ours.error > TOLERANCE).numpy()
        matched = np.zeros(flag.shape, np.bool_)
        for engine in ENGINES:
            for row in np.flatnonzero((~matched & ~flag).any(axis=1)):
                theirs = quantlib_prices(parameters[row].tolist(), tenor, engine)
                matched[row] |= np.abs(ours.price[row].numpy() - theirs) <= TOLERANCE
        agree += int((matched & ~flag).sum())
        flagged += int(flag.sum())
        wrong += int((~matched & ~flag).sum())
    return Verdict(agree, flagged, wrong)


def quantlib_prices(parameters: list[float], tenor: float, engine: Engine) -> np.ndarray:
    """Calls of all strikes per unit of forward.

    QuantLib counts days, so that 0.0025 years is none of its tenors: time is counted in units of the tenor instead.
    """
    v0, kappa, theta, vol_of_vol, rho = parameters
    today = ql.Date(1, 7, 2021)
    ql.Settings.instance().evaluationDate = today
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    spot = ql.QuoteHandle(ql.SimpleQuote(1.0))
    process = ql.HestonProcess(flat, flat, spot, v0 * tenor, kappa * tenor, theta * tenor, vol_of_vol * tenor, rho)
    pricing = engine(ql.HestonModel(process))
    exercise = ql.EuropeanExercise(today + 365)
    prices = np.empty(len(STRIKES))
    for number, strike in enumerate(STRIKES):
        option = ql.VanillaOption(ql.PlainVanillaPayoff(ql.Option.Call, strike / FORWARD), exercise)
        option.setPricingEngine(pricing)
        prices[number] = option.NPV()
    return prices


def _contour(name: str) -> Engine:
    """An analytic engine with one of QuantLib's contours and the exp-sinh rule."""
    analytic = ql.AnalyticHestonEngine
    return lambda model: analytic(model, getattr(analytic, name), ql.FourierIntegration.expSinh(1e-14), 1e-25)


ENGINES: tuple[Engine, ...] = (
    ql.ExponentialFittingHestonEngine,
    _contour("AngledContourNoCV"),
    _contour("AngledContour"),
)
OPTIONS = math.prod(len(axis) for axis in (TENORS, VARIANCES, VARIANCES, KAPPAS, VOLS_OF_VOL, RHOS, STRIKES))
