import math

import numpy as np
import pytest
import QuantLib as ql

from vae.pricing import american, early_exercise
from vae.pricing.american import AmericanOptions, Array

TODAY = ql.Date(15, 3, 2022)
DAYS = ql.Actual365Fixed()


def process(options: AmericanOptions, i: int, vol: float) -> ql.BlackScholesMertonProcess:
    def curve(rate: float) -> ql.YieldTermStructureHandle:
        return ql.YieldTermStructureHandle(ql.FlatForward(TODAY, float(rate), DAYS))

    spot = ql.QuoteHandle(ql.SimpleQuote(float(options.spot[i])))
    flat = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(TODAY, ql.NullCalendar(), float(vol), DAYS))
    return ql.BlackScholesMertonProcess(spot, curve(options.dividend_yield[i]), curve(options.rate[i]), flat)


def quantlib_price(options: AmericanOptions, i: int, vol: float, *, grid: int = 0) -> float:
    """By its most exact common scheme, or by finite differences on a grid."""
    ql.Settings.instance().evaluationDate = TODAY
    own = process(options, i, vol)
    engine = (
        ql.FdBlackScholesVanillaEngine(own, grid, grid)
        if grid
        else ql.QdFpAmericanEngine(own, ql.QdFpAmericanEngine.accurateScheme())
    )
    kind = ql.Option.Call if options.call[i] else ql.Option.Put
    days = round(365.0 * options.tenor[i])
    option = ql.VanillaOption(
        ql.PlainVanillaPayoff(kind, float(options.strike[i])), ql.AmericanExercise(TODAY, TODAY + days)
    )
    option.setPricingEngine(engine)
    return float(option.NPV())


def random_options(count: int, seed: int) -> tuple[AmericanOptions, Array]:
    """Options within two standard deviations of the money, a third of them in it, and their vols."""
    rng = np.random.default_rng(seed)
    tenor, vol = np.ceil(365.0 * rng.uniform(0.02, 2.0, count)) / 365.0, rng.uniform(0.1, 0.8, count)
    rate, dividend_yield = rng.uniform(0.0, 0.08, count), rng.uniform(0.0, 0.06, count)
    spot = rng.uniform(20.0, 400.0, count)
    k = vol * np.sqrt(tenor) * rng.uniform(-2.0, 2.0, count)
    strike = spot * np.exp((rate - dividend_yield) * tenor + k)
    call = np.where(rng.random(count) < 0.33, k < 0.0, k >= 0.0)
    return AmericanOptions(strike, spot, tenor, rate, dividend_yield, call), vol


def one(*, strike: float, spot: float, tenor: float, rate: float, dividend_yield: float, call: bool) -> AmericanOptions:
    arrays = (np.array([x]) for x in (strike, spot, tenor, rate, dividend_yield))
    return AmericanOptions(*arrays, np.array([call]))


def time_value(options: AmericanOptions, price: Array) -> Array:
    """Of the strike."""
    exercise = np.where(options.call, 1.0, -1.0) * (options.spot - options.strike)
    return (price - np.maximum(exercise, 0.0)) / options.strike


@pytest.mark.slow
def test_vols_of_two_thousand_options_are_quantlibs() -> None:
    """Within 0.5 bp; NaN only where the price says nothing of the vol."""
    options, vol = random_options(2000, seed=0)
    price = np.array([quantlib_price(options, i, vol[i]) for i in range(2000)])

    ours = american.vols(options, price)

    known = np.isfinite(ours)
    assert known.sum() > 1850
    assert (time_value(options, price)[~known] < 0.005 * (vol * np.sqrt(options.tenor))[~known]).all()
    np.testing.assert_allclose(ours[known], vol[known], rtol=0.0, atol=0.5e-4)
    assert np.nanmean(american.european_vols(options, price) - vol) > 100e-4  # what reading them as European costs


def test_vols_are_those_of_finite_differences() -> None:
    """Another method altogether, as far as its grid is exact."""
    options, vol = random_options(12, seed=1)
    price = np.array([quantlib_price(options, i, vol[i], grid=400) for i in range(12)])
    ours = american.vols(options, price)
    known = time_value(options, price) > 5e-3
    np.testing.assert_allclose(ours[known], vol[known], rtol=0.0, atol=2e-4)


@pytest.mark.parametrize(("rate", "dividend_yield", "call"), [(0.05, 0.0, True), (0.0, 0.03, False), (0.0, 0.0, False)])
def test_options_that_nobody_exercises_are_european(rate: float, dividend_yield: float, call: bool) -> None:  # noqa: FBT001
    options = one(strike=110.0, spot=100.0, tenor=1.0, rate=rate, dividend_yield=dividend_yield, call=call)
    price = american.european_prices(options, np.array([0.3]))
    forward, discount = options.forward.item(), options.discount.item()
    kind = ql.Option.Call if call else ql.Option.Put
    assert price.item() == pytest.approx(ql.blackFormula(kind, 110.0, forward, 0.3, discount), rel=1e-13)
    assert american.vols(options, price).item() == pytest.approx(0.3, abs=1e-12)


def test_an_option_of_today_has_a_vol() -> None:
    """An hour before expiry, at the money: all of its price is time value, though 0.1 % of the strike."""
    put = one(strike=100.0, spot=100.0, tenor=1.0 / 8760.0, rate=0.05, dividend_yield=0.0, call=False)
    price = american.european_prices(put, np.array([0.2]))  # early exercise is worth less than 1e-6 of it
    assert american.vols(put, price).item() == pytest.approx(0.2, abs=1e-4)


def test_prices_without_a_vol_are_nan() -> None:
    """At exercise, below it, above the spot; and with negative rates, two boundaries."""
    put = one(strike=120.0, spot=100.0, tenor=0.5, rate=0.05, dividend_yield=0.0, call=False)
    for price in (20.0, 19.0, 121.0, np.nan):
        assert np.isnan(american.vols(put, np.array([price]))).all()
    negative = one(strike=100.0, spot=100.0, tenor=0.5, rate=-0.01, dividend_yield=-0.02, call=False)
    assert np.isnan(american.vols(negative, np.array([5.0]))).all()


@pytest.mark.parametrize("tenor_days", [30, 365])
def test_forward_comes_from_the_european_part(tenor_days: int) -> None:
    """Prices of a chain give the yield they were made with; read as European they are off by its early exercise."""
    spot, rate, dividend_yield, tenor = 150.0, 0.05, 0.03, tenor_days / 365.0
    strikes = np.arange(130.0, 171.0, 5.0)
    count = len(strikes)
    same = [np.full(count, x) for x in (spot, tenor, rate, dividend_yield)]
    calls, puts = (
        np.array([quantlib_price(AmericanOptions(strikes, *same, np.full(count, call)), i, 0.3) for i in range(count)])
        for call in (True, False)
    )
    implied = american.implied_dividend_yields(
        strikes[None], calls[None], puts[None], spot=np.array([spot]), tenor=np.array([tenor]), rate=np.array([rate])
    )
    assert implied.item() == pytest.approx(dividend_yield, abs=2e-5)


def test_expiries_with_few_pairs_or_none_of_use() -> None:
    """The second expiry has one pair; in the third each pair has a side that is worth its exercise."""
    strikes = np.array([[90.0, 110.0], [100.0, np.nan], [90.0, 110.0]])
    call = np.array([[15.0, 4.0], [8.0, np.nan], [10.0, 0.0]])
    put = np.array([[4.0, 12.0], [7.0, np.nan], [0.0, 10.0]])
    market = {"spot": np.full(3, 100.0), "tenor": np.full(3, 0.5), "rate": np.full(3, 0.04)}
    forward = (
        np.array([90.0 + 11.0 * math.exp(0.02) + 110.0 - 8.0 * math.exp(0.02), 200.0 + 2.0 * math.exp(0.02)]) / 2.0
    )
    expected = 0.04 - np.log(forward / 100.0) / 0.5
    np.testing.assert_allclose(american.european_yields(strikes, call, put, **market)[:2], expected, rtol=1e-12)
    implied = american.implied_dividend_yields(strikes, call, put, **market)
    assert np.isfinite(implied).tolist() == [True, True, False]


def test_discrete_dividends_are_in_the_forward() -> None:
    """A stock that pays 0.5 % each quarter, by finite differences: within 7 bp of its European vols, 100 bp without."""
    ql.Settings.instance().evaluationDate = TODAY
    spot, rate, days = 100.0, 0.05, (30, 120, 210, 300)
    strikes = np.arange(85.0, 121.0, 5.0)
    same = [np.full(len(strikes), x) for x in (spot, 1.0, rate, 0.0)]
    dividends = ql.DividendVector([TODAY + day for day in days], [0.5] * 4)
    engine = ql.FdBlackScholesVanillaEngine(
        process(AmericanOptions(strikes, *same, strikes > 0.0), 0, 0.25), dividends, 100, 400
    )

    def prices(kind: int, exercise: ql.Exercise) -> Array:
        result = []
        for strike in strikes.tolist():
            option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), exercise)
            option.setPricingEngine(engine)
            result.append(option.NPV())
        return np.array(result)

    calls, puts = (prices(kind, ql.AmericanExercise(TODAY, TODAY + 365)) for kind in (ql.Option.Call, ql.Option.Put))
    market = {"spot": np.array([spot]), "tenor": np.ones(1), "rate": np.array([rate])}
    implied = american.implied_dividend_yields(strikes[None], calls[None], puts[None], **market).item()
    ours = AmericanOptions(
        strikes, *same[:3], np.full(len(strikes), implied), strikes > spot * math.exp(rate - implied)
    )
    price = np.where(ours.call, calls, puts)

    forward = spot * math.exp(rate) - sum(0.5 * math.exp(rate * (1.0 - day / 365.0)) for day in days)
    true = ours._replace(dividend_yield=np.full(len(strikes), rate - math.log(forward / spot)))
    kinds = [ql.Option.Call if call else ql.Option.Put for call in ours.call]
    european = np.array([prices(kind, ql.EuropeanExercise(TODAY + 365))[i] for i, kind in enumerate(kinds)])
    expected = american.european_vols(true, european)
    np.testing.assert_allclose(american.vols(ours, price), expected, atol=7e-4)
    assert (american.european_vols(true, price) - expected).max() > 90e-4


def chain(rate: float, dividend_yield: float, tenor: float, *, european: bool) -> tuple[Array, Array, Array]:
    """Strikes, calls and puts of a smile at spot 100."""
    strikes = np.linspace(70.0, 135.0, 27)
    same = [np.full(27, x) for x in (100.0, tenor, rate, dividend_yield)]
    vol = 0.3 - 0.1 * np.log(strikes / 100.0)
    sides = []
    for call in (True, False):
        options = AmericanOptions(strikes, *same, np.full(27, call))
        if european:
            sides.append(american.european_prices(options, vol))
        else:
            sides.append(np.array([quantlib_price(options, i, vol[i]) for i in range(27)]))
    return strikes, *sides


@pytest.mark.parametrize(("rate", "dividend_yield"), [(0.05, 0.0), (0.05, 0.03), (0.0, 0.04), (0.04, 0.04)])
def test_early_exercise_shows_in_parity(rate: float, dividend_yield: float) -> None:
    """In noise of a cent and with spot unknown too; European prices of the same market never show it."""
    rng = np.random.default_rng(0)
    for european in (False, True):
        strikes, call, put = chain(rate, dividend_yield, 0.5, european=european)
        for spot in (100.0, np.nan):
            noise = rng.uniform(-0.01, 0.01, (2, len(strikes)))
            half_spread = np.full(len(strikes), 0.02)
            shown = early_exercise.shows(strikes, call + noise[0], put + noise[1], half_spread, spot=spot)
            assert shown is not european


def test_early_exercise_is_not_read_into_noise_or_wide_quotes() -> None:
    strikes, call, put = chain(0.05, 0.03, 0.5, european=False)
    wide = np.full(len(strikes), 5.0)
    assert not early_exercise.shows(strikes, call, put, wide, spot=100.0)
    assert not early_exercise.shows(strikes[:7], call[:7], put[:7], wide[:7] * 0.0, spot=100.0)
    rng = np.random.default_rng(0)
    strikes, call, put = chain(0.05, 0.03, 0.5, european=True)
    shown = [
        early_exercise.shows(strikes, call + rng.normal(0.0, 0.3, 27), put, np.zeros(27), spot=np.nan)
        for _ in range(200)
    ]
    assert np.mean(shown) < 0.05
