"""A file of several markets or times is read by the columns that tell them apart, and refused without them."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from tests.chains import COLUMNS, DAYS, PRICES, chain, errors_bp, joined, read, reasons
from vae.surface.grid import Grid

TICKERS = joined(chain(100.0, 0.2, ticker="AAA"), chain(240.0, 0.4, ticker="BBB"))
ROOTS = joined(chain(100.0, 0.2, root="SPX", exchange="X"), chain(100.0, 0.22, root="SPXW", exchange="X"))
TIMES = joined(*(chain(spot, 0.2, at=f"2024-01-02 {hour}:00") for spot, hour in ((100.0, "10"), (103.0, "15"))))
BY_K = {"date": "date", "days": "days", "log_moneyness": "k", "iv": "iv", "type": "type"}


def test_markets_are_surfaces_of_their_own(tmp_path: Path) -> None:
    surfaces = read(tmp_path, TICKERS, COLUMNS | {"market": "ticker"})
    assert surfaces.markets == ("AAA", "BBB")
    assert surfaces.market.tolist() == [0, 1]
    assert errors_bp(surfaces)[0] < 1.0
    assert errors_bp(surfaces, 0.4)[1] < 1.0
    assert reasons(surfaces) == {"in_the_money": len(TICKERS["iv"]) // 2}


def test_markets_are_chosen(tmp_path: Path) -> None:
    surfaces = read(tmp_path, TICKERS, COLUMNS | {"market": "ticker"}, markets=["BBB"])
    assert surfaces.markets == ("BBB",)
    assert errors_bp(surfaces, 0.4)[0] < 1.0
    assert surfaces.rejected["other_market"] == len(TICKERS["iv"]) // 2
    with pytest.raises(InputError, match=r"CCC not in column ticker of .*, which has AAA, BBB"):
        read(tmp_path, TICKERS, COLUMNS | {"market": "ticker"}, markets=["CCC"])


def test_snapshots_are_surfaces_in_the_order_of_time(tmp_path: Path) -> None:
    surfaces = read(tmp_path, TIMES, COLUMNS | {"snapshot": "at"})
    assert (24 * (surfaces.time - surfaces.dates)).round(6).tolist() == [10.0, 15.0]
    assert errors_bp(surfaces).max() < 1.0
    without_date = {key: name for key, name in COLUMNS.items() if key != "date"} | {"snapshot": "at"}
    np.testing.assert_array_equal(read(tmp_path, TIMES, without_date).iv, surfaces.iv)


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (TICKERS, COLUMNS, r"column spot holds 100 and 240 on 2024-01-02, .*columns\.market: ticker \(AAA, BBB\)$"),
        (TICKERS, COLUMNS | {"forward": "forward"}, r"column spot holds 100 and 240.*columns\.market: ticker"),
        (TICKERS, PRICES | {"forward": "forward"}, r"column forward holds 100 and 240 .*columns\.market: ticker"),
        (TICKERS, PRICES, r"pairs of call and put give the forwards 100 and 240 .*columns\.market: ticker"),
        (ROOTS, COLUMNS, r"300 of 300 quotes are .* quoted again .*: .*columns\.market: root \(SPX, SPXW\) \("),
        (ROOTS, PRICES, r"quoted again .*columns\.market: root"),
        (TIMES, COLUMNS, r"column spot holds 100 and 103 .*columns\.snapshot: at .*, for a surface at each time, or"),
        (TIMES, COLUMNS | {"date": "at"}, r"column spot holds 100 and 103 .*columns\.snapshot: at \("),
        (TIMES | {"at": np.arange(300)}, COLUMNS, r"no column of the file tells them apart"),
        (
            joined(chain(), chain(level=0.21)) | {"type": np.repeat(["CE", "PE"], 150)},
            {"date": "date", "days": "days", "strike": "strike", "spot": "spot", "iv": "iv"},
            r"columns\.type: type \(CE, PE\)",
        ),
    ],
)
def test_rows_that_cannot_be_one_market_are_refused_with_the_column(
    tmp_path: Path, table: dict[str, object], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, table, columns)


def test_two_markets_without_spot_or_price_show_in_their_smiles(tmp_path: Path) -> None:
    """By log-moneyness at other strikes, or by parity from near spots."""
    one, two = chain(100.0, 0.2, ticker="AAA"), chain(103.0, 0.3, ticker="BBB")
    rows = joined(one, two)
    rows["k"] = np.log(np.concatenate((one["strike"], two["strike"])) / 101.0)
    message = r"smiles vols jump up and down from strike to strike.*columns\.market: ticker"
    for columns in (BY_K, PRICES):
        with pytest.raises(InputError, match=message):
            read(tmp_path, rows, columns)
        assert errors_bp(read(tmp_path, rows, PRICES | {"market": "ticker"}))[0] < 2.0


def test_one_market_passes_though_its_spot_moves_and_is_rounded(tmp_path: Path) -> None:
    table = chain()
    rows = len(table["iv"])
    rounded = table | {"spot": np.where(np.arange(rows) % 2, 100.0, 100.1)}
    assert errors_bp(read(tmp_path, rounded)).max() < 5.0

    hours = np.arange(rows) / rows * 6.0
    at = np.array(["2024-01-02T10:00:00"] * rows, "datetime64[s]") + (3600 * hours).astype("timedelta64[s]")
    moving = table | {"spot": 100.0 + hours, "strike": table["strike"] * (1.0 + hours / 100.0), "at": at}
    assert errors_bp(read(tmp_path, moving, COLUMNS | {"quoted_at": "at"})).max() < 5.0


def test_a_single_wrong_spot_is_rejected(tmp_path: Path) -> None:
    table = chain()
    table["spot"][10] = 1.0
    assert read(tmp_path, table).rejected["spot_differs"] == 1


def test_american_parity_is_no_second_market(tmp_path: Path) -> None:
    """Early exercise moves C - P in the money by a few percent of the forward."""
    table = chain(rate=0.05)
    tenor = table["days"] / 365
    exercised = np.where(table["type"] == "put", table["strike"], -np.inf) * -np.expm1(-0.05 * tenor)
    table["price"] += np.maximum(exercised, 0.0) * (table["strike"] > 110.0)
    assert errors_bp(read(tmp_path, table, PRICES, exercise="european")).max() < 100.0


def test_markets_that_cannot_share_the_grid_are_refused_with_settings_that_do(tmp_path: Path) -> None:
    table = joined(chain(ticker="AAA"), chain(ticker="BBB"))
    near = (table["ticker"] == "AAA") | (table["days"] == DAYS[0])
    with pytest.raises(
        InputError,
        match=r"BBB fill 0 % of it, those of AAA 100 %.*markets: \[AAA\], or train a model of each",
    ):
        read(tmp_path, {name: values[near] for name, values in table.items()}, COLUMNS | {"market": "ticker"})

    wide = np.abs(table["strike"] / 100.0 - 1.0) < 0.16
    far = Grid(np.array([45.0, 120.0]) / 365, np.array([-0.3, -0.25, 0.2, 0.24]), "log_moneyness")
    rows = {name: values[wide | (table["ticker"] == "AAA")] for name, values in table.items()}
    with pytest.raises(InputError, match=r"or set prepare\.grid to tenors of 30 to 182 days and nodes of -0\.\d+ to"):
        read(tmp_path, rows, COLUMNS | {"market": "ticker"}, far)


def test_spots_that_are_forwards_are_called_so(tmp_path: Path) -> None:
    """Exchanges of crypto-currencies and futures call the future of each expiry the price of the underlying."""
    rows = chain(rate=0.1)
    rows |= {"spot": rows["forward"], "root": rows["days"]}
    with pytest.raises(InputError, match="column spot holds another number for each expiry, as forwards do; name it"):
        read(tmp_path, rows, COLUMNS)
    columns = {name: column for name, column in COLUMNS.items() if name != "spot"} | {"forward": "spot"}
    assert errors_bp(read(tmp_path, rows, columns)) < 1.0


@pytest.mark.parametrize(
    ("name", "values", "setting"),
    [
        ("ticker", ("AAA", "BBB"), r"columns\.market: ticker \(AAA, BBB\)"),
        ("at", ("2024-01-02 10:00", "2024-01-02 15:00"), r"columns\.snapshot: at"),
        ("line", (1, 2), r"columns\.market: line"),
    ],
)
def test_markets_of_one_expiry_each_are_not_called_forwards(
    tmp_path: Path, name: str, values: tuple[object, object], setting: str
) -> None:
    one, two = chain(100.0, **{name: values[0]}), chain(150.0, **{name: values[1]})
    first, second = one["days"] == DAYS[0], two["days"] == DAYS[1]
    rows = {key: np.concatenate((one[key][first], two[key][second])) for key in one}
    message = rf"spot holds 100 and 150 .*{setting}.*; or, where they are forwards, name the column .*\.forward$"
    with pytest.raises(InputError, match=message):
        read(tmp_path, rows, COLUMNS)
