"""Placeholders, dead quotes and rows that a user drops are rejected and counted, each for its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from tests.chains import COLUMNS, DAYS, PRICES, Table, chain, errors_bp, read, reasons, smile
from vae.surface.grid import Grid

RUNGS = [1e-5, 0.00391, 0.007822, 0.0156348, 0.0312598, 0.0625097, 0.1250088, 0.2500075]


def with_dead(value: Any, share: int = 3) -> tuple[Table, int]:
    """A chain whose every third row has another vol, and how many."""
    table = chain(bid=1.0, ask=1.1, volume=5.0, note="ok")
    dead = np.flatnonzero((np.arange(len(table["iv"])) // 2 + np.arange(len(table["iv"])) % 2) % share == 0)
    table["iv"][dead] = np.resize(value, len(dead))
    table["bid"][dead], table["volume"][dead] = 0.0, 0.0
    table["note"] = np.where(np.isin(np.arange(len(table["iv"])), dead), "stub", "ok")
    return table, len(dead)


@pytest.mark.parametrize("value", [RUNGS, [0.3333], [0.0099]])
def test_placeholders_are_no_vols(tmp_path: Path, value: list[float]) -> None:
    table, count = with_dead(value)
    surfaces = read(tmp_path, table)
    assert surfaces.rejected["placeholder"] == count
    assert errors_bp(surfaces).max() < 2.0


def test_tiny_vols_are_below_the_minimum(tmp_path: Path) -> None:
    table, count = with_dead([2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4])
    kept = {"drop_placeholders": False}
    assert read(tmp_path, table, **kept).rejected["vol_below_min"] == count


@pytest.mark.parametrize(
    ("columns", "settings", "reason"),
    [
        ({"bid": "bid", "ask": "ask"}, {}, "missing_bid"),
        ({"volume": "volume"}, {"min_volume": 1.0}, "low_volume"),
        ({}, {"drop_where": "bid == 0"}, "flagged"),
        ({}, {"drop_where": ["volume < 5", "strike >= 1000"]}, "flagged"),
        ({}, {"drop_where": "note != ok"}, "flagged"),
        ({}, {"drop_where": "note == stub"}, "flagged"),
    ],
)
def test_dead_quotes_are_left_out_by_what_stands_beside_them(
    tmp_path: Path, columns: dict[str, str], settings: dict[str, Any], reason: str
) -> None:
    table, count = with_dead([0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37])
    surfaces = read(tmp_path, table, COLUMNS | columns, **settings)
    assert surfaces.rejected[reason] == count
    assert errors_bp(surfaces).max() < 2.0


def test_a_flat_expiry_among_smiles_is_a_placeholder(tmp_path: Path) -> None:
    table = chain()
    own = table["days"] == DAYS[1]
    table["iv"][own] = 0.3
    assert read(tmp_path, table).rejected["placeholder"] == own.sum()


@pytest.mark.parametrize("digits", [2, 3, 17])
def test_flat_smiles_and_rounded_vols_are_no_placeholders(tmp_path: Path, digits: int) -> None:
    table = chain()
    rounded = read(tmp_path, table | {"iv": table["iv"].round(digits)})
    assert reasons(rounded) == {"in_the_money": 75}
    flat = read(tmp_path, table | {"iv": np.full(len(table["iv"]), 0.25)})
    assert reasons(flat) == {"in_the_money": 75}


def test_a_spike_is_an_outlier(tmp_path: Path) -> None:
    """Of a call and a put out of the money, beside neighbours that agree."""
    table = chain()
    near = np.flatnonzero(np.isin(table["strike"].round(6), (97.5, 102.5)) & (table["days"] == DAYS[1]))
    table["iv"][near] = np.where(table["strike"][near] < 100.0, 0.03, 0.9)
    surfaces = read(tmp_path, table)
    assert surfaces.rejected["outlier"] == 2
    assert errors_bp(surfaces).max() < 5.0


MISTYPED = [(97.5, 975.0), (97.5, 9.75), (97.5, 997.5), (90.0, 900.0), (90.0, 9.0), (110.0, 1110.0), (110.0, 11.0)]
FAR = Grid(np.array([91, 92]) / 365, np.array([-2.0, -0.1, 0.0, 0.1, 2.0]), "log_moneyness")


@pytest.mark.parametrize(("meant", "strike"), MISTYPED)
@pytest.mark.parametrize("columns", [COLUMNS, PRICES])
@pytest.mark.parametrize("expiries", [DAYS, DAYS[1:2]])
def test_a_strike_with_a_digit_too_many_or_too_few_is_rejected(
    tmp_path: Path, meant: float, strike: float, columns: dict[str, str], expiries: tuple[int, ...]
) -> None:
    """In a file of one expiry too, by the place of its row; the smile is not read up to it."""
    table = {name: values[np.isin(chain()["days"], expiries)] for name, values in chain().items()}
    out_of_the_money = "put" if meant < 100.0 else "call"
    (row,) = np.flatnonzero((table["strike"].round(6) == meant) & (table["type"] == out_of_the_money))[-1:]
    table["strike"][row] = strike
    surfaces = read(tmp_path, table, columns, FAR)
    assert reasons(surfaces).items() & {("outlier", 1), ("price_outside_bounds", 1), ("vol_above_max", 1)}
    assert len(reasons(surfaces)) == 2  # and those in the money
    assert (int(row) + 1) in [row for row, reason in surfaces.rejected_rows if reason != "in_the_money"]
    assert np.isnan(surfaces.iv[..., [0, -1]]).all()
    np.testing.assert_allclose(surfaces.iv[0, 0, 1:-1], smile(FAR.log_moneyness[0, 1:-1]), atol=5e-4)


@pytest.mark.parametrize("scale", [1e-5, 1e8])
def test_mistyped_strikes_are_found_in_markets_of_any_level(tmp_path: Path, scale: float) -> None:
    table = chain(100.0 * scale)
    (row,) = np.flatnonzero((table["strike"] / scale).round(6) == 90.0)[-2:-1]
    table["strike"][row] *= 10.0
    assert read(tmp_path, table).rejected["outlier"] == 1


@pytest.mark.parametrize("columns", [COLUMNS, PRICES])
def test_a_far_strike_of_the_smile_is_kept(tmp_path: Path, columns: dict[str, str]) -> None:
    """Alone at five times the forward, and at a fifth of it, at one expiry of three."""
    table = chain(level=0.6)
    ends = np.flatnonzero(table["days"] == DAYS[2])[[0, 1, -2, -1]]
    plain = read(tmp_path, table, columns).rejected
    table["strike"][ends] = (20.0, 20.0, 500.0, 500.0)
    assert read(tmp_path, table, COLUMNS).rejected == plain


@pytest.mark.parametrize(("far", "near"), [((0.01, 0.02), (0.01, 0.02)), ((0.01, 0.03), (0.005, 0.01))])
def test_far_puts_at_the_least_price_are_kept(
    tmp_path: Path, far: tuple[float, float], near: tuple[float, float]
) -> None:
    """Of the strike an equal price is more at 5 than at 12.5; and mids of wide quotes are no worth."""
    table = chain(30.0, level=0.3)
    table |= {"bid": table["price"].copy(), "ask": table["price"].copy()}
    for days in DAYS:
        puts = np.flatnonzero((table["days"] == days) & (table["type"] == "put"))[:2]
        for put, strike, quote in zip(puts, (5.0, 12.5), (far, near), strict=True):
            table["strike"][[put, put - 1]] = strike
            table["bid"][put], table["ask"][put] = quote
            table["bid"][put - 1] = table["ask"][put - 1] = 30.0 - strike
    columns = {name: column for name, column in PRICES.items() if name != "price"} | {"bid": "bid", "ask": "ask"}
    assert not reasons(read(tmp_path, table, columns)).get("outlier")


@pytest.mark.parametrize(("meant", "strike"), [(125.0, 25.0), (100.0, 1000.0)])
def test_far_strikes_of_a_flat_smile_are_kept(tmp_path: Path, meant: float, strike: float) -> None:
    """Each strike has the vol of each other there, that of another expiry with a digit more too."""
    table = chain()
    table["iv"][:] = 0.3
    table["strike"][(table["strike"].round(6) == meant) & (table["days"] == DAYS[0])] = strike
    assert not reasons(read(tmp_path, table)).get("outlier")


def test_most_of_a_smile_may_be_placeholders(tmp_path: Path) -> None:
    table = chain()
    table["iv"][np.arange(150) % 6 < 4] = 0.0123
    assert read(tmp_path, table, max_rejected=1.0).rejected["placeholder"] == 100


def test_texts_are_not_ordered(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"drop_where: note < ok: texts are compared by == and != only"):
        read(tmp_path, chain(note="ok"), drop_where="note < ok")
