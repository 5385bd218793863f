"""Vols of American option prices a second, beside QuantLib's own inversion, and their agreement."""

import numpy as np
import QuantLib as ql
from numpy.typing import NDArray

from benchmarks import card
from benchmarks.turns import in_turns
from vae.pricing import american
from vae.pricing.american import AmericanOptions
from vae.surface.units import BASIS_POINTS

Array = NDArray[np.float64]

_COUNT, _FEW = 1000, 50
_ROUNDS = 3


def main() -> None:
    """Print the figures."""
    card.show(results())


def results() -> dict[str, float]:
    """Vols a second on one core, and the largest difference from the vols that made the prices."""
    options, vol = _options(_COUNT)
    contracts = [_contract(options, i, vol[i]) for i in range(_COUNT)]
    price = np.array([option.NPV() for option, _ in contracts])
    seconds = in_turns(
        {
            "volvae": lambda: american.vols(options, price),
            "quantlib": lambda: [
                option.impliedVolatility(price[i], process, 1e-6)
                for i, (option, process) in enumerate(contracts[:_FEW])
            ],
        },
        repeats=1,
        rounds=_ROUNDS,
    )
    ours, theirs = _COUNT / seconds["volvae"], _FEW / seconds["quantlib"]
    return {
        "american_vols_per_second_volvae_1_core": ours,
        "american_vols_per_second_quantlib_1_core": theirs,
        "american_vols_ratio": ours / theirs,
        "american_vols_max_error_bp": BASIS_POINTS * float(np.nanmax(np.abs(american.vols(options, price) - vol))),
    }


def _options(count: int) -> tuple[AmericanOptions, Array]:
    """Options out of the money, within two standard deviations of it, and their vols."""
    rng = np.random.default_rng(0)
    tenor, vol = np.ceil(365.0 * rng.uniform(0.02, 2.0, count)) / 365.0, rng.uniform(0.1, 0.8, count)
    rate, dividend_yield = rng.uniform(0.0, 0.08, count), rng.uniform(0.0, 0.06, count)
    k = vol * np.sqrt(tenor) * rng.uniform(-2.0, 2.0, count)
    strike = 100.0 * np.exp((rate - dividend_yield) * tenor + k)
    return AmericanOptions(strike, np.full(count, 100.0), tenor, rate, dividend_yield, k >= 0.0), vol


def _contract(options: AmericanOptions, i: int, vol: float) -> tuple[ql.VanillaOption, ql.BlackScholesMertonProcess]:
    """An option with QuantLib's engine of high accuracy, and its market."""
    today = ql.Settings.instance().evaluationDate

    def curve(rate: float) -> ql.YieldTermStructureHandle:
        return ql.YieldTermStructureHandle(ql.FlatForward(today, float(rate), ql.Actual365Fixed()))

    flat = ql.BlackConstantVol(today, ql.NullCalendar(), float(vol), ql.Actual365Fixed())
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(float(options.spot[i]))),
        curve(options.dividend_yield[i]),
        curve(options.rate[i]),
        ql.BlackVolTermStructureHandle(flat),
    )
    kind = ql.Option.Call if options.call[i] else ql.Option.Put
    exercise = ql.AmericanExercise(today, today + round(365.0 * options.tenor[i]))
    option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, float(options.strike[i])), exercise)
    option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.accurateScheme()))
    return option, process


if __name__ == "__main__":
    main()
