"""Rates, units and styles of exercise that are assumed, and said to be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from tests.chains import PRICES, Table, chain, joined, read
from vae.surface.grid import Grid

SPOT_PRICES = PRICES | {"spot": "spot"}
EUROPEAN: dict[str, Any] = {"exercise": "european"}


def few_pairs() -> Table:
    """Discounted prices of three pairs an expiry, too few for a discount factor of parity."""
    table = chain(rate=0.05)
    near = abs(table["strike"] - 100.0) < 3.0
    return {name: values[near] for name, values in table.items()}


def calls() -> Table:
    table = chain(rate=0.05)
    return {name: values[table["type"] == "call"] for name, values in table.items()}


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        (calls(), PRICES | {"forward": "forward"}, ["prices are discounted with rate 0, "]),
        (few_pairs(), PRICES, ["prices are discounted with rate 0, "]),
        (few_pairs(), SPOT_PRICES, ["prices are discounted with rate 0, "]),
        (calls(), PRICES | {"forward": "forward", "rate": "rate"}, ["a rate of 0.05 is 5 %; "]),
        (few_pairs(), PRICES | {"rate": "rate"}, ["a rate of 0.05 is 5 %; "]),
        (
            calls(),
            SPOT_PRICES,
            ["forwards are made of spots and prices are discounted with rate 0, ", "forwards are made of spots with d"],
        ),
        (
            calls() | {"Rate (%)": 100.0 * calls()["rate"]},
            PRICES | {"forward": "forward", "rate": "Rate (%)"},
            ["a rate of 5 is 5 %, as the name of its column says; --set rate_unit=decimal takes it as 500 %"],
        ),
        (chain(rate=0.05), PRICES | {"rate": "rate"}, []),
        (chain(rate=0.05), PRICES, []),
    ],
)
def test_a_rate_is_said_to_be_assumed_where_forwards_or_discounts_depend_on_it(
    tmp_path: Path, table: Table, columns: dict[str, str], said: list[str]
) -> None:
    """Prices beside forwards were read as undiscounted without a word: an at-the-money vol of 19 % for 20 %."""
    lines = [str(one) for one in read(tmp_path, table, columns, **EUROPEAN).assumed]
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said


def test_a_rate_that_is_stated_is_not_assumed(tmp_path: Path) -> None:
    columns = PRICES | {"forward": "forward"}
    assert not read(tmp_path, calls(), columns, rate=0.05, **EUROPEAN).assumed
    assert not read(tmp_path, calls(), columns | {"rate": "rate"}, rate_unit="decimal", **EUROPEAN).assumed


def test_shares_of_the_forward_need_no_rate(tmp_path: Path) -> None:
    table = calls()
    undiscounted = chain(rate=0.0)
    undiscounted = {name: values[undiscounted["type"] == "call"] for name, values in undiscounted.items()}
    shares = undiscounted | {"price": undiscounted["price"] / undiscounted["forward"], "rate": table["rate"]}
    columns = PRICES | {"forward": "forward"}
    assert not read(tmp_path, shares, columns, price_unit="underlying", **EUROPEAN).assumed


def test_large_vols_beside_deltas_are_said_to_be_decimal(tmp_path: Path) -> None:
    """1.3 is 130 %, or 1.3 % as of a pegged currency; complete and prepare took it without a word."""
    deltas = [0.1, 0.25, 0.5, 0.75, 0.9]
    table = {"date": ["2026-03-02"] * 10, "days": [91] * 5 + [182] * 5, "delta": 2 * deltas, "vol": [1.3] * 10}
    columns = {"date": "date", "days": "days", "call_delta": "delta", "iv": "vol"}
    grid = Grid(np.array([91.0, 182.0]) / 365, np.array([0.25, 0.5, 0.75]), "delta")
    found = read(tmp_path, table, columns, grid, delta_kind="forward").assumed
    assert [one.as_settings for one in found] == [
        "a vol of 1.3 is 130 %; prepare.quotes.vol_unit: percent and prepare.quotes.expected_vol: {low: 0.0001, high: "
        "2} takes it as 1.3 %, as of a pegged currency"
    ]


@pytest.mark.parametrize(
    ("unit", "row", "said"),
    [
        ("percent", (10.0, -1.0, 0.3), ""),
        ("percent", (10.0, 0.0, 0.0), ""),
        ("percent", (10.0, -0.012, 0.3), "column RR is in percent, although it is 0.0012 times the vol at the money;"),
        ("decimal", (0.1, 0.05, 0.003), "column RR is in decimal, although it is 0.5 times the vol at the money;"),
        ("decimal", (0.1, -0.01, 0.05), "column BF is in decimal, although it is 0.5 times the vol at the money;"),
    ],
)
def test_parts_of_a_short_table_whose_size_shows_no_unit_are_said(
    tmp_path: Path, unit: str, row: tuple[float, ...], said: str
) -> None:
    """Two rows with risk reversals in another unit than the money passed without a word."""
    table = {"date": ["2026-03-02"] * 2, "tenor": ["3M", "6M"]}
    table |= {name: [value] * 2 for name, value in zip(("ATM", "RR", "BF"), row, strict=True)}
    fx = {
        "atm": "ATM", "wings": [{"delta": 0.25, "risk_reversal": "RR", "butterfly": "BF"}],
        "delta": "forward", "premium_adjusted": False, "atm_strike": "delta_neutral", "strangle": "smile",
    }  # fmt: skip
    grid = Grid(np.array([0.25, 0.5]), np.array([0.25, 0.5, 0.75]), "delta")
    found = read(tmp_path, table, {"date": "date", "tenor": "tenor"}, grid, fx=fx, vol_unit=unit, max_arbitrage=1.0)
    assert [str(one)[: len(said)] for one in found.assumed] == [said] * bool(said)


def dates(table: Table, number: int) -> Table:
    """The same quotes on several dates, with the spot for the forward of the last expiry of the last date."""
    one = joined(*({**table, "date": np.full(len(table["days"]), f"2024-01-{day:02}")} for day in range(2, 2 + number)))
    wrong = (one["days"] == 182) & (one["date"] == one["date"][-1])
    return one | {"forward": np.where(wrong, one["spot"], one["forward"])}


@pytest.mark.parametrize(
    ("table", "count"),
    [(dates(chain(rate=0.05), 4), "1 of 12"), (dates(few_pairs(), 1), "1 of 3"), (few_pairs(), None)],
)
def test_forwards_that_parity_contradicts_are_counted(tmp_path: Path, table: Table, count: str | None) -> None:
    """A tenth of the expiries may have such ones, and all of few pairs; they passed without a word."""
    columns = PRICES | {"forward": "forward", "rate": "rate"}
    found = read(tmp_path, table, columns, rate_unit="decimal", **EUROPEAN).assumed
    if count is None:
        assert not found
        return
    (one,) = found
    said = f"put-call parity of {count} expiries gives other forwards, up to 2.52 % off those of column forward, which"
    assert str(one) == f"{said} are taken; --columns forward= takes those of parity"
    assert one.as_settings.endswith("taken; prepare.quotes.columns.forward: null takes those of parity")


def test_a_rate_that_is_not_known_is_no_contradiction(tmp_path: Path) -> None:
    """Far from the money, a discount factor of 1 for 0.975 moves the forward of a pair by 0.7 %."""
    table = chain(rate=0.05)
    far = np.isclose(table["strike"], 75.0) | (table["type"] == "call") & (table["strike"] > 90.0)
    table = {name: values[far] for name, values in table.items()}
    lines = [str(one) for one in read(tmp_path, table, PRICES | {"forward": "forward"}, **EUROPEAN).assumed]
    assert [line.split(",")[0] for line in lines] == ["prices are discounted with rate 0"]


def test_vols_of_calls_and_puts_that_differ_are_said_or_refused(tmp_path: Path) -> None:
    """Parity makes them equal; prepare and complete took any."""
    table = chain()
    for factor, size in ((1.2, "18%"), (1.02, "")):
        vols = np.where(table["type"] == "call", factor, 1.0) * table["iv"]
        lines = [str(one) for one in read(tmp_path, table | {"iv": vols}, rate=0.0, dividend_yield=0.0).assumed]
        assert [f"differ by {size} in the median" in line for line in lines] == [True] * bool(size)
    with pytest.raises(InputError, match="calls and puts of one strike differ, so they are no vols"):
        read(tmp_path, table | {"iv": np.where(table["type"] == "call", 1.5, 1.0) * table["iv"]})
