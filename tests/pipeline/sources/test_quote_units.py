"""Numbers in another unit are read by a setting, and refused with it; both directions."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import QuantLib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import norm

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quotes
from tests.chains import COLUMNS, PRICES, chain, errors_bp, joined, read
from vae.surface.grid import Grid

BY_K = {"date": "date", "days": "days", "log_moneyness": "k", "iv": "iv"}
SPOT_PRICES = PRICES | {"spot": "spot"}
FORWARD_PRICES = PRICES | {"forward": "forward"}
RATES = COLUMNS | {"rate": "rate"}


def table(**change: Any) -> dict[str, Any]:
    """A chain with columns multiplied."""
    rows = chain(rate=0.02)
    return rows | {name: factor * rows[name] for name, factor in change.items()}


@pytest.mark.parametrize(
    ("change", "columns", "settings", "remedy"),
    [
        ({"iv": 100.0}, RATES, {"vol_unit": "percent"}, r"set prepare\.quotes\.vol_unit: percent where it is 20"),
        ({"iv": 1e4}, RATES, {"vol_unit": "bp"}, r"set prepare\.quotes\.vol_unit: bp where it is 20"),
        ({"strike": 1000.0}, RATES, {"strike_scale": 1000.0}, r"set prepare\.quotes\.strike_scale: 1000$"),
        ({"strike": 1000.0}, PRICES, {"strike_scale": 1000.0}, r"set prepare\.quotes\.strike_scale: 1000$"),
        ({"strike": 100.0}, RATES, {"strike_scale": 100.0}, r"set prepare\.quotes\.strike_scale: 100$"),
        ({"strike": 0.001}, RATES, {"strike_scale": 0.001}, r"set prepare\.quotes\.strike_scale: 0\.001$"),
        ({"rate": 100.0}, RATES, {"rate_unit": "percent"}, r"set prepare\.quotes\.rate_unit: percent"),
        ({"price": 0.01}, SPOT_PRICES, {"price_unit": "underlying"}, r"set prepare\.quotes\.price_unit: underlying$"),
    ],
)
def test_a_unit_is_read_by_its_setting_and_refused_without(
    tmp_path: Path, change: dict[str, float], columns: dict[str, str], settings: dict[str, Any], remedy: str
) -> None:
    assert errors_bp(read(tmp_path, table(**change), columns, **settings)).max() < 2.0
    with pytest.raises(InputError, match=remedy):
        read(tmp_path, table(**change), columns)


@pytest.mark.parametrize(
    ("columns", "settings", "remedy"),
    [
        (RATES, {"vol_unit": "percent"}, r"median vol 0\.2\S* is 0\.2\S* % with vol_unit: percent.*vol_unit: decimal"),
        (RATES, {"vol_unit": "bp"}, r"vol_unit: decimal where it is 20"),
        (RATES, {"strike_scale": 1000.0}, r"strike_scale is 1000; leave it out"),
        (PRICES, {"strike_scale": 1000.0}, r"strike_scale is 1000; leave it out"),
        (FORWARD_PRICES, {"price_unit": "underlying"}, r"for prices in currency leave prepare\.quotes\.price_unit out"),
    ],
)
def test_a_unit_that_is_said_wrongly_is_refused(
    tmp_path: Path, columns: dict[str, str], settings: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(InputError, match=remedy):
        read(tmp_path, table(), columns, **settings)


def test_log_moneyness_in_percent_is_refused(tmp_path: Path) -> None:
    rows = chain()
    with pytest.raises(
        InputError, match=r"median of .ln.K/F.. is 1\d.*; in percent it would be 0\.1\d*: divide by 100"
    ):
        read(tmp_path, rows | {"k": 100.0 * np.log(rows["strike"] / 100.0)}, BY_K)


def test_rates_of_the_settings_are_decimal(tmp_path: Path) -> None:
    for rate, message in (
        (5.0, r"5 is 500 %; write 0\.05 for 5 % \["),
        (0.55, r"for 0\.55 %, or set rate_unit: decimal"),
    ):
        with pytest.raises(ValidationError) as found:
            read(tmp_path, chain(), rate=rate)
        assert re.search(message, str(found.value))


def test_inverse_options_are_shares_of_the_forward_or_the_spot(tmp_path: Path) -> None:
    """With forward, prices are not discounted: Black's formula over F."""
    rows = table()
    undiscounted = rows["price"] * np.exp(rows["rate"] * rows["days"] / 365)
    shares = rows | {"price": undiscounted / rows["forward"]}
    columns = FORWARD_PRICES | {"rate": "rate"}
    assert errors_bp(read(tmp_path, shares, columns, price_unit="underlying")).max() < 2.0
    for needed in (columns, columns | {"spot": "spot"}):
        with pytest.raises(InputError, match=r"C - P changes by 0\.01 .*price_unit: underlying"):
            read(tmp_path, shares, needed)
    calls = {name: values[shares["type"] == "call"] for name, values in shares.items()}
    with pytest.raises(InputError, match=r"at the money prices are .* of the forward.*price_unit: underlying"):
        read(tmp_path, calls, columns)


def test_two_readings_are_both_listed(tmp_path: Path) -> None:
    """A median of 2,400 on an index at 12,000 may be basis points of Black, or a normal vol in points."""
    rows = chain(spot=12_000.0)
    rows["iv"] = 1e4 * rows["iv"]
    with pytest.raises(InputError, match=r"vol_unit: bp where it is 20.*; set vol_kind: normal and vol_unit: decimal"):
        read(tmp_path, rows)
    k = rows | {"k": np.log(rows["strike"] / 12_000.0)}
    with pytest.raises(InputError, match=r"vol_unit: bp where.*; normal \(Bachelier\) vols are read by strike"):
        read(tmp_path, k, BY_K)


def test_one_market_in_percent_among_decimals_is_refused(tmp_path: Path) -> None:
    second = chain(ticker="BBB")
    rows = joined(chain(ticker="AAA"), second | {"iv": 100.0 * second["iv"]})
    with pytest.raises(InputError, match=r"vol_unit: percent"):
        read(tmp_path, rows, COLUMNS | {"market": "ticker"})


def test_rates_between_a_tenth_and_one_are_confirmed(tmp_path: Path) -> None:
    rows = chain(rate=0.3)
    with pytest.raises(InputError, match=r"0\.3 is 30 % a year; where 0\.3 is 0\.3 %, set .*; where it is 30 %, set"):
        read(tmp_path, rows, RATES)
    assert errors_bp(read(tmp_path, rows, RATES, rate_unit="decimal")).max() < 2.0


def test_calm_markets_are_allowed_by_a_setting(tmp_path: Path) -> None:
    rows = chain(level=0.5)
    rows["iv"] = 0.008 + 0.0 * rows["iv"]
    with pytest.raises(InputError, match=r"for a market that is 0\.8 % widen prepare\.quotes\.expected_vol"):
        read(tmp_path, rows)
    calm = read(tmp_path, rows, expected_vol={"low": 0.002, "high": 0.1})
    np.testing.assert_allclose(calm.iv, 0.008, rtol=1e-12)


def test_normal_vols_have_the_black_vols_of_the_same_price(tmp_path: Path) -> None:
    """QuantLib prices by Bachelier and inverts by Black."""
    rows = chain()
    rows["iv"] = np.full(len(rows["iv"]), 18.0)
    surfaces = read(tmp_path, rows, vol_kind="normal")
    k, tenor = 0.1, 91 / 365
    strike = 100.0 * np.exp(k)
    price = QuantLib.bachelierBlackFormula(QuantLib.Option.Call, strike, 100.0, 18.0 * tenor**0.5)
    vol = (
        QuantLib.blackFormulaImpliedStdDev(QuantLib.Option.Call, strike, 100.0, price, 1.0, 0.0, 0.2, 1e-14)
        / tenor**0.5
    )
    grid_vol = np.interp(tenor, np.array([45.0, 120.0]) / 365, surfaces.iv[0, :, 2])
    assert grid_vol == pytest.approx(vol, abs=2e-4)
    in_bp = read(tmp_path, rows | {"iv": rows["iv"] / 1e-4}, vol_kind="normal", vol_unit="bp")
    np.testing.assert_allclose(in_bp.iv, surfaces.iv, rtol=1e-12)


@pytest.mark.parametrize("forward", [False, True])
def test_a_rate_in_another_unit_is_refused_where_parity_shows_it(tmp_path: Path, *, forward: bool) -> None:
    """0.08 % written 0.08 is a plausible 8 %, and 4 % read as percent a plausible 0.04 %; parity knows."""
    columns = PRICES | {"rate": "rate", "forward" if forward else "spot": "forward" if forward else "spot"}
    low, high = chain(rate=0.0008), chain(rate=0.04)
    low["rate"] = 100.0 * low["rate"]
    with pytest.raises(InputError, match=r"column rate: the median rate 8 % .*, 0\.08 %; set .*rate_unit: percent"):
        read(tmp_path, low, columns)
    with pytest.raises(InputError, match=r"median rate 0\.04 % .*, 4 %; set prepare\.quotes\.rate_unit: decimal"):
        read(tmp_path, high, columns, rate_unit="percent")
    assert errors_bp(read(tmp_path, low, columns, rate_unit="percent")).max() < 2.0
    assert errors_bp(read(tmp_path, high, columns)).max() < 2.0
    undiscounted = chain() | {"rate": high["rate"]}
    with pytest.raises(
        InputError, match=r"the median rate 4 % .*, -?0 %; .*; for prices that are not discounted leave"
    ):
        read(tmp_path, undiscounted, columns)


def test_prices_that_are_discounted_need_their_rate(tmp_path: Path) -> None:
    """Without it those beside a column of forwards count as undiscounted, and vols are 1 % of themselves off."""
    rows, columns = chain(rate=0.04), PRICES | {"forward": "forward"}
    with pytest.raises(InputError, match="parity discounts the prices at 4 % a year, but"):
        read(tmp_path, rows, columns)
    of_parity = read(tmp_path, rows, PRICES).iv
    np.testing.assert_allclose(read(tmp_path, rows, columns, rate=0.04).iv, of_parity, rtol=0.0, atol=1e-9)
    undiscounted = rows | {"price": rows["price"] * np.exp(0.04 * rows["days"] / 365)}
    np.testing.assert_allclose(read(tmp_path, undiscounted, columns).iv, of_parity, rtol=0.0, atol=1e-9)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(st.integers(37, 100), min_size=1, max_size=3, unique=True).map(sorted),
    step=st.sampled_from([0.5, 1.0, 2.5]),
    tick=st.sampled_from([0.01, 0.05, 0.1]),
    noise=st.sampled_from([0.0, 0.01, 0.02]),
    seed=st.integers(0, 2**32 - 1),
)
def test_noise_of_prices_is_no_rate(
    tmp_path: Path, days: list[int], step: float, tick: float, noise: float, seed: int
) -> None:
    """Undiscounted prices of ticks and noise are read, though slopes of neighbours give rates of several per cent."""
    columns, rows = PRICES | {"forward": "forward"}, noisy(days, step, tick, noise, seed, rate=0.0)
    read_prices(tmp_path, rows, columns)
    with pytest.raises(InputError, match=r"parity discounts the prices at [45]"):
        read_prices(tmp_path, noisy([365, 400], 2.5, tick, noise, seed, rate=0.05), columns)


def noisy(days: list[int], step: float, tick: float, noise: float, seed: int, *, rate: float) -> dict[str, Any]:
    """Calls and puts of a constant vol at 17 strikes, in ticks."""
    random = np.random.default_rng(seed)
    forward = 100.0 + random.uniform()
    day, place, put = (x.ravel() for x in np.meshgrid(days, np.arange(-8, 9), (0, 1), indexing="ij"))
    strike, tenor, sign = 100.0 + step * place, day / 365, 1.0 - 2.0 * put
    total = 0.25 * np.sqrt(tenor)
    d1 = np.log(forward / strike) / total + 0.5 * total
    price = np.exp(-rate * tenor) * sign * (forward * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - total)))
    price = tick * np.round((price + noise * random.normal(size=len(price))) / tick)
    rows = {"days": day, "strike": strike, "type": np.where(put, "put", "call"), "price": price}
    rows |= {"date": np.full(len(day), "2024-01-02"), "forward": np.full(len(day), forward)}
    return {name: values[price > 0.0] for name, values in rows.items()}


def read_prices(folder: Path, rows: dict[str, Any], columns: dict[str, str]) -> None:
    """Read prices of European options; noise in prices of few expiries may look like early exercise."""
    path = folder / "q.parquet"
    pq.write_table(pa.table(rows), path)
    block = {"path": str(path), "columns": columns, "exercise": "european"}
    quotes.read_table(QuotesParams.model_validate(block))


@pytest.mark.parametrize("far", [-999.0, 99.0])
def test_coordinates_that_stand_for_none_are_rejected(tmp_path: Path, far: float) -> None:
    """A smile would be read up to them, and points of the grid that nobody quotes would have vols."""
    k, days = (x.ravel() for x in np.meshgrid(np.linspace(-0.05, 0.05, 11), (30, 91, 182)))
    rows = {"date": np.full(len(k), "2024-01-02"), "years": days / 365, "k": k, "iv": 0.2 - 0.1 * k}
    columns = {"date": "date", "tenor_years": "years", "log_moneyness": "k", "iv": "iv"}
    alone = read(tmp_path, rows, columns)
    more = {"date": ["2024-01-02"] * 2, "years": [91 / 365, 999.0], "k": [far, 0.0], "iv": [0.3, 0.2]}
    found = read(tmp_path, joined(rows, more), columns)
    assert {name: count for name, count in found.rejected.items() if count} == {
        "strike_too_far": 1,
        "tenor_too_long": 1,
    }
    np.testing.assert_array_equal(found.iv, alone.iv)


def test_vols_in_two_units_are_refused(tmp_path: Path) -> None:
    """Whole expiries, or dates, in percent beside others in decimals; no median of the file can tell them apart."""
    rows = chain()
    rows["iv"] = np.where(rows["days"] == 30, 1.0, 100.0) * rows["iv"]
    with pytest.raises(InputError, match=r"is 0.2.. % on some of its expiries or dates and 2. % on others, as of two"):
        read(tmp_path, rows, vol_unit="percent")
    dates = joined(chain(date="2024-01-02"), chain(date="2024-01-03"))
    dates["iv"] = np.where(dates["date"] == "2024-01-03", 1.0, 100.0) * dates["iv"]
    with pytest.raises(InputError, match=r"on some of its expiries or dates and 2. % on others, as of two units"):
        read(tmp_path, dates, vol_unit="percent")


@pytest.mark.parametrize(
    ("quotes_of_odd", "odd", "usual", "reason"),
    [
        (1, 0.0035, 0.2, "too_few_points"),
        (1, 4.9, 0.09, "too_few_points"),
        (3, 0.0035, 0.2, "outlier"),
        (12, 20.0, 0.2, "outlier"),
    ],
)
@pytest.mark.parametrize("by", ["date", "days"])
def test_a_few_vols_of_another_unit_are_left_out(
    tmp_path: Path, quotes_of_odd: int, odd: float, usual: float, reason: str, by: str
) -> None:
    """One date, or one expiry, of a history of 30."""
    dates = np.repeat(np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]").astype(str), 12)
    k = np.tile(np.linspace(-0.1, 0.1, 12), 30)
    rows = {"date": dates, "days": np.full(360, 60), "k": k, "iv": np.full(360, usual)}
    few = {name: values[:quotes_of_odd] for name, values in rows.items()} | {"iv": np.full(quotes_of_odd, odd)}
    few |= {"date": np.full(quotes_of_odd, "2024-01-31")} if by == "date" else {"days": np.full(quotes_of_odd, 90)}
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table(joined(rows, few)), path)
    table = quotes.read_table(QuotesParams.model_validate({"path": str(path), "columns": BY_K, "max_vol": 30.0}))
    left_out = {} if by == "days" and quotes_of_odd == 1 else {reason: quotes_of_odd}
    assert {name: count for name, count in table.rejected.items() if count} == left_out


def test_vols_of_a_pegged_currency_are_seen_by_the_distances_of_their_strikes(tmp_path: Path) -> None:
    """As 90 % all strikes would lie within a twentieth of a standard deviation; 0.9 % needs two settings."""
    rows = chain() | {"strike": 100.0 + 0.03 * (chain()["strike"] - 100.0), "iv": np.full(150, 0.9)}
    with pytest.raises(
        InputError, match=r"all strikes lie within 0\.035 standard deviations of the forward"
    ) as refused:
        read(tmp_path, rows)
    assert "set prepare.quotes.vol_unit: percent where 0.9 is 0.9 %, and prepare.quotes.expected_" in str(refused.value)
    grid = Grid(np.array([45.0, 120.0]) / 365, np.array([-0.005, 0.0, 0.005]), "log_moneyness")
    wide = {"expected_vol": {"low": 0.0001, "high": 2.0}}
    assert read(tmp_path, rows, grid=grid, vol_unit="percent", **wide).iv == pytest.approx(0.009)
    assert read(tmp_path, rows, grid=grid, **wide).iv == pytest.approx(0.9)


def test_moneyness_in_standard_deviations_is_no_logarithm(tmp_path: Path) -> None:
    """-2.5 to 2 at all tenors was read as strikes of a twelfth of the forward to seven times it."""
    days, k = (part.ravel() for part in np.meshgrid([14, 49, 112], np.linspace(-2.5, 2.0, 10)))
    rows = {"date": np.full(30, "2024-01-02"), "days": days, "k": k, "iv": 0.2 - 0.01 * k}
    with pytest.raises(
        InputError, match=r"column k: half of the quotes of each expiry lie [\d.]+ or more standard dev"
    ):
        read(tmp_path, rows, BY_K)


def test_contracts_from_before_a_split_are_no_market(tmp_path: Path) -> None:
    old = chain(market="AAPL1")
    rows = joined(chain(market="AAPL"), old | {"strike": 4.0 * old["strike"]})
    columns = COLUMNS | {"market": "market"}
    with pytest.raises(InputError, match=r"strike of market AAPL1 nearest the forward or spot is a factor of 2\.8 off"):
        read(tmp_path, rows, columns)
    assert errors_bp(read(tmp_path, rows, columns, markets=["AAPL"])).max() < 2.0


def test_daily_vols_are_seen_by_the_distances_of_their_strikes(tmp_path: Path) -> None:
    """1.3 % a day is 20 % a year; as a vol of a year it was plausible."""
    rows = chain() | {"iv": chain()["iv"] / np.sqrt(252.0)}
    with pytest.raises(InputError, match=r"half of the quotes of each expiry .*: the vols are no annual ones in this"):
        read(tmp_path, rows)
    assert read(tmp_path, rows, expected_vol={"low": 0.01, "high": 2.0}).iv.max() < 0.02


def test_types_that_are_swapped_are_named(tmp_path: Path) -> None:
    rows = chain()
    swapped = rows | {"type": np.where(rows["type"] == "put", "call", "put")}
    with pytest.raises(InputError, match="calls are puts and puts are calls: look at column type"):
        read(tmp_path, swapped, SPOT_PRICES)


def test_columns_of_rates_in_two_units_are_refused(tmp_path: Path) -> None:
    """The setting that makes 1.3 a yield of 1.3 % made a rate of 5 % one of 0.05 %: a forward 5 % too low."""
    columns = COLUMNS | {"rate": "r", "dividend_yield": "q"}
    rows = chain(rate=0.037, r=0.05, q=1.3)
    with pytest.raises(InputError, match=r"column q with .* 1\.3 looks like percent, and column r with 0\.05 like dec"):
        read(tmp_path, rows, columns)
    assert read(tmp_path, rows, columns, rate_unit="percent").iv.size  # as stated
    same = rows | {"r": 100.0 * rows["r"]}
    assert errors_bp(read(tmp_path, same, columns, rate_unit="percent")).max() < 2.0


def test_percent_signs_are_of_their_own_column(tmp_path: Path) -> None:
    """5.00% beside a yield of 0.013 needs no setting, which would change the yield."""
    rows = chain(rate=0.037, r="5.00%", q=0.013)
    assert errors_bp(read(tmp_path, rows, COLUMNS | {"rate": "r", "dividend_yield": "q"})).max() < 2.0


def test_forwards_that_parity_contradicts_are_refused(tmp_path: Path) -> None:
    """A column future that holds the spot made vols of 16 % and 26 % of a market that has 20 %."""
    rows = chain(rate=0.05)
    columns = FORWARD_PRICES | {"rate": "rate"}
    assert errors_bp(read(tmp_path, rows, columns)).max() < 2.0
    with pytest.raises(InputError, match=r"column forward: put-call parity of 2 of 3 .*; leave .*columns\.forward out"):
        read(tmp_path, rows | {"forward": rows["spot"]}, columns)
