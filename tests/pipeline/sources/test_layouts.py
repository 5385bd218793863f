"""Tables with several quotes a row: the same surfaces as from rows of one quote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import QuantLib as ql

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_rows, quotes
from vae.surface.grid import Grid

TENORS = ["1M", "6M", "1Y", "2Y"]
YEARS = np.array([1 / 12, 0.5, 1.0, 2.0])
NODES = np.array([0.8, 0.9, 1.0, 1.1])
VOLS = np.array([[0.3, 0.26, 0.22, 0.2], [0.28, 0.25, 0.22, 0.21], [0.27, 0.24, 0.22, 0.21], [0.26, 0.24, 0.23, 0.22]])
COLUMNS = {"date": "date", "tenor": "tenor"}
NUMBERS = {"coordinate": "moneyness", "columns": "numbers"}


def read(tmp_path: Path, rows: list[list[Any]], **block: Any) -> quote_rows.QuoteTable:
    path = tmp_path / "q.csv"
    path.write_text("\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in rows) + "\n")
    return quote_rows.read(QuotesParams.model_validate({"path": str(path), "columns": COLUMNS, **block}))


def wide(names: list[str], vols: Any = VOLS) -> list[list[Any]]:
    return [["date", "tenor", *names], *(["2024-01-02", tenor, *own] for tenor, own in zip(TENORS, vols, strict=True))]


@pytest.mark.parametrize("coordinate", ["strike", "log_moneyness", "call_delta", "delta"])
def test_vols_in_columns_are_those_of_rows(tmp_path: Path, coordinate: str) -> None:
    names = [f"at {node}" for node in NODES]
    nodes = NODES - 0.5  # deltas too
    more = {"spot": "spot"} if coordinate == "strike" else {}
    rows = [[*row, "spot" if i == 0 else 1.0] for i, row in enumerate(wide(names))]
    made = read(
        tmp_path,
        rows,
        columns=COLUMNS | more,
        wide={"coordinate": coordinate, "columns": dict(zip(names, nodes, strict=True))},
    )
    long = [["date", "tenor", "x", "vol", "spot"]]
    long += [["2024-01-02", TENORS[i], nodes[j], VOLS[i, j], 1.0] for i in range(4) for j in range(4)]
    plain = read(tmp_path, long, columns=COLUMNS | more | {coordinate: "x", "iv": "vol"})
    for name in ("date", "tenor", "coordinate", "value"):
        np.testing.assert_array_equal(made[name], plain[name])


@pytest.mark.parametrize("names", [["80%", "90%", "100%", "110%"], ["0.8", "0.9", "1", "1.1"]])
def test_names_that_are_numbers_are_the_coordinates(tmp_path: Path, names: list[str]) -> None:
    """Moneyness needs no spot: the forward over it follows from the rates. "nan" is no number."""
    rows = [[*row, "nan" if i == 0 else 5] for i, row in enumerate(wide(names))]
    table = read(tmp_path, rows, wide=NUMBERS)
    np.testing.assert_allclose(table["coordinate"], np.tile(NODES, 4), rtol=1e-15)
    np.testing.assert_array_equal(table["spot"], 1.0)
    with pytest.raises(InputError, match=r"no name of a column is a number; its columns: date, tenor, a, b, c, d"):
        read(tmp_path, wide(list("abcd")), wide=NUMBERS)


def test_columns_may_be_tenors(tmp_path: Path) -> None:
    rows = [["date", "K/S", "30", "365"], ["2024-01-02", 0.9, 0.3, 0.2], ["2024-01-02", 1.0, 0.25, 0.18]]
    wide = {"coordinate": "days", "columns": "numbers"}
    table = read(tmp_path, rows, columns={"date": "date", "log_moneyness": "K/S"}, wide=wide)
    np.testing.assert_allclose(table["tenor"] * 365, [30, 30, 365, 365], rtol=1e-8)
    np.testing.assert_array_equal(table["value"], [0.3, 0.25, 0.2, 0.18])


def test_an_empty_cell_is_no_quote_and_a_rejected_one_has_the_row_of_the_file(tmp_path: Path) -> None:
    vols = VOLS.astype(object)
    vols[0, 0] = vols[2, 1] = None
    table = read(tmp_path, wide(["80%", "90%", "100%", "110%"], vols), wide=NUMBERS)
    assert len(table) == 14
    assert table.reject("stale", np.arange(14) > 8).rejected_rows == [(row, "stale") for row in (3, 4, 4, 4, 4)]


def test_calls_and_puts_in_one_row_are_two_rows(tmp_path: Path) -> None:
    rows = [
        ["date", "tenor", "K", "S", "C_BID", "C_ASK", "P_BID", "P_ASK"],
        ["2024-01-02", "1M", 100, 101, 5.0, 5.2, 4.0, 4.2],
        ["2024-01-02", "1M", 110, 101, 1.0, 1.2, None, None],
    ]
    columns = COLUMNS | {"strike": "K", "spot": "S"}
    sides = {"call": {"bid": "C_BID", "ask": "C_ASK"}, "put": {"bid": "P_BID", "ask": "P_ASK"}}
    table = read(tmp_path, rows, columns=columns, call_put=sides)
    np.testing.assert_array_equal(table["coordinate"], [100.0, 100.0, 110.0])
    np.testing.assert_array_equal(table["put"], [0.0, 1.0, 0.0])
    np.testing.assert_allclose(table["value"], [5.1, 4.1, 1.1], rtol=1e-15)
    assert table.order.tolist() == [0, 0, 1]


def test_columns_of_one_name_are_told_apart_by_number(tmp_path: Path) -> None:
    rows = [["date", "tenor", "IV", "K", "IV"], ["2024-01-02", "1M", 0.2, 0.1, 0.3]]
    columns = COLUMNS | {"log_moneyness": "K"}
    table = read(tmp_path, rows, columns=columns, call_put={"call": {"iv": "IV[1]"}, "put": {"iv": "IV[2]"}})
    np.testing.assert_array_equal(table["value"], [0.2, 0.3])
    with pytest.raises(InputError, match=r"are both IV; of several columns IV name IV\[1\] and IV\[2\]"):
        read(tmp_path, rows, columns=columns, call_put={"call": {"iv": "IV"}, "put": {"iv": "IV"}})


def test_all_faults_of_a_table_name_its_own_columns(tmp_path: Path) -> None:
    rows = wide(["80%", "90%"], [["x", 0.2], [0.2, "y"], [0.2, 0.2], [0.2, 0.2]])
    with pytest.raises(InputError) as found:
        read(tmp_path, rows, wide={"coordinate": "moneyness", "columns": {"80%": 0.8, "90%": 0.9, "100%": 1.0}})
    assert [line.strip()[:27] for line in str(found.value).splitlines()[1:]] == [
        "has no column 100%; its col", "column 80% holds 'x' in row", "column 90% holds 'y' in row",
    ]  # fmt: skip


FX = {
    "atm": "ATM",
    "wings": [
        {"delta": 0.25, "risk_reversal": "25RR", "butterfly": "25BF"},
        {"delta": 0.1, "risk_reversal": "10RR", "butterfly": "10BF"},
    ],
    "delta": "forward",
    "premium_adjusted": False,
    "atm_strike": "delta_neutral",
    "strangle": "smile",
}
FX_ROWS = [
    ["date", "tenor", "ATM", "25RR", "25BF", "10RR", "10BF"],
    ["2024-01-02", "1M", 8.5, -0.6, 0.2, -1.1, 0.7],
    ["2024-01-02", "1Y", 9.5, -1.1, 0.3, -2.0, 1.1],
    ["2024-01-02", "2Y", 9.8, -1.2, 0.35, None, None],
]
FX_VOLS = [[9.75, 9.0, 8.5, 8.4, 8.65], [11.6, 10.35, 9.5, 9.25, 9.6], [10.75, 9.8, 9.55]]  # puts first, by hand
KINDS = [ql.DeltaVolQuote.Fwd, ql.DeltaVolQuote.Spot, ql.DeltaVolQuote.PaFwd, ql.DeltaVolQuote.PaSpot]
ATM = {
    "delta_neutral": ql.DeltaVolQuote.AtmDeltaNeutral,
    "forward": ql.DeltaVolQuote.AtmFwd,
    "spot": ql.DeltaVolQuote.AtmSpot,
}
DELTAS = [[-0.1, -0.25, None, 0.25, 0.1], [-0.1, -0.25, None, 0.25, 0.1], [-0.25, None, 0.25]]


@pytest.mark.parametrize(
    ("delta", "premium_adjusted", "atm_strike"),
    [("forward", False, "delta_neutral"), ("spot", True, "forward"), ("spot_to_1y", False, "spot")],
)
def test_strikes_of_risk_reversals_have_quantlibs_deltas(
    tmp_path: Path, delta: str, *, premium_adjusted: bool, atm_strike: str
) -> None:
    fx = FX | {"delta": delta, "premium_adjusted": premium_adjusted, "atm_strike": atm_strike}
    table = read(tmp_path, FX_ROWS, fx=fx, vol_unit="percent", rate=0.03, dividend_yield=0.01)
    np.testing.assert_allclose(table["value"], 0.01 * np.concatenate(FX_VOLS), rtol=1e-14)
    signed = np.concatenate(DELTAS)
    for tenor, k, vol, own in zip(table["tenor"], table["coordinate"], table["value"], signed, strict=True):
        domestic, foreign = np.exp(-0.03 * tenor), np.exp(-0.01 * tenor)
        spot = delta == "spot" or (delta == "spot_to_1y" and tenor <= 1.0)
        side = ql.Option.Put if own is not None and own < 0 else ql.Option.Call
        of = ql.BlackDeltaCalculator(
            side, KINDS[2 * premium_adjusted + spot], 1.0, domestic, foreign, vol * np.sqrt(tenor)
        )
        strike = foreign / domestic * np.exp(k)
        expected = of.atmStrike(ATM[atm_strike]) if own is None else own
        assert (strike if own is None else of.deltaFromStrike(strike)) == pytest.approx(expected, abs=1e-12)


def test_risk_reversals_become_the_surface_that_they_are_of(tmp_path: Path) -> None:
    """On a grid of their own deltas, with forward deltas and a delta-neutral straddle, by hand."""
    path = tmp_path / "q.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in FX_ROWS[:3]) + "\n")
    block = {"path": str(path), "columns": COLUMNS, "fx": FX, "vol_unit": "percent", "min_points": 1}
    grid = Grid(np.array([1 / 12, 1.0]), np.array([0.1, 0.25, 0.5, 0.75, 0.9]), "delta")
    found = quotes.read(QuotesParams.model_validate(block), grid)
    np.testing.assert_allclose(found.iv[0], 0.01 * np.array(FX_VOLS[:2])[:, ::-1], rtol=1e-12)


def test_a_market_strangle_needs_not_all_deltas(tmp_path: Path) -> None:
    """Its smile is not the vol of the strangle, and a row of the money alone is one quote."""
    rows = [*FX_ROWS, ["2024-01-02", "3Y", 9.9, None, None, None, None], ["2024-01-02", "5Y", None, 1, 1, 1, 1]]
    table = read(tmp_path, rows, fx=FX | {"strangle": "market"}, vol_unit="percent")
    assert np.isfinite(table["value"]).all()
    assert np.bincount(table.order).tolist() == [5, 5, 3, 1]
    assert abs(table["value"][0] - 0.0975) > 1e-5


@pytest.mark.parametrize(
    ("reversal", "butterfly", "message"),
    [
        (-0.012, 0.003, r"column 25BF: butterflies are 0.0003 times .* may be in decimal; .* in percent"),
        (-0.012, 0.3, r"column 25RR: risk reversals are 0.0012 times .* may be in decimal;"),
        (-120.0, 0.3, r"column 25RR: risk reversals are 12 times .* may be in bp;"),
        (-40.0, 12.0, r"column 25BF: butterflies are 1.2 times .* may be in bp or vols of strangles"),
        (-1.0, 10.4, r"column 25BF: butterflies are 1.04 times .* or vols of strangles, from which"),
    ],
)
def test_parts_of_a_table_in_another_unit_than_the_money_are_refused(
    tmp_path: Path, reversal: float, butterfly: float, message: str
) -> None:
    """The vols were flat, or from 2 % to 46 %, and nothing was said."""
    rows = [["2024-01-02", tenor, 10.0, reversal, butterfly, None, None] for tenor in ("1M", "3M", "1Y")]
    with pytest.raises(InputError, match=message):
        read(tmp_path, [FX_ROWS[0], *rows], fx=FX, vol_unit="percent")


@pytest.mark.parametrize(
    ("atm", "reversal", "butterfly"),
    [
        (8.0, 0.01, 0.15),  # a single reversal near zero
        (14.0, -12.0, 1.5),  # USD/JPY of ten years
        (0.6, 0.55, 0.25),  # a pegged currency
        (8.0, 0.0, 0.0),
    ],
)
def test_small_and_large_parts_that_occur_are_read(
    tmp_path: Path, atm: float, reversal: float, butterfly: float
) -> None:
    rows = [FX_ROWS[0], ["2024-01-02", "1M", atm, reversal, butterfly, None, None]]
    table = read(tmp_path, rows, fx=FX, vol_unit="percent")
    wings = [atm + butterfly - 0.5 * reversal, atm, atm + butterfly + 0.5 * reversal]
    np.testing.assert_allclose(table["value"], 0.01 * np.array(wings), rtol=1e-12)


def test_a_percent_sign_on_one_part_alone_is_refused(tmp_path: Path) -> None:
    rows = [FX_ROWS[0], ["2024-01-02", "1M", "10.0%", -0.012, 0.003, None, None]]
    with pytest.raises(InputError, match="columns ATM have percent signs, and 25RR, 25BF none"):
        read(tmp_path, rows, fx=FX, vol_unit="percent")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"wide": {"coordinate": "strike", "columns": {}}}, "at least 1 item"),
        ({"call_put": {"call": {"iv": "a"}, "put": {"bid": "b"}}}, "must name the same columns, not iv and bid"),
        (
            {"call_put": {"call": {}, "put": {}}, "columns": COLUMNS | {"call_delta": "d"}},
            "iv, .* must be set, not none",
        ),
        ({"wide": NUMBERS, "columns": COLUMNS | {"iv": "v"}}, "prepare.quotes.wide makes the column iv"),
        ({"wide": NUMBERS, "fx": FX}, "a table has one layout, not wide and fx"),
        ({"fx": FX | {"delta": "spot"}}, "fx with spot deltas or strikes needs dividend_yield"),
        ({"fx": FX | {"atm_strike": "spot"}}, "fx with spot deltas or strikes needs rate"),
        ({"fx": FX | {"wings": [FX["wings"][0]] * 2}}, "each delta once, not 0.25, 0.25"),
    ],
)
def test_settings_that_are_no_layout_are_named(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuotesParams.model_validate({"path": "q.csv", "columns": COLUMNS, **block})


def test_settings_of_a_layout_stay_what_they_are_when_they_are_written_and_read() -> None:
    params = QuotesParams.model_validate({"path": "q.csv", "date": "2024-01-02", "columns": {"tenor": "T"}, "fx": FX})
    assert QuotesParams.model_validate(params.model_dump()) == params
