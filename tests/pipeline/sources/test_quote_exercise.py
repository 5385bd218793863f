"""American prices are refused until the settings say what they are, and then give their vols."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import QuantLib as ql

from pipeline.errors import InputError
from pipeline.sources import quote_exercise
from tests.chains import COLUMNS, DAYS, GRID, PRICES, Array, Table, chain, joined, read
from vae.pricing import early_exercise
from vae.surface.grid import Grid

SPOT_PRICES = PRICES | {"spot": "spot"}
TODAY = ql.Date(2, 1, 2024)
RATE, YIELD = 0.05, 0.03


def american(*, rate: float = RATE, dividend_yield: float = YIELD, vol: float = 0.3) -> Table:
    """A chain of American options of flat vol, priced by QuantLib."""
    ql.Settings.instance().evaluationDate = TODAY
    days = ql.Actual365Fixed()

    def curve(value: float) -> ql.YieldTermStructureHandle:
        return ql.YieldTermStructureHandle(ql.FlatForward(TODAY, value, days))

    flat = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(TODAY, ql.NullCalendar(), vol, days))
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(100.0)), curve(dividend_yield), curve(rate), flat
    )
    engine = ql.QdFpAmericanEngine(process)
    table = chain()
    prices = []
    for tenor, strike, kind in zip(table["days"].tolist(), table["strike"].tolist(), table["type"], strict=True):
        payoff = ql.PlainVanillaPayoff(ql.Option.Call if kind == "call" else ql.Option.Put, strike)
        option = ql.VanillaOption(payoff, ql.AmericanExercise(TODAY, TODAY + tenor))
        option.setPricingEngine(engine)
        prices.append(option.NPV())
    return table | {"price": np.array(prices)}


def with_spread(table: Table) -> Table:
    return table | {"bid": table["price"] - 0.01, "ask": table["price"] + 0.01}


@pytest.fixture(scope="module")
def stock() -> Table:
    return american()


def vols(folder: Path, table: Table, columns: dict[str, str] = SPOT_PRICES, **settings: Any) -> Array:
    return read(folder, table, columns, **settings).iv


@pytest.mark.parametrize("columns", [PRICES, SPOT_PRICES])
def test_american_prices_are_refused_until_the_settings_say_so(
    tmp_path: Path, stock: Table, columns: dict[str, str]
) -> None:
    with pytest.raises(InputError, match=r"3 of 3 expiries .* set prepare\.quotes\.exercise: american .*, or european"):
        vols(tmp_path, stock, columns)
    quoted = columns | {"bid": "bid", "ask": "ask"}
    del quoted["price"]
    with pytest.raises(InputError, match="early exercise"):
        vols(tmp_path, with_spread(stock), quoted)


def test_american_prices_give_their_vols_and_forward(tmp_path: Path, stock: Table) -> None:
    """0.3 everywhere to half a basis point; read as European, they are off by tens."""
    found = read(tmp_path, stock, SPOT_PRICES, exercise="american", rate=RATE)
    np.testing.assert_allclose(found.iv, 0.3, atol=0.5e-4)
    assert 1e-4 < found.early_exercise.mean() < found.early_exercise.max() < 100e-4
    assert len(found.early_exercise) == 75  # one of each pair
    read_as_european = vols(tmp_path, stock, exercise="european")
    assert np.abs(read_as_european - 0.3).max() > 10e-4


def test_strikes_between_spot_and_forward_are_read_from_the_side_that_has_a_vol(tmp_path: Path) -> None:
    """A put that is out of the money by the forward, but worth its exercise today, as rates are high and vols low."""
    table = american(rate=0.15, dividend_yield=0.0, vol=0.06)
    found = read(
        tmp_path,
        table,
        SPOT_PRICES,
        Grid(np.array(DAYS) / 365, np.array([-0.06, -0.05, 0.0]), "log_moneyness"),
        exercise="american",
        rate=0.15,
        rate_unit="decimal",
    )
    assert found.rejected["price_outside_bounds"] == 0 < found.rejected["no_time_value"]
    assert len(found.early_exercise) == 69  # 65 of puts and calls that are out of the money, and the calls of 4 strikes
    np.testing.assert_allclose(found.iv[0, -1], 0.06, atol=1e-4)


def test_the_forward_of_the_file_is_kept(tmp_path: Path, stock: Table) -> None:
    forward = 100.0 * np.exp((RATE - YIELD) * stock["days"] / 365)
    columns = SPOT_PRICES | {"forward": "forward", "rate": "rate"}
    table = stock | {"forward": forward, "rate": np.full(len(forward), RATE)}
    np.testing.assert_allclose(vols(tmp_path, table, columns, exercise="american"), 0.3, atol=0.5e-4)


def test_calls_alone_take_the_dividend_yield_of_the_settings(tmp_path: Path, stock: Table) -> None:
    calls = {name: values[stock["type"] == "call"] for name, values in stock.items()}
    settings = {"exercise": "american", "rate": RATE, "dividend_yield": YIELD}
    np.testing.assert_allclose(vols(tmp_path, calls, **settings)[..., 1:], 0.3, atol=0.5e-4)


def test_a_column_tells_american_from_european_options(tmp_path: Path, stock: Table) -> None:
    """Two markets of one file: each row is read as its own column says."""
    european = chain(rate=RATE) | {"market": np.full(150, "INDEX"), "exercise": np.full(150, "european")}
    both = joined(european, stock | {"market": np.full(150, "STOCK"), "exercise": np.full(150, "american")})
    columns = SPOT_PRICES | {"market": "market", "exercise": "exercise"}
    index, share = vols(tmp_path, both, columns, exercise="american", rate=RATE)
    np.testing.assert_allclose(share, 0.3, atol=0.5e-4)
    np.testing.assert_allclose(index, vols(tmp_path, chain(rate=RATE))[0], atol=0.5e-4)
    rejected = read(tmp_path, both, columns).rejected
    assert rejected["american"] == 150


def test_a_file_of_american_options_alone_is_refused_with_the_setting(tmp_path: Path, stock: Table) -> None:
    table = stock | {"exercise": np.full(150, "american")}
    with pytest.raises(InputError, match=r"all 150 options are american; set prepare\.quotes\.exercise: american"):
        vols(tmp_path, table, SPOT_PRICES | {"exercise": "exercise"})


def test_vols_of_american_options_are_vols(tmp_path: Path) -> None:
    """A vendor's vols have early exercise taken out already."""
    table = chain() | {"exercise": np.full(150, "american")}
    columns = COLUMNS | {"exercise": "exercise"}
    found = vols(tmp_path, table, columns, exercise="american")
    np.testing.assert_array_equal(found, vols(tmp_path, chain(), COLUMNS))


def test_a_missing_quantlib_is_named_with_its_extra(
    tmp_path: Path, stock: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quote_exercise, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs QuantLib: pip install 'volvae\[american\]'"):
        vols(tmp_path, stock, exercise="american", rate=RATE)


def test_european_prices_are_not_refused(tmp_path: Path) -> None:
    """Of any rate, with spot and without, in noise of a cent."""
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, 150)
    for rate in (-0.01, 0.0, 0.05):
        table = chain(rate=rate)
        table["price"] = np.maximum(table["price"] + noise, 0.001)
        for columns in (PRICES, SPOT_PRICES):
            assert vols(tmp_path, table, columns).shape == (1, *GRID.shape)


def shown(table: Table, tick: float, rounded: np.ufunc, *, spot: float) -> list[bool]:
    """Whether each expiry shows early exercise where its prices are in ticks."""
    price = (np.round(rounded(np.round(table["price"] / tick, 9)) * tick, 9)).reshape(len(DAYS), -1, 2)
    strikes = table["strike"].reshape(price.shape)[..., 0]
    quoted = [np.all(own > 0.0, axis=1) for own in price]
    return [
        early_exercise.shows(strike[own], *both[own].T, np.zeros(own.sum()), spot=spot)
        for strike, both, own in zip(strikes, price, quoted, strict=True)
    ]


@pytest.mark.parametrize("rounded", [np.rint, np.ceil, np.floor])
@pytest.mark.parametrize("spot", [100.0, np.nan])
def test_ticks_are_no_early_exercise(rounded: np.ufunc, spot: float) -> None:
    for rate, tick in product((0.0, 0.01, 0.05), (0.01, 0.02, 0.05, 0.1, 0.125, 0.2, 0.25, 0.5, 1.0)):
        assert not any(shown(chain(rate=rate), tick, rounded, spot=spot)), (rate, tick)


def test_american_prices_show_early_exercise_in_ticks(stock: Table) -> None:
    """But for a tick that is wider than the bend: a tenth on a spot of 100, in a month."""
    for spot in (100.0, np.nan):
        assert [sum(shown(stock, tick, np.rint, spot=spot)) for tick in (1e-4, 0.01, 0.05)] == [3, 3, 2]


def test_a_bend_wider_than_a_coarse_tick_shows() -> None:
    bent = american(rate=0.1, dividend_yield=0.0)
    for spot in (100.0, np.nan):
        assert all(shown(bent, 0.25, np.rint, spot=spot))


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (PRICES, {"rate": 0.05}, r"needs columns\.spot, and rate"),
        (SPOT_PRICES, {}, r"needs columns\.spot, and rate"),
        (SPOT_PRICES, {"rate": 0.0, "price_unit": "underlying"}, "price_unit: underlying"),
    ],
)
def test_american_prices_need_spot_and_rate(
    tmp_path: Path, columns: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        vols(tmp_path, chain(), columns, exercise="american", **settings)


def test_what_the_options_are_is_said_to_be_assumed_where_nothing_shows_it(tmp_path: Path, stock: Table) -> None:
    """At low rates American prices look European; prices below exercise are."""
    assert read(tmp_path, american(rate=0.002, dividend_yield=0.002), SPOT_PRICES).assumed
    assert not read(tmp_path, stock, SPOT_PRICES, exercise="european").assumed
    assert not read(tmp_path, chain(rate=0.1), SPOT_PRICES).assumed  # deep puts lose to exercise
    assert read(tmp_path, chain(), PRICES).assumed  # no spot
