"""Vols and European parts of American option prices, by QuantLib's engine for early exercise.

Prices depend on spot over strike, and on the rates and the vol over the whole tenor, so that one option of a year with
strike 1 stands for all. An option that nobody exercises early, as a call without dividends, has its European price.

Reference: Andersen, Lake, Offengenden (2016), "High-performance American option pricing", J. of Computational Finance
20(1).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from vae.pricing import quoted_surface

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_PRECISION = 1e-7  # of a total volatility
_LOWEST_SHARE = 0.01  # of the vol without early exercise that a vol may be
_TIME_VALUE = 1e-3  # of the strike: with less, an option is worth its exercise as far as its price tells
_SCHEME = (14, 5, 10, 32)  # orders of the engine's quadratures, and its steps: vols to 0.5 bp
_NEAREST_PAIRS = 10
_MOST_PASSES = 20
_SAME_FORWARD = 1e-7  # relative


class Options(NamedTuple):
    """American options on an underlying that pays a continuous dividend yield, each array [option].

    Attributes:
        strike: positive, in the unit of the spot.
        spot: positive.
        tenor: years, positive.
        rate: decimal a year, continuously compounded.
        dividend_yield: of the same kind; the yield that gives the forward stands for discrete dividends too.
        call: whether it is a call.
    """

    strike: Array
    spot: Array
    tenor: Array
    rate: Array
    dividend_yield: Array
    call: Mask

    def of(self, row: Index) -> "Options":
        """Some of the options."""
        strike, spot, tenor, rate, dividend_yield, call = self
        return Options(strike[row], spot[row], tenor[row], rate[row], dividend_yield[row], call[row])

    @property
    def forward(self) -> Array:
        """To each option's tenor."""
        forward: Array = self.spot * np.exp((self.rate - self.dividend_yield) * self.tenor)
        return forward

    @property
    def discount(self) -> Array:
        """Factor to each option's tenor."""
        discount: Array = np.exp(-self.rate * self.tenor)
        return discount


def vols(options: Options, price: Array) -> Array:
    """Vols at which options with early exercise have their prices, [option].

    Args:
        options: the contracts.
        price: of each of them, [option].

    Returns:
        NaN where no vol has the price; where an option is worth its exercise now, which is the price at every low vol;
        and where it is held between two boundaries, as rates are negative.

    Raises:
        ModuleNotFoundError: QuantLib is not installed.
    """
    sign = np.where(options.call, 1.0, -1.0)
    earned, given_up = (np.where(options.call, *pair) for pair in _rates(options))
    never_exercised = (earned <= 0.0) & (earned <= given_up)
    worth_exercise = price <= sign * (options.spot - options.strike) + _TIME_VALUE * options.strike
    two_boundaries = (earned < 0.0) & ~never_exercised
    unknown = two_boundaries | (worth_exercise & ~never_exercised)
    european = european_vols(options, np.where(unknown, np.nan, price))
    row = np.flatnonzero(~never_exercised & np.isfinite(european))
    if len(row):
        european[row] = _vols_below(options.of(row), price[row], european[row])
    return european


def european_prices(options: Options, vol: Array) -> Array:
    """Black's prices of the options without early exercise, [option]."""
    total_vol, forward = vol * np.sqrt(options.tenor), options.forward
    sign = np.where(options.call, 1.0, -1.0)
    d1 = np.log(forward / options.strike) / total_vol + 0.5 * total_vol
    price: Array = forward * ndtr(sign * d1) - options.strike * ndtr(sign * (d1 - total_vol))
    return sign * options.discount * price


def european_vols(options: Options, price: Array) -> Array:
    """Black vols of prices that are read as if there were no early exercise, [option]; NaN where there is none."""
    forward = options.forward
    k, share = np.log(options.strike / forward), price / options.discount / forward
    return quoted_surface.implied_vols(k, share, options.tenor, call=options.call)


def implied_dividend_yield(strikes: Array, call: Array, put: Array, *, spot: float, tenor: float, rate: float) -> float:
    """The dividend yield at which the European parts of calls and puts of one expiry satisfy put-call parity.

    The pairs nearest the money are used, and of the forwards K + (C - P) / D that these give the median.

    Args:
        strikes: of the pairs, [pair].
        call: price of each call, with early exercise, [pair].
        put: price of each put, with early exercise, [pair].
        spot: of the underlying.
        tenor: years.
        rate: decimal a year, continuously compounded.

    Returns:
        The yield, NaN where no pair has time value on both sides.
    """
    nearest = np.argsort(np.abs(call - put), kind="stable")[:_NEAREST_PAIRS]
    strikes, price = strikes[nearest], np.concatenate((call[nearest], put[nearest]))
    calls = np.arange(len(price)) < len(strikes)
    found = european_yield(strikes, *np.split(price, 2), spot=spot, tenor=tenor, rate=rate)
    for _ in range(_MOST_PASSES):
        spots, tenors, rates, yields = (np.full(len(price), value) for value in (spot, tenor, rate, found))
        options = Options(np.tile(strikes, 2), spots, tenors, rates, yields, calls)
        european = european_prices(options, vols(options, price))
        previous, found = found, european_yield(strikes, *np.split(european, 2), spot=spot, tenor=tenor, rate=rate)
        if not abs(found - previous) * tenor > _SAME_FORWARD:
            break
    return found


def european_yield(strikes: Array, call: Array, put: Array, *, spot: float, tenor: float, rate: float) -> float:
    """The dividend yield that put-call parity gives for European prices; arguments as above, NaN without a pair."""
    nearest = np.argsort(np.abs(call - put), kind="stable")[:_NEAREST_PAIRS]
    forwards = (strikes + (call - put) * math.exp(rate * tenor))[nearest]
    forwards = forwards[np.isfinite(forwards)]
    forward = float(np.median(forwards)) if len(forwards) else math.nan
    return rate - math.log(forward / spot) / tenor if forward > 0.0 else math.nan


def _rates(options: Options) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The rates that exercise earns and gives up, each for calls and puts: what one receives, the other pays."""
    return (options.dividend_yield, options.rate), (options.rate, options.dividend_yield)


def _vols_below(options: Options, price: Array, highest: Array) -> Array:
    """Vols of prices, at most those without early exercise, [option]; NaN where none is as low."""
    engine, width = _Engine(), np.sqrt(options.tenor)
    scaled = np.stack(
        (
            options.spot / options.strike,
            options.rate * options.tenor,
            options.dividend_yield * options.tenor,
            price / options.strike,
            highest * width,
        ),
        axis=-1,
    )
    rows = zip(scaled.tolist(), options.call.tolist(), strict=True)
    return np.array([engine.total_vol(*row, call=call) for row, call in rows]) / width


class _Engine:
    """QuantLib's price of one option of a year with strike 1, whose market is changed in place."""

    def __init__(self) -> None:
        import QuantLib as ql  # noqa: N813, PLC0415 - QuantLib's own convention; an extra of its own

        today = ql.Settings.instance().evaluationDate  # prices do not depend on it
        days = ql.Actual365Fixed()
        self._spot, self._rate, self._dividend_yield, self._vol = (ql.SimpleQuote(0.1) for _ in range(4))

        def curve(quote: ql.SimpleQuote) -> ql.YieldTermStructureHandle:
            return ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(quote), days))

        vol = ql.BlackConstantVol(today, ql.NullCalendar(), ql.QuoteHandle(self._vol), days)
        process = ql.GeneralizedBlackScholesProcess(
            ql.QuoteHandle(self._spot),
            curve(self._dividend_yield),
            curve(self._rate),
            ql.BlackVolTermStructureHandle(vol),
        )
        engine = ql.QdFpAmericanEngine(process, ql.QdFpLegendreScheme(*_SCHEME))
        exercise = ql.AmericanExercise(today, today + ql.Period(365, ql.Days))
        self._put, self._call = (
            ql.VanillaOption(ql.PlainVanillaPayoff(kind, 1.0), exercise) for kind in (ql.Option.Put, ql.Option.Call)
        )
        for option in (self._put, self._call):
            option.setPricingEngine(engine)

    def total_vol(
        self, spot: float, rate: float, dividend_yield: float, price: float, highest: float, *, call: bool
    ) -> float:
        """The total vol of a price, NaN where there is none up to ``highest``."""
        option = self._call if call else self._put
        self._spot.setValue(spot)
        self._rate.setValue(rate)
        self._dividend_yield.setValue(dividend_yield)

        def excess(total_vol: float) -> float:
            self._vol.setValue(total_vol)
            return float(option.NPV()) - price

        if excess(highest) <= 0.0:  # the right to exercise early is worth less than the engine's errors
            return highest
        lowest = _LOWEST_SHARE * highest
        return float(brentq(excess, lowest, highest, xtol=_PRECISION)) if excess(lowest) < 0.0 else math.nan
