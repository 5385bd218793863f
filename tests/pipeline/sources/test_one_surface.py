import datetime as dt
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import one_surface, prepared_surface
from pipeline.sources.one_surface import Choice
from vae.surface.grid import Grid

DAY = dt.date(2024, 1, 2)
VOLS = {"days": "days", "log_moneyness": "k", "iv": "iv"}


def write(folder: Path, header: str, *rows: tuple) -> Path:
    path = folder / "q.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def settings(path: Path, columns: dict[str, str], **values: object) -> QuotesParams:
    when = {} if {"date", "snapshot"} & columns.keys() else {"date": DAY}
    return QuotesParams.model_validate({"path": str(path), "columns": columns, **when, **values})


def test_bad_rows_are_left_out_and_named(tmp_path: Path) -> None:
    good = [(91, round(k, 2), 0.2 + k**2) for k in np.linspace(-0.2, 0.2, 16)]
    bad = [(91, 0.3, 3e-4), (91, 0.31, ""), (0, 0.0, 0.2), (91, 0.33, -0.1)]
    found = one_surface.read(settings(write(tmp_path, "days,k,iv", *good[:3], *bad, *good[3:]), VOLS), Choice())
    assert (len(found.iv), found.rows) == (16, 20)
    assert sorted(found.row.tolist()) == [1, 2, 3, *range(8, 21)]
    assert [(one.row, one.reason) for one in found.rejected] == [
        (4, "vol_below_min"), (5, "missing_value"), (6, "expired"), (7, "vol_not_positive"),
    ]  # fmt: skip
    assert one_surface.counted(found.rejected[:2]) == "1 vol_below_min (row 4: 0.0003), 1 missing_value (row 5)"
    np.testing.assert_allclose(np.sort(found.iv), np.sort([vol for *_, vol in good]))


def test_a_file_of_several_surfaces_asks_which(tmp_path: Path) -> None:
    rows = [
        (f"2024-01-0{day}", f"2024-01-0{day} {hour}:00:00", name, 91, 0.0, 0.1 * day + 0.01 * hour + 0.001 * len(name))
        for day in (2, 3) for hour in (10, 16) for name in ("AUD", "EURO")
    ]  # fmt: skip
    path = write(tmp_path, "date,at,pair,days,k,iv", *rows)
    params = settings(path, {**VOLS, "snapshot": "at", "market": "pair"})
    for choice, message in (
        (Choice(), "has 2 markets; choose one by --market: AUD, EURO"),
        (Choice(market="AUD"), "has 2 dates; choose one by --date: 2024-01-02, 2024-01-03"),
        (Choice(DAY, market="AUD"), "has 2 snapshots; choose one by --snapshot: 2024-01-02T10:00:00, 2024-01-02T16:0"),
        (Choice(market="USD"), "has no market USD; it has AUD, EURO"),
        (Choice(dt.date(2024, 1, 5), market="AUD"), "has no date 2024-01-05; it has 2024-01-02, 2024-01-03"),
    ):
        with pytest.raises(InputError, match=message):
            one_surface.read(params, choice)
    found = one_surface.read(params, Choice(DAY, dt.datetime(2024, 1, 2, 16), "EURO"))
    assert found.title == "2024-01-02T16:00:00 EURO"
    np.testing.assert_allclose(found.iv, [0.364])


def test_half_the_spread_is_the_noise_of_vols(tmp_path: Path) -> None:
    path = write(tmp_path, "days,k,b,a", (91, 0.0, 19, 21), (91, 0.1, 20, 20))
    columns = {"days": "days", "log_moneyness": "k", "bid_iv": "b", "ask_iv": "a"}
    found = one_surface.read(settings(path, columns, vol_unit="percent"), Choice())
    np.testing.assert_allclose(found.noise, [0.01, 0.0])
    np.testing.assert_allclose(found.iv, [0.2, 0.2])
    assert found.weight is None


def black(strike: float, total_vol: float, *, call: bool) -> float:
    """Price of an option on a forward of 100, discounted by 0.98."""
    normal, d1 = NormalDist(), np.log(100.0 / strike) / total_vol + 0.5 * total_vol
    price = 100.0 * normal.cdf(d1) - strike * normal.cdf(d1 - total_vol)
    return 0.98 * (price if call else price - 100.0 + strike)


def test_half_the_spread_of_prices_is_the_noise_in_vol(tmp_path: Path) -> None:
    """Bid and ask are the prices of two vols that differ by little: half of that is the noise."""
    rate, noise = -np.log(0.98) / 0.5, 1e-4
    rows = []
    for strike in (80, 95, 100, 110, 130):
        vol = 0.2 + 0.1 * np.log(strike / 100) ** 2
        ends = [black(strike, (vol + sign * noise) * np.sqrt(0.5), call=strike >= 100) for sign in (-1, 1)]
        rows.append((0.5, strike, 100, rate, *ends, "c" if strike >= 100 else "p"))
    path = write(tmp_path, "t,K,F,r,b,a,type", *rows)
    columns = {"tenor_years": "t", "strike": "K", "forward": "F", "rate": "r", "bid": "b", "ask": "a", "type": "type"}
    found = one_surface.read(settings(path, columns), Choice())
    np.testing.assert_allclose(found.noise, noise, rtol=1e-3)


def test_bids_beside_quoted_vols_are_no_spread_of_these(tmp_path: Path) -> None:
    path = write(tmp_path, "days,K,F,iv,b,a", (91, 100, 100, 0.2, 3.9, 4.1))
    columns = {"days": "days", "strike": "K", "forward": "F", "iv": "iv", "bid": "b", "ask": "a"}
    assert np.isnan(one_surface.read(settings(path, columns), Choice()).noise).all()


def test_a_prepared_surface_is_its_known_points(tmp_path: Path) -> None:
    data, grid = Dataset(tmp_path), Grid([0.25, 1.0], [0.25, 0.5, 0.75], "delta")
    iv = np.linspace(0.1, 0.3, 24, dtype=np.float32).reshape(4, 2, 3)
    iv[2, 0, 1] = np.nan
    day = (DAY - dt.date(1970, 1, 1)).days
    for split, own in zip(SPLITS, ([0, 1], [2], [3]), strict=True):
        dates = np.array([day + i // 2 for i in own], np.int32)
        data.write_surfaces(split, iv[own], dates, {}, market=np.array([i % 2 for i in own]))
    data.write_grid(grid)
    data.write_markets(["AUD", "EUR"])
    found = prepared_surface.read(tmp_path, Choice(DAY + dt.timedelta(days=1), market="AUD"))
    assert found.title == "2024-01-03 AUD"
    known = ~np.isnan(iv[2])
    np.testing.assert_allclose(found.iv, iv[2][known], rtol=1e-7)
    np.testing.assert_allclose(found.k, grid.log_moneyness_of(iv[2].astype(float))[known], rtol=1e-7)
    with pytest.raises(InputError, match="has 2 markets; choose one by --market: AUD, EUR"):
        prepared_surface.read(tmp_path, Choice())
