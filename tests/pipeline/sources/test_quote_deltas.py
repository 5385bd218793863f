"""Deltas of calls and puts, signed or not, in percent, of spot or forward: one strike is one place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.errors import InputError
from pipeline.sources.quoted_surfaces import QuotedSurfaces
from tests.chains import Table, read
from vae.surface.grid import Grid

NODES = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
GRID = Grid(np.array([30.0, 365.0]) / 365, NODES, "delta")
CALLS = {"date": "date", "days": "days", "call_delta": "delta", "iv": "iv"}
SIGNED = {"date": "date", "days": "days", "delta": "delta", "iv": "iv"}
TYPED = SIGNED | {"type": "type"}


def table() -> Table:
    """Puts below the money and calls above, with their signed forward deltas and a vol for each."""
    days, call_delta = (x.ravel() for x in np.meshgrid([30, 365], NODES, indexing="ij"))
    put = call_delta > 0.5
    return {
        "date": np.full(10, "2024-01-02"),
        "days": days,
        "delta": np.where(put, call_delta - 1.0, call_delta),
        "call_delta": call_delta,
        "type": np.where(put, "put", "call"),
        "iv": 0.1 + 0.02 * np.arange(10),
    }


def of(folder: Path, rows: Table, columns: dict[str, str], **settings: Any) -> QuotedSurfaces:
    return read(folder, rows, columns, GRID, min_points=2, **settings)


EXPECTED = (0.1 + 0.02 * np.arange(10)).reshape(1, 2, 5)


@pytest.mark.parametrize("columns", [SIGNED, TYPED])
@pytest.mark.parametrize(("factor", "settings"), [(1.0, {}), (100.0, {"delta_unit": "percent"})])
def test_signed_deltas_are_places_of_call_deltas(
    tmp_path: Path, columns: dict[str, str], factor: float, settings: dict[str, Any]
) -> None:
    rows = table()
    found = of(tmp_path, rows | {"delta": factor * rows["delta"]}, columns, **settings)
    np.testing.assert_allclose(found.iv, EXPECTED, rtol=1e-12)
    found = of(tmp_path, rows | {"delta": factor * rows["call_delta"]}, CALLS, **settings)
    np.testing.assert_allclose(found.iv, EXPECTED, rtol=1e-12)


def test_deltas_without_signs_take_those_of_their_types(tmp_path: Path) -> None:
    rows = table() | {"delta": np.abs(table()["delta"])}
    found = of(tmp_path, rows, TYPED, delta_sign="absolute")
    np.testing.assert_allclose(found.iv, EXPECTED, rtol=1e-12)
    with pytest.raises(InputError, match=r"0\.25 for a put in row 4.*delta_sign: absolute.*columns\.call_delta"):
        of(tmp_path, rows, TYPED)


def test_spot_deltas_are_forward_deltas_discounted(tmp_path: Path) -> None:
    """The foreign rate as a setting and as a column; a spot delta that no forward one reaches is rejected."""
    rows, rate = table(), 0.04
    rows["delta"] = rows["delta"] * np.exp(-rate * rows["days"] / 365)
    rows["foreign"] = np.full(10, rate)
    for columns, settings in ((TYPED, {"dividend_yield": rate}), (TYPED | {"dividend_yield": "foreign"}, {})):
        found = of(tmp_path, rows, columns, delta_kind="spot", **settings)
        np.testing.assert_allclose(found.iv, EXPECTED, rtol=1e-7)
    rows["delta"] = np.where(np.arange(10) == 5, 0.98, rows["delta"])
    assert of(tmp_path, rows, TYPED, delta_kind="spot", dividend_yield=rate).rejected["delta_not_inside_0_1"] == 1


def test_a_put_and_the_call_at_its_strike_are_one_place(tmp_path: Path) -> None:
    """Put-call parity gives both one vol; quoted twice, the one out of the money stays."""
    rows = table()
    twin = {name: values[:1] for name, values in rows.items()} | {"delta": np.array([-0.9]), "type": np.array(["put"])}
    both = {name: np.concatenate((rows[name], twin[name])) for name in rows}
    found = of(tmp_path, both, TYPED)
    assert found.rejected["in_the_money"] == 1
    np.testing.assert_allclose(found.iv, EXPECTED, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "columns", "settings", "message"),
    [
        (1.0, CALLS, {}, r"-0\.25 in row 4, the delta of a put.*columns\.delta instead of call_delta"),
        (100.0, SIGNED, {}, r"deltas up to 50.*delta_unit: percent"),
        (1.0, SIGNED, {"delta_unit": "percent"}, r"deltas up to 0\.5.*delta_unit: decimal"),
    ],
)
def test_deltas_of_another_kind_are_refused_with_the_setting(
    tmp_path: Path, change: float, columns: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    rows = table()
    with pytest.raises(InputError, match=message):
        of(tmp_path, rows | {"delta": change * rows["delta"]}, columns, **settings)


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (TYPED, {"delta_kind": "spot"}, "needs dividend_yield"),
        (SIGNED, {"delta_sign": "absolute"}, r"needs columns\.delta and columns\.type"),
        ({"date": "date", "days": "days", "log_moneyness": "k", "iv": "iv"}, {"delta_unit": "percent"}, "delta_unit"),
    ],
)
def test_settings_of_deltas_need_deltas(
    tmp_path: Path, columns: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        of(tmp_path, table(), columns, **settings)


def test_places_are_those_of_the_forward(tmp_path: Path) -> None:
    """On a grid in k, a signed delta has the strike of its call delta: N(d1) by scipy."""
    rows = table()
    total = rows["iv"] * np.sqrt(rows["days"] / 365)
    k = total * (0.5 * total - norm.ppf(rows["call_delta"]))
    grid = Grid(np.array([30.0, 365.0]) / 365, np.sort(k[:5])[1:4], "log_moneyness")
    found = read(tmp_path, rows, TYPED, grid, min_points=2)
    np.testing.assert_allclose(found.iv[0, 0], rows["iv"][:5][np.argsort(k[:5])][1:4], rtol=1e-9)
