"""Surfaces from files of quotes: what is read, what is rejected and why, what is refused."""

import datetime as dt
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML
from scipy.stats import norm

from pipeline import register_record
from pipeline.files import formats
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quotes
from pipeline.sources.quoted_surfaces import QuotedSurfaces
from tests.workspace import Workspace
from vae.surface.grid import Grid

Table = dict[str, list[Any]]

DAYS = [26, 182, 364]
K = np.linspace(-0.4, 0.3, 9)  # the nodes of the workspace
DATES = [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(20)]
GRID = Grid(np.array(DAYS) / 365, K, "log_moneyness")
COLUMNS = {"date": "date", "days": "days", "log_moneyness": "k", "iv": "iv"}


def vols(seed: int = 0, dates: int = len(DATES)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.15, 0.35, (dates, len(DAYS), len(K)))


def table(iv: np.ndarray) -> Table:
    """One row for each point of surfaces [date, tenor, node]."""
    date, day, node = (index.ravel().tolist() for index in np.indices(iv.shape))
    return {
        "date": [DATES[i].isoformat() for i in date],
        "days": [DAYS[i] for i in day],
        "k": [K[i].item() for i in node],
        "iv": iv.ravel().tolist(),
    }


def write(path: Path, columns: Table | pa.Table) -> Path:
    content = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(content, path)
    else:
        pq.write_table(content, path)
    return path


def settings(path: Path, columns: dict[str, str] | None = None, **values: Any) -> QuotesParams:
    block = {"path": str(path), "columns": columns or COLUMNS, "min_points": 1, "max_conflicting": 1.0, **values}
    return QuotesParams.model_validate(block)


def reasons(market: QuotedSurfaces) -> dict[str, int]:
    return {reason: count for reason, count in market.rejected.items() if count}


def test_a_column_becomes_a_number_of_each_date(tmp_path: Path) -> None:
    """A date may lack it, and a row that is rejected may have it."""
    rows = table(vols(dates=4))
    days = np.array(rows["date"])
    index = np.select([days == DATES[0].isoformat(), days == DATES[2].isoformat()], [18.5, 21.0], np.nan)
    index[np.flatnonzero(days == DATES[2].isoformat())[1:]] = np.nan
    rows["iv"][int(np.flatnonzero(days == DATES[2].isoformat())[0])] = -0.2
    path = write(tmp_path / "q.parquet", rows | {"VIX": index.tolist()})

    market = quotes.read(settings(path, conditions={"vix": "VIX"}), GRID)

    np.testing.assert_array_equal(market.conditions["vix"], [18.5, np.nan, 21.0, np.nan])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([18.0, 19.0], "column VIX, the condition vix, is one number a surface, but holds 18 and 19 on 2024-01-01"),
        ([None, None], "column VIX, the condition vix, holds no number"),
        (["a", "b"], "column VIX holds 'a' in row 1 and 'b' in row 2, but must hold numbers"),
    ],
)
def test_a_column_that_is_not_a_number_of_each_date_is_named(tmp_path: Path, index: list[Any], message: str) -> None:
    rows = {name: values[:2] for name, values in table(vols(dates=1)).items()}
    path = write(tmp_path / "q.parquet", rows | {"VIX": index})
    with pytest.raises(quotes.InputError, match=message):
        quotes.read(settings(path, conditions={"vix": "VIX"}), GRID)


@pytest.fixture
def chosen(workspace: Workspace) -> Callable[..., Workspace]:
    """The workspace with quotes as the source, on a grid in log-moneyness."""

    def choose(path: Path, columns: dict[str, str] | None = None, **values: Any) -> Workspace:
        block = {"path": str(path), "columns": columns or COLUMNS, "max_arbitrage": 1.0, **values}  # vols are random
        workspace.set(
            prepare__source="quotes", prepare__quotes=block, prepare__grid__convention="log_moneyness",
            prepare__heston=None, prepare__surfaces=None, prepare__seed=None,
        )  # fmt: skip
        return workspace

    return choose


def test_a_file_becomes_the_splits_of_its_dates(chosen: Callable[..., Workspace]) -> None:
    """In order of the dates, none of them in two splits, beside grid, figures and report."""
    iv = vols()
    workspace = chosen(write(Path("quotes.parquet"), table(iv)))
    assert workspace.run("prepare") == 0

    splits = {split: Dataset(Path("data/surfaces")).arrays(split) for split in SPLITS}
    assert [len(s["iv"]) for s in splits.values()] == [14, 3, 3]
    dates = np.concatenate([s["date"] for s in splits.values()])
    assert dates.dtype == np.int32
    assert dates.tolist() == [(day - dt.date(1970, 1, 1)).days for day in DATES]
    together = np.concatenate([s["iv"] for s in splits.values()])
    np.testing.assert_array_equal(together, iv.astype(np.float32))
    assert set(splits["train"]) == {"iv", "date"}
    assert Dataset(Path("data/surfaces")).grid.to_dict() == GRID.to_dict()
    figures = json.loads(Path("results/prepare.json").read_text())
    assert figures["quotes"] == figures["quotes_used"] == iv.size
    assert figures["sha256"] == formats.sha256(Path("quotes.parquet").read_bytes())
    assert figures["test_filled_rate"] == 1.0
    report = json.loads(Path("data/surfaces/report.json").read_text())
    assert np.array(report["filled_rate_by_tenor_and_node"]).tolist() == np.ones(GRID.shape).tolist()
    assert report["periods"]["validation"] == ["2024-01-15", "2024-01-17"]


def test_the_order_and_format_of_a_file_do_not_matter(chosen: Callable[..., Workspace]) -> None:
    """Parquet, the same again, rows in another order, CSV: the same bytes."""
    rows = pa.table(table(np.where(vols() < 0.18, np.nan, vols())))
    order = np.random.default_rng(1).permutation(rows.num_rows)
    workspace, made = chosen(Path("a.parquet")), []
    for name, content in (("a.parquet", rows), ("a.parquet", rows), ("b.parquet", rows.take(order)), ("c.csv", rows)):
        workspace.set(prepare__quotes__path=str(write(Path(name), content)))
        assert workspace.run("prepare") == 0
        made.append([Path(f"data/surfaces/{split}.safetensors").read_bytes() for split in SPLITS])
    assert made[0] == made[1] == made[2] == made[3]


@pytest.mark.parametrize("seed", range(10))
def test_every_row_is_used_or_rejected_for_one_reason_whatever_their_order(tmp_path: Path, seed: int) -> None:
    """Bad numbers, repeated options and calls beside puts in any order: the same counts and surfaces, bit for bit."""
    random, count = np.random.default_rng(seed), 150
    bad = np.array([np.nan, np.inf, 0.0, -1.0, 1e300, 1e-300, 1e40, 1e-40])

    def column(values: list[float]) -> np.ndarray:
        return np.where(random.random(count) < 0.05, random.choice(bad, count), random.choice(values, count))

    strike, kind = random.choice(np.arange(80.0, 125.0, 5.0), count), random.choice(["c", "p"], count)
    intrinsic = np.maximum(np.where(kind == "c", 100.0 - strike, strike - 100.0), 0.0)
    rows = pa.table({
        "date": random.choice([f"2024-01-0{i}" for i in range(1, 5)], count), "type": kind,
        "days": column([26, 182, 364]), "strike": np.where(random.random(count) < 0.05, column([0.0]), strike),
        "forward": column([100, 100, 100.1]), "price": intrinsic + column([6.0, 6.5]), "rate": column([0.03]),
        "weight": column([1.0, 2.0]),
    })  # fmt: skip
    columns = PRICE | {"rate": "rate"} | ({"weight": "weight"} if seed % 2 else {})
    grid = Grid(GRID.tenors, np.linspace(-0.1, 0.1, 5), "log_moneyness")
    orders = (np.arange(count), random.permutation(count))
    one, two = (quotes.read(settings(write(tmp_path / "q.parquet", rows.take(o)), columns), grid) for o in orders)
    assert one.rejected == two.rejected
    np.testing.assert_array_equal(one.iv, two.iv)
    listed = [row for row, _ in one.rejected_rows]
    assert len(set(listed)) == len(listed) == sum(one.rejected.values()) < one.rows == count


def test_each_date_is_made_of_its_own_rows(tmp_path: Path) -> None:
    """Later dates, or their absence, change nothing."""
    iv = vols()
    all_dates = quotes.read(settings(write(tmp_path / "all.parquet", table(iv))), GRID)
    first = quotes.read(settings(write(tmp_path / "first.parquet", table(iv[:7]))), GRID)
    np.testing.assert_array_equal(all_dates.iv[:7], first.iv)


@pytest.mark.parametrize(
    "dates",
    [
        pa.array([d.isoformat() for d in DATES[:3]], pa.large_string()),
        pa.array([d.isoformat() for d in DATES[:3]]).dictionary_encode(),
        pa.array([f"{d:%Y%m%d}" for d in DATES[:3]]),
        pa.array([int(f"{d:%Y%m%d}") for d in DATES[:3]], pa.int64()),
        pa.array([float(f"{d:%Y%m%d}") for d in DATES[:3]]),
        pa.array(DATES[:3], pa.date32()),
        pa.array(DATES[:3], pa.date64()),
        pa.array([dt.datetime(d.year, d.month, d.day, 17, 30) for d in DATES[:3]], pa.timestamp("ns")),
        pa.array([dt.datetime(d.year, d.month, d.day, 15) for d in DATES[:3]], pa.timestamp("s", "America/New_York")),
        pa.array([f" {d.isoformat()} " for d in DATES[:3]], pa.string_view()),
    ],
    ids=lambda array: str(array.type),
)
def test_dates_in_every_form(tmp_path: Path, dates: pa.Array) -> None:
    rows = pa.table({"date": dates, "days": [26] * 3, "k": [0.0] * 3, "iv": [0.2] * 3})
    market = quotes.read(settings(write(tmp_path / "q.parquet", rows)), Grid([26 / 365, 1], [0, 1], "log_moneyness"))
    assert market.dates.tolist() == [(day - dt.date(1970, 1, 1)).days for day in DATES[:3]]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_time_with_an_offset_has_its_local_date(tmp_path: Path, suffix: str) -> None:
    """Of a file of either format, not the next date in UTC."""
    rows = {"date": ["2024-01-01T22:00:00-05:00"], "days": [26], "k": [0.0], "iv": [0.2]}
    market = quotes.read(settings(write(tmp_path / f"q{suffix}", rows)), Grid(GRID.tenors, [0.0, 1.0]))
    assert market.dates.tolist() == [(DATES[0] - dt.date(1970, 1, 1)).days]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (pa.array([10**7], pa.date32()), "column date holds dates beyond the year 9999"),
        (pa.array([0], pa.timestamp("us", "Mars/Olympus")), "column date cannot be read as dates: Cannot locate"),
    ],
)
def test_dates_beyond_the_calendar_are_refused(tmp_path: Path, dates: pa.Array, message: str) -> None:
    rows = pa.table({"date": dates, "days": [26], "k": [0.0], "iv": [0.2]})
    with pytest.raises(quotes.InputError, match=message):
        quotes.read(settings(write(tmp_path / "q.parquet", rows)), GRID)


def test_percent_is_converted(tmp_path: Path) -> None:
    rows = table(100.0 * vols())
    market = quotes.read(settings(write(tmp_path / "q.csv", rows), vol_unit="percent"), GRID)
    np.testing.assert_allclose(market.iv, vols(), rtol=1e-14)


def test_an_expiry_date_and_a_constant_date(tmp_path: Path) -> None:
    rows = table(vols(dates=1))
    rows["expiry"] = [int(f"{DATES[0] + dt.timedelta(days=d):%Y%m%d}") for d in rows["days"]]
    columns = {"expiry": "expiry", "log_moneyness": "k", "iv": "iv"}
    market = quotes.read(settings(write(tmp_path / "q.csv", rows), columns, date="2024-01-01"), GRID)
    np.testing.assert_array_equal(market.iv, vols(dates=1))


def test_a_grid_in_deltas(tmp_path: Path) -> None:
    """Quotes by delta return exactly; the same by log-moneyness to rounding, and at other deltas by interpolation."""
    grid = Grid(GRID.tenors, np.linspace(0.1, 0.9, len(K)), "delta")
    iv = 0.2 + 0.1 * vols()
    rows = table(iv)
    rows["delta"] = np.broadcast_to(grid.nodes, iv.shape).ravel().tolist()
    rows["k"] = grid.log_moneyness_of(iv).ravel().tolist()
    path = write(tmp_path / "q.parquet", rows)
    by_delta = {"date": "date", "days": "days", "call_delta": "delta", "iv": "iv"}
    np.testing.assert_array_equal(quotes.read(settings(path, by_delta), grid).iv, iv)
    np.testing.assert_array_equal(quotes.read(settings(path), grid).iv, iv)
    other = Grid(GRID.tenors, [0.15, 0.5, 0.77], "delta")
    np.testing.assert_allclose(quotes.read(settings(path), other).iv, 0.225, atol=0.011)


CHAIN = {"date": "date", "days": "days", "strike": "strike", "type": "type", "bid": "bid", "ask": "ask"}


def chain(spot: float = 5012.0, rate: float = 0.04, dividend_yield: float = 0.04, spread: float = 0.0) -> Table:
    """Calls and puts of every expiry of one date at round strikes, from vols that fall along the strike."""
    rows: Table = {name: [] for name in CHAIN.values()} | {"vol": []}
    for days in DAYS:
        tenor = days / 365
        forward = spot * np.exp((rate - dividend_yield) * tenor)
        for strike in np.arange(3400.0, 6700.0, 50.0).tolist():
            vol = 0.2 - 0.1 * np.log(strike / forward)
            d1 = np.log(forward / strike) / (vol * tenor**0.5) + 0.5 * vol * tenor**0.5
            for sign, name in ((1, "call"), (-1, "put")):
                inside = forward * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - vol * tenor**0.5))
                price = np.exp(-rate * tenor) * sign * inside
                row = (DATES[0], days, strike, name, price * (1 - spread), price * (1 + spread), vol)
                for values, value in zip(rows.values(), row, strict=True):
                    values.append(value)
    return rows


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_prices_of_calls_and_puts_need_nothing_else(tmp_path: Path, spread: float) -> None:
    """Forward and discount factor by parity, vols from what is out of the money."""
    grid = Grid(GRID.tenors, np.linspace(-0.15, 0.15, 7), "log_moneyness")
    market = quotes.read(settings(write(tmp_path / "q.parquet", chain(spread=spread)), CHAIN), grid)
    np.testing.assert_allclose(market.iv[0], np.broadcast_to(0.2 - 0.1 * grid.nodes, grid.shape), atol=1e-5)
    assert set(reasons(market)) <= {"in_the_money", "no_time_value"}
    assert market.rejected["in_the_money"] == len(chain()["bid"]) // 2


@pytest.mark.parametrize("given", ["forward", "spot", "moneyness"])
def test_calls_alone_with_forward_or_spot(tmp_path: Path, given: str) -> None:
    """A call in the money counts as the put; the forward is quoted or carried from spot at rate and dividend yield."""
    rate, dividend_yield = 0.04, 0.01
    rows = pa.table(chain(rate=rate, dividend_yield=dividend_yield))
    rows = rows.filter(pa.compute.equal(rows["type"], "call"))
    forward = 5012.0 * np.exp((rate - dividend_yield) * np.array(rows["days"]) / 365)
    spot = np.full(len(forward), 5012.0)
    rows = rows.append_column("forward", pa.array(forward)).append_column("spot", pa.array(spot))
    rows = rows.append_column("moneyness", pa.array(np.array(rows["strike"]) / spot))
    columns = dict(CHAIN, **{given: given}, **({"spot": "spot"} if given == "moneyness" else {}))
    if given == "moneyness":
        del columns["strike"]
    params = settings(write(tmp_path / "q.parquet", rows), columns, rate=rate, dividend_yield=dividend_yield)
    grid = Grid(GRID.tenors, np.linspace(-0.1, 0.1, 5), "log_moneyness")
    market = quotes.read(params, grid)
    np.testing.assert_allclose(market.iv[0], np.broadcast_to(0.2 - 0.1 * grid.nodes, grid.shape), atol=1e-5)


def test_a_call_alone_without_forward_is_rejected(tmp_path: Path) -> None:
    rows = chain()
    rows["days"] = [
        days + (days == 26 and kind == "call") for days, kind in zip(rows["days"], rows["type"], strict=True)
    ]
    market = quotes.read(settings(write(tmp_path / "q.parquet", rows), CHAIN), GRID)
    assert market.rejected["no_forward"] == 2 * rows["days"].count(27)


BID_ASK = {"date": "date", "days": "days", "log_moneyness": "k", "bid_iv": "bid", "ask_iv": "ask"}
ONE = {"date": ["2024-01-01"], "days": [26], "k": [0.0], "iv": [0.2], "bid": [0.19], "ask": [0.21], "weight": [1.0],
       "strike": [100.0], "forward": [100.0], "type": ["call"], "price": [1.0], "delta": [0.5],
       "exercise": ["european"], "rate": [0.045], "bad": [False], "at": ["2024-01-01 12:00:00"]}  # fmt: skip
STRIKE = {"date": "date", "days": "days", "strike": "strike", "forward": "forward", "iv": "iv"}
DELTA = {"date": "date", "days": "days", "call_delta": "delta", "iv": "iv"}
PRICE = {"date": "date", "days": "days", "strike": "strike", "forward": "forward", "price": "price", "type": "type"}


@pytest.mark.parametrize(
    ("columns", "change", "more", "reason"),
    [
        (COLUMNS, {"bad": True}, {"drop_where": "bad"}, "flagged"),
        (COLUMNS | {"exercise": "exercise"}, {"exercise": "American"}, {}, "american"),
        (COLUMNS | {"exercise": "exercise"}, {"exercise": None}, {}, "missing_value"),
        (COLUMNS | {"rate": "rate"}, {"rate": 4.5}, {}, "rate_above_1"),
        (COLUMNS, {"iv": np.nan}, {}, "missing_value"),
        (COLUMNS, {"iv": np.inf}, {}, "missing_value"),
        (COLUMNS, {"iv": None}, {}, "missing_value"),
        (COLUMNS, {"date": None}, {}, "missing_value"),
        (COLUMNS, {"k": -np.inf}, {}, "missing_value"),
        (COLUMNS, {"k": 1e300}, {}, "missing_value"),
        (COLUMNS, {"date": " "}, {}, "missing_value"),
        (PRICE, {"type": None}, {}, "missing_value"),
        (BID_ASK, {"bid": np.nan}, {}, "missing_bid"),
        (BID_ASK, {"bid": 0.0}, {}, "missing_bid"),
        (BID_ASK, {"ask": None}, {}, "missing_ask"),
        (BID_ASK, {"bid": -np.inf, "ask": np.inf}, {}, "missing_bid"),
        (COLUMNS, {"days": 0}, {}, "expired"),
        (COLUMNS, {"days": -10_000_000}, {"rate": 0.05}, "expired"),
        (STRIKE, {"strike": 0.0}, {}, "strike_not_positive"),
        (STRIKE, {"strike": -5.0}, {}, "strike_not_positive"),
        (STRIKE, {"forward": 0.0}, {}, "forward_not_positive"),
        (DELTA, {"delta": 1.0}, {}, "delta_not_inside_0_1"),
        (COLUMNS | {"weight": "weight"}, {"weight": 0.0}, {}, "weight_not_positive"),
        (COLUMNS | {"quoted_at": "at"}, {"at": "2024-01-02 00:00:00"}, {}, "quoted_after_date"),
        (COLUMNS | {"quoted_at": "at"}, {"at": "2023-12-29 23:00:00"}, {"max_age_days": 2}, "stale"),
        (BID_ASK, {"bid": 0.22}, {}, "crossed"),
        (BID_ASK, {"bid": 0.1}, {"max_relative_spread": 0.5}, "wide"),
        (COLUMNS, {"iv": -0.2}, {}, "vol_not_positive"),
        (COLUMNS, {"iv": 0.0}, {}, "vol_not_positive"),
        (COLUMNS, {"iv": 1e-12}, {}, "vol_not_positive"),
        (BID_ASK, {"bid": -0.1}, {}, "missing_bid"),
        (COLUMNS, {"iv": 1.1}, {"max_vol": 1.0}, "vol_above_max"),
        (PRICE, {"price": 90.0}, {"max_vol": 2.0}, "vol_above_max"),
        (PRICE, {"price": -1.0}, {}, "price_outside_bounds"),
        (PRICE, {"price": 100.0}, {}, "price_outside_bounds"),
        (PRICE, {"price": 4.0, "strike": 95.0}, {}, "price_outside_bounds"),
        (PRICE, {"price": 5.0, "strike": 95.0}, {}, "no_time_value"),
        (PRICE, {"price": 0.0}, {}, "no_time_value"),
        (COLUMNS, {"date": "2024-01-02"}, {"min_points": 2}, "too_few_points"),
    ],
)  # fmt: skip
def test_a_bad_row_is_counted_under_its_reason(
    tmp_path: Path, columns: dict[str, str], change: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    """Among good ones, and listed by its place in the file; alone it is an error that names the reason."""
    names = (*columns.values(), *more.get("drop_where", "").split())
    bad = {name: [change.get(name, ONE[name][0])] for name in names}
    good = [{name: ONE[name] for name in names} | {"days": [day]} for day in (364, 182)]
    rows = {name: [*good[0][name], *bad[name], *good[1][name]] for name in names}
    grid = Grid(GRID.tenors, [0.5, 0.6], "delta") if "call_delta" in columns else Grid(GRID.tenors, [0.0, 1.0])
    market = quotes.read(settings(write(tmp_path / "q.parquet", rows), columns, **more), grid)
    assert reasons(market) == {reason: 1}
    assert market.rejected_rows == [(2, reason)]

    units = dict.fromkeys(("vol_above_max", "price_outside_bounds", "no_time_value"), "|expected_vol")
    units["rate_above_1"] = "|rate_unit: percent"
    message = f"has no usable quote: 1 {reason}|all 1 options are {reason}{units.get(reason, '')}"
    with pytest.raises(quotes.InputError, match=message):
        quotes.read(settings(write(tmp_path / "alone.parquet", bad), columns, **more), GRID)


def repeated(tmp_path: Path, vols_at: list[tuple[float, str]], **names: str) -> QuotedSurfaces:
    """One option with several vols, quoted at times of one day."""
    rows = {name: values * len(vols_at) for name, values in ONE.items()}
    rows["iv"], rows["at"] = ([*part] for part in zip(*vols_at, strict=True))
    return quotes.read(settings(write(tmp_path / "q.parquet", rows), COLUMNS | names), Grid(GRID.tenors, [0.0, 1.0]))


def test_of_the_same_quote_twice_one_is_kept(tmp_path: Path) -> None:
    market = repeated(tmp_path, [(0.2, "2024-01-01")] * 3)
    assert reasons(market) == {"duplicate": 2}
    assert market.iv[0, 0, 0] == 0.2


def test_of_conflicting_quotes_the_latest_is_kept(tmp_path: Path) -> None:
    at = [(0.3, "2024-01-01 10:00"), (0.2, "2024-01-01 12:00"), (0.1, "2024-01-01 11:00")]
    market = repeated(tmp_path, at, quoted_at="at")
    assert reasons(market) == {"duplicate": 2}
    assert market.iv[0, 0, 0] == 0.2


@pytest.mark.parametrize(
    ("names", "counts"), [({}, "3 conflicting"), ({"quoted_at": "at"}, "1 duplicate, 2 conflicting")]
)
def test_conflicting_quotes_without_a_latest_are_all_rejected(
    tmp_path: Path, names: dict[str, str], counts: str
) -> None:
    with pytest.raises(quotes.InputError, match=f"has no usable quote: {counts}"):
        repeated(tmp_path, [(0.3, "2024-01-01 10:00"), (0.2, "2024-01-01 12:00"), (0.1, "2024-01-01 12:00")], **names)


def test_conflicting_quotes_with_weights_are_averaged(tmp_path: Path) -> None:
    """Those of the latest time; the weights of ONE are equal."""
    at = [(0.3, "2024-01-01 10:00"), (0.2, "2024-01-01 12:00"), (0.1, "2024-01-01 12:00"), (0.3, "2024-01-01 12:00")]
    market = repeated(tmp_path, at, quoted_at="at", weight="weight")
    assert reasons(market) == {"duplicate": 1, "merged": 2}
    assert market.iv[0, 0, 0] == pytest.approx(0.2, rel=1e-15)


def test_a_long_csv_whose_first_numbers_are_whole(tmp_path: Path) -> None:
    """The type of a column is not that of its first megabyte."""
    count = 60_000
    vols_there = ["2"] * (count - 1) + ["0.5"]
    lines = [f"2024-01-01,{i // 100 + 1},{i % 100 / 100},{vol}\n" for i, vol in enumerate(vols_there)]
    path = tmp_path / "q.csv"
    path.write_text("date,days,k,iv\n" + "".join(lines))
    assert path.stat().st_size > 2**20
    market = quotes.read(settings(path), Grid([1 / 365, 600 / 365], [0.0, 0.99], "log_moneyness"))
    np.testing.assert_array_equal(market.iv[0], [[2.0, 2.0], [2.0, 0.5]])


def test_tenors_that_differ_by_rounding_are_one_expiry(tmp_path: Path) -> None:
    rows = {"date": ["2024-01-01"] * 4, "k": [-0.15, -0.05, 0.05, 0.15], "iv": [0.2] * 4}
    rows["tenor"] = (26 / 365 * (1 + 1e-13 * np.arange(4))).tolist()
    columns = {"date": "date", "tenor_years": "tenor", "log_moneyness": "k", "iv": "iv"}
    market = quotes.read(settings(write(tmp_path / "q.parquet", rows), columns), Grid(GRID.tenors, [-0.1, 0.1]))
    np.testing.assert_allclose(market.iv[0, 0], 0.2, rtol=1e-14)


def test_a_call_and_a_put_at_one_delta_are_no_duplicates(tmp_path: Path) -> None:
    rows = {name: values * 2 for name, values in ONE.items()} | {"type": ["c", "p"], "iv": [0.25, 0.2]}
    grid = Grid(GRID.tenors, [0.5, 0.6], "delta")
    market = quotes.read(settings(write(tmp_path / "q.parquet", rows), DELTA | {"type": "type"}), grid)
    assert reasons(market) == {"in_the_money": 1}
    assert market.iv[0, 0, 0] == 0.25


def test_a_call_and_a_put_at_one_strike_are_no_duplicates(tmp_path: Path) -> None:
    """Of vols with a type, the one out of the money is used."""
    rows = {name: values * 2 for name, values in ONE.items()} | {
        "type": ["c", "P"],
        "iv": [0.25, 0.2],
        "strike": [90.0] * 2,
    }
    grid = Grid(GRID.tenors, [np.log(0.9), 1.0], "log_moneyness")
    market = quotes.read(settings(write(tmp_path / "q.parquet", rows), STRIKE | {"type": "type"}), grid)
    assert reasons(market) == {"in_the_money": 1}
    assert market.iv[0, 0, 0] == 0.2


def refused(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which prepare refuses, having written nothing."""
    assert workspace.run("prepare") == 2
    assert not Path("data/surfaces").exists()
    assert not Path("results/prepare.json").exists()
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.parquet", None, r"q\.parquet does not exist"),
        ("q.json", b"{}", r"q\.json must end in \.csv, \.tsv, \.txt, \.csv\.gz, .*, \.xlsx, \.parquet"),
        ("q.parquet", b"", r"q\.parquet is not a parquet file, or is damaged"),
        ("q.parquet", b"date,days,k,iv\n2024-01-01,26,0,0.2\n", r"q\.parquet is not a parquet file, or is damaged"),
        ("q.csv", b"", r"q\.csv cannot be read as a table: it is empty"),
        ("q.csv", b"date,days,k,iv\n", r"q\.csv has no rows"),
        ("q.csv", b"PAR1\x15\x04\x15\n\xff\xfe,\x00", r"q\.csv cannot be read as a table: it holds zero bytes"),
        ("q.csv", b"date,days,k,iv\n1,2\n", r"rows must have 4 cells as the names have, but row 1 has 2 \('1,2'\)"),
        ("q.csv", b"A letter to the editor.\nWith a second line.\n", r"none of comma, semicolon, tab, bar separates"),
        ("q.csv", b"date,days,k\n2024-01-01,26,0\n", r"q\.csv has no column iv; its columns .*: date, days, k"),
        ("q.csv", b"date,days,k,k,iv\n2024-01-01,26,0,0,0.2\n", r"q\.csv has 2 columns k"),
        ("q.csv", b"date,days,k,\xefv\n2024-01-01,26,0,0.2\n", r"no column iv; .* windows-1252\): date, .*, ïv"),
        ("q.csv", b"date,days,k,iv\n2024-01-01,26,0,high\n", r"iv holds 'high' in row 1, but must hold numbers"),
        ("q.csv", b"date,days,k,iv\n2024-01-01,26,0,true\n", r"iv holds 'true' in row 1, but must hold numbers"),
        ("q.csv", b"date,days,k,iv\n2024-13-01,26,0,0.2\n", r"'2024-13-01' in row 1, which is not a date; allowed"),
        ("q.csv", b"date,days,k,iv\n20240230,26,0,0.2\n", r"date holds '20240230' in row 1, which is not a date"),
        ("q.csv", b"date,days,k,iv\ntrue,26,0,0.2\n", r"column date holds 'true' in row 1, which is not a date"),
        ("q.csv", b"date,days,k,iv\n2024-01-01,26,-1,-0.2\n2024-01-01,0,0,0.2\n",
         r"q\.csv has no usable quote: 1 expired, 1 vol_not_positive"),
        ("q.csv", b"date,days,k,iv\n2024-01-01,26,0,0.2\n", r"q\.csv has no usable quote: 1 too_few_points"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_line(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    workspace = chosen(Path(name))
    if content is not None:
        Path(name).write_bytes(content)
    assert re.search(message, refused(workspace, capsys))


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        (PRICE, {}, r"column type holds 'straddle' in row 1; allowed: call, c, .* put, p"),
        ({"date": "date", "days": "days", "log_moneyness": "k", "iv": "k"}, {}, r"log_moneyness and iv are both k"),
        (COLUMNS | {"exercise": "weight"}, {}, r"column weight holds double, but must hold words; allowed: european"),
        (COLUMNS, {"drop_where": "iv"}, r"column iv holds 0\.2 in row 1; allowed: true, false, or nothing but 0 and 1"),
        (COLUMNS, {"drop_where": "suspect"}, r"has no column suspect"),
    ],
)
def test_a_column_of_a_wrong_type_is_named(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str], columns: Any, more: Any, message: str
) -> None:
    rows = ONE | {"type": ["straddle"]}
    assert re.search(message, refused(chosen(write(Path("q.parquet"), rows), columns, **more), capsys))


def test_vols_in_percent_that_are_said_to_be_decimals_are_refused(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(chosen(write(Path("q.parquet"), table(20.0 * vols()))), capsys)
    assert re.search(r"the median vol 5.* is 5.* % with .*; set prepare\.quotes\.vol_unit: percent where it is 5", line)


def test_quotes_off_the_grid_are_refused(chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]) -> None:
    workspace = chosen(write(Path("q.parquet"), ONE | {"k": [0.03]}), min_points=1)
    assert "q.parquet: no quote is within reach of prepare.grid" in refused(workspace, capsys)


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ({"days": "d", "log_moneyness": "k", "iv": "v"}, {}, "exactly one of columns.date and date must be set"),
        (COLUMNS, {"date": "2024-01-01"}, "exactly one of columns.date and date must be set"),
        (COLUMNS | {"expiry": "e"}, {}, "one of tenor_years, days, tenor, expiry must be set, not days and expiry"),
        (COLUMNS | {"strike": "s"}, {}, "one of log_moneyness, call_delta, delta, strike, moneyness must be set, not"),
        ({"date": "d", "days": "d", "log_moneyness": "k"}, {}, "one of iv, bid_iv, price, bid must be set, not none"),
        ({"date": "d", "days": "d", "log_moneyness": "k", "bid_iv": "b"}, {}, "bid_iv and ask_iv go together"),
        ({"date": "d", "days": "d", "strike": "s", "price": "p"}, {}, "price needs type, a column of call and put"),
        ({"date": "d", "days": "d", "call_delta": "s", "price": "p", "type": "t"}, {}, "not by call_delta"),
        ({"date": "d", "days": "d", "moneyness": "m", "iv": "v"}, {}, "needs spot"),
        ({"date": "d", "days": "d", "strike": "s", "iv": "v"}, {}, "strike needs forward, or spot, or prices"),
        (COLUMNS | {"gamma": "d"}, {}, "columns.gamma is not a key; allowed: date, snapshot, market, tenor_years"),
        (PRICE, {"vol_unit": "percent"}, "vol_unit is for vols, but the columns are prices"),
        (COLUMNS, {"max_age_days": 3}, "max_age_days needs columns.quoted_at"),
        (COLUMNS, {"vol_unit": "%"}, "prepare.quotes.vol_unit: Input should be 'decimal', 'percent' or 'bp' (got '%')"),
        (COLUMNS, {"splits": {"train": 1}}, "the shares of the splits must add up to 1, but add up to 1.3"),
        (COLUMNS, {"min_points": 0}, "prepare.quotes.min_points: Input should be greater than or equal to 1 (got 0)"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str], columns: Any, more: Any, message: str
) -> None:
    line = refused(chosen(Path("q.parquet"), columns, **more), capsys)
    assert line.startswith("prepare: params.yaml: prepare.quotes")
    assert message in line


@pytest.mark.slow
def test_training_on_quotes(chosen: Callable[..., Workspace]) -> None:
    """Where nothing is clean, what is quoted is the truth. tests/pipeline/test_train.py makes a bundle of such data."""
    dates = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(120)]
    days = [table(vols(i, 1)) | {"date": [date.isoformat()] * GRID.nodes.size * 3} for i, date in enumerate(dates)]
    rows = {name: [value for day in days for value in day[name]] for name in days[0]}
    workspace = chosen(write(Path("q.parquet"), rows))
    for stage in ("prepare", "train", "evaluate"):
        assert workspace.run(stage) == 0, stage
    assert json.loads(Path("results/evaluate.json").read_text())["reconstruction_rmse_bp"] > 0.0


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": 1, "validation": 0, "test": 0}, "validation.safetensors is empty; give the split validation"),
        (
            {"train": 0.8, "validation": 0.1, "test": 0.1},
            "a batch of 32 needs as many training surfaces, but there",
        ),
    ],
)
def test_training_says_what_it_lacks(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str], splits: Any, message: str
) -> None:
    workspace = chosen(write(Path("q.parquet"), table(vols())), splits=splits)
    assert workspace.run("prepare") == 0
    capsys.readouterr()
    assert workspace.run("train") == 2
    assert message in capsys.readouterr().err


def test_only_numbers_become_metrics_of_a_registered_model() -> None:
    """The sha256 of the quotes stays in the file."""
    assert register_record._numbers({"prepare": {"sha256": "ab12", "dates": 3}}) == {"prepare/dates": 3}


def market_data(name: str) -> Path:
    """A file of the folder that the environment variable VOLVAE_MARKET_DATA names; without it the test is skipped."""
    folder = os.environ.get("VOLVAE_MARKET_DATA")
    if folder is None:
        pytest.skip("VOLVAE_MARKET_DATA is not set; it names the folder of the market data")
    return Path(folder) / name


def example(root: Path, number: int, path: Path) -> dict[str, Any]:
    """params.yaml of the project with an example of docs/quotes.md in place, and its path replaced."""
    blocks = re.findall(r"```yaml\n(prepare:.*?)```", (root / "docs/quotes.md").read_text("utf-8"), re.DOTALL)
    change = YAML(typ="safe").load(blocks[number])
    change["prepare"]["quotes"]["path"] = str(path)
    values = YAML(typ="safe").load(root / "params.yaml")
    values["prepare"] |= change["prepare"]
    train = change.get("train", {})
    values["train"] |= train | {"model": values["train"]["model"] | train.get("model", {})}
    return values


@pytest.mark.parametrize(
    ("number", "name", "surfaces", "rejected"),
    [
        (0, "fx_audusd/audusd_2012_2019.parquet", [1474, 93, 276], {"flagged": 2240}),
        (1, "spx_2006_2009/spx_iv_long.parquet", [593, 127, 127], {}),
        (2, "spx_chain_2023_02_15/spx_chain.parquet", [1, 0, 0], {"missing_bid": 674, "wide": 2}),
    ],
)
def test_examples_of_the_documentation_prepare_real_markets(
    root: Path, workspace: Workspace, number: int, name: str, surfaces: list[int], rejected: dict[str, int]
) -> None:
    """With nothing but a params.yaml: every point of every surface, every rejected row accounted for."""
    path = market_data(name)
    YAML().dump(example(root, number, path), workspace.folder / "params.yaml")
    assert workspace.run("prepare") == 0

    figures = json.loads(Path("results/prepare.json").read_text())
    assert [figures[f"{split}_surfaces"] for split in SPLITS] == surfaces
    assert {k: v for k, v in figures.items() if k.startswith("rejected") and v} == {
        f"rejected_{reason}": count for reason, count in rejected.items()
    }
    assert [v for k, v in figures.items() if k.endswith("filled_rate")] == [1.0] * sum(n > 0 for n in surfaces)
    listed = Path("data/surfaces/rejected.csv").read_text().splitlines()[1:]
    assert len(listed) == sum(rejected.values())
    if number == 2:
        _check_at_the_money(pq.read_table(path).to_pydict())


def _check_at_the_money(rows: Table) -> None:
    """The vol at the forward lies inside the bid and ask vols of the strikes around it, at every tenor."""
    iv = Dataset(Path("data/surfaces")).arrays("train")["iv"][0]
    grid = Dataset(Path("data/surfaces")).grid
    (node,) = np.flatnonzero(np.abs(grid.nodes) < 1e-12)
    expiry = np.array([(dt.date.fromisoformat(str(e)) - dt.date(2023, 2, 15)).days for e in rows["Expiry"]])
    k = np.log(np.array(rows["Strike"]) / np.array(rows["Fwd"]))
    for tenor, vol in zip(np.rint(grid.tenors * 365), iv[:, node], strict=True):
        own = np.flatnonzero(expiry == tenor)
        own = own[np.argsort(k[own])]
        bid, ask = (np.interp(0.0, k[own], np.array(rows[side], float)[own]) for side in ("Bid", "Ask"))
        assert bid <= vol <= ask
