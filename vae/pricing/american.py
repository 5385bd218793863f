"""Vols and European parts of American option prices, by QuantLib's engine for early exercise.

Prices depend on spot over strike, and on the rates and the vol over the whole tenor, so that one option of a year with
strike 1 stands for all. An option that nobody exercises early, as a call without dividends, has its European price.

Reference: Andersen, Lake, Offengenden (2016), "High-performance American option pricing", J. of Computational Finance
20(1).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from vae.pricing import quoted_surface

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_PRECISION = 1e-7  # of a total volatility
_LOWEST_SHARE = 0.01  # of the vol without early exercise that a vol may be
_TIME_VALUE = 3e-3  # of strike times total volatility: with less, an option is worth its exercise as far as prices tell
# Orders of the engine's quadratures, and its steps: prices to 5e-6 of the strike in 25 us, and to 2e-7 in 130 us.
_FAST, _EXACT = (5, 2, 5, 15), (14, 5, 10, 32)
_BUMP = 1e-3  # relative, of a total volatility
_MOST_PASSES = 20
_SAME_FORWARD = 1e-6  # relative


class AmericanOptions(NamedTuple):
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

    def of(self, row: Index) -> "AmericanOptions":
        """Some of the options."""
        strike, spot, tenor, rate, dividend_yield, call = self
        return AmericanOptions(strike[row], spot[row], tenor[row], rate[row], dividend_yield[row], call[row])

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


def vols(options: AmericanOptions, price: Array, *, exact: bool = True) -> Array:
    """Vols at which options with early exercise have their prices, [option].

    Args:
        options: the contracts.
        price: of each of them, [option].
        exact: to 0.5 bp, in twice the time of a vol to a few bp.

    Returns:
        NaN where no vol has the price; where an option is worth its exercise now, which is the price at every low vol;
        and where it is held between two boundaries, as rates are negative.

    Raises:
        ModuleNotFoundError: QuantLib is not installed.
    """
    rate, dividend_yield = options.rate, options.dividend_yield
    earned, given_up = np.where(options.call, (dividend_yield, rate), (rate, dividend_yield))  # by exercise
    never_exercised = (earned <= 0.0) & (earned <= given_up)
    two_boundaries = (earned < 0.0) & ~never_exercised
    european = european_vols(options, np.where(two_boundaries, np.nan, price))
    time_value = price - np.where(options.call, 1.0, -1.0) * (options.spot - options.strike)
    least = _TIME_VALUE * options.strike * european * np.sqrt(options.tenor)
    row = np.flatnonzero(~never_exercised & (time_value > least))
    result = np.where(never_exercised, european, np.nan)
    if len(row):
        result[row] = _vols_below(options.of(row), price[row], european[row], exact=exact)
    return result


def european_prices(options: AmericanOptions, vol: Array) -> Array:
    """Black's prices of the options without early exercise, [option]."""
    total_vol, forward = vol * np.sqrt(options.tenor), options.forward
    sign = np.where(options.call, 1.0, -1.0)
    d1 = np.log(forward / options.strike) / total_vol + 0.5 * total_vol
    price: Array = forward * ndtr(sign * d1) - options.strike * ndtr(sign * (d1 - total_vol))
    return sign * options.discount * price


def european_vols(options: AmericanOptions, price: Array) -> Array:
    """Black vols of prices that are read as if there were no early exercise, [option]; NaN where there is none."""
    forward = options.forward
    k, share = np.log(options.strike / forward), price / options.discount / forward
    return quoted_surface.implied_vols(k, share, options.tenor, call=options.call)


def implied_dividend_yields(
    strikes: Array, call: Array, put: Array, *, spot: Array, tenor: Array, rate: Array
) -> Array:
    """The dividend yield of each expiry at which the European parts of its calls and puts satisfy put-call parity.

    Of the forwards K + (C - P) / D that the pairs give, the median is taken.

    Args:
        strikes: of a few pairs near the money, [expiry, pair]; NaN where an expiry has fewer pairs.
        call: price of each call, with early exercise, [expiry, pair].
        put: price of each put, with early exercise, [expiry, pair].
        spot: of the underlying, [expiry].
        tenor: years, [expiry].
        rate: decimal a year, continuously compounded, [expiry].

    Returns:
        The yields [expiry], NaN where no pair has time value on both sides.

    Raises:
        ModuleNotFoundError: QuantLib is not installed.
    """
    found = european_yields(strikes, call, put, spot=spot, tenor=tenor, rate=rate)
    row = np.flatnonzero(np.isfinite(found))
    for _ in range(_MOST_PASSES):
        if not len(row):
            break
        own = {"spot": spot[row], "tenor": tenor[row], "rate": rate[row]}
        parts = [
            _european_parts(strikes[row], price[row], dividend_yield=found[row], call=is_call, **own)
            for price, is_call in ((call, True), (put, False))
        ]
        previous, found[row] = found[row], european_yields(strikes[row], *parts, **own)
        row = row[np.abs(found[row] - previous) * tenor[row] > _SAME_FORWARD]
    return found


def european_yields(strikes: Array, call: Array, put: Array, *, spot: Array, tenor: Array, rate: Array) -> Array:
    """The dividend yields [expiry] that put-call parity gives for European prices; arguments as above."""
    forwards = np.sort(strikes + (call - put) * np.exp(rate * tenor)[:, None], axis=1)  # NaN last
    count = np.isfinite(forwards).sum(axis=1)
    middle = np.stack((np.maximum(count - 1, 0) // 2, np.minimum(count // 2, forwards.shape[1] - 1)), axis=1)
    forward = np.take_along_axis(forwards, middle, axis=1).mean(axis=1)
    forward = np.where((count > 0) & (forward > 0.0), forward, np.nan)
    result: Array = rate - np.log(forward / spot) / tenor
    return result


def _european_parts(
    strikes: Array, price: Array, *, spot: Array, tenor: Array, rate: Array, dividend_yield: Array, call: bool
) -> Array:
    """European prices of the options of expiries, [expiry, pair]; NaN where an option has no vol."""
    market = (np.broadcast_to(x[:, None], strikes.shape).ravel() for x in (spot, tenor, rate, dividend_yield))
    known = np.isfinite(strikes).ravel()
    spots, tenors, rates, yields = (x[known] for x in market)
    options = AmericanOptions(strikes.ravel()[known], spots, tenors, rates, yields, np.full(int(known.sum()), call))
    result = np.full(strikes.size, np.nan)
    result[known] = european_prices(options, vols(options, price.ravel()[known], exact=False))
    return result.reshape(strikes.shape)


def _vols_below(options: AmericanOptions, price: Array, highest: Array, *, exact: bool) -> Array:
    """Vols of prices, at most those without early exercise, [option]; NaN where none is as low.

    The engine's fast scheme finds them; where they are to be exact, one of Newton's steps by its exact scheme follows.
    """
    fast, correct, width = _Engine(_FAST), _Engine(_EXACT), np.sqrt(options.tenor)
    scaled = np.stack(
        (options.spot / options.strike, options.rate * options.tenor, options.dividend_yield * options.tenor), axis=-1
    )
    total_vols = []
    for market, is_call, target, limit in zip(
        scaled.tolist(),
        options.call.tolist(),
        (price / options.strike).tolist(),
        (highest * width).tolist(),
        strict=True,
    ):
        price_at = fast.prices(*market, call=is_call)
        total_vol = _root(price_at, target, limit)
        if exact and total_vol < limit:
            bump = _BUMP * total_vol
            slope = (price_at(total_vol + bump) - price_at(total_vol)) / bump
            missing = correct.prices(*market, call=is_call)(total_vol) - target
            total_vol = min(total_vol - missing / slope, limit)
        total_vols.append(total_vol)
    return np.array(total_vols) / width


def _root(price_at: Callable[[float], float], target: float, highest: float) -> float:
    """The total vol up to ``highest`` that has a price, NaN where there is none."""
    from scipy.optimize import brentq  # noqa: PLC0415 - slow to import, and European options need none of it

    if price_at(highest) <= target:  # the right to exercise early is worth less than the engine's errors
        return highest
    lowest = _LOWEST_SHARE * highest
    if price_at(lowest) >= target:
        return math.nan
    return float(brentq(lambda total_vol: price_at(total_vol) - target, lowest, highest, xtol=_PRECISION))


class _Engine:
    """QuantLib's price of one option of a year with strike 1, whose market is changed in place."""

    def __init__(self, scheme: tuple[int, int, int, int]) -> None:
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
        engine = ql.QdFpAmericanEngine(process, ql.QdFpLegendreScheme(*scheme))
        exercise = ql.AmericanExercise(today, today + ql.Period(365, ql.Days))
        self._put, self._call = (
            ql.VanillaOption(ql.PlainVanillaPayoff(kind, 1.0), exercise) for kind in (ql.Option.Put, ql.Option.Call)
        )
        for option in (self._put, self._call):
            option.setPricingEngine(engine)

    def prices(self, spot: float, rate: float, dividend_yield: float, *, call: bool) -> Callable[[float], float]:
        """The price by total vol; it changes the market of the one before."""
        option = self._call if call else self._put
        self._spot.setValue(spot)
        self._rate.setValue(rate)
        self._dividend_yield.setValue(dividend_yield)

        def price_at(total_vol: float) -> float:
            self._vol.setValue(total_vol)
            return float(option.NPV())

        return price_at
