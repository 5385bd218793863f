"""The data set of a file with several markets, and what prepare says of it and refuses."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.settings.prepare import QuotesPrepare
from pipeline.sources import quotes
from tests.chains import COLUMNS, DAYS, Table, chain, joined

GRID = {"convention": "log_moneyness", "tenors_days": [45, 120], "nodes": [-0.1, 0.0, 0.1]}
MARKET = COLUMNS | {"market": "ticker"}


def days(count: int) -> Table:
    """Two markets on some dates, and on the first date of each ten a second snapshot."""
    made = []
    for day in range(count):
        for ticker, spot in (("BBB", 240.0), ("AAA", 100.0)):
            made.append(chain(spot, 0.2, f"2024-01-{day + 1:02d}", ticker=ticker))
    return joined(*made)


def write(folder: Path, table: Table, columns: dict[str, str] | None = None, **values: Any) -> dict[str, float | str]:
    pq.write_table(pa.table(table), folder / "q.parquet")
    block = {"path": str(folder / "q.parquet"), "columns": columns or COLUMNS, **values}
    return quotes.write(QuotesPrepare.model_validate({"source": "quotes", "grid": GRID, "quotes": block}), folder)


def test_splits_are_chronological_over_all_markets(tmp_path: Path) -> None:
    """Ordered by time, then market; a date is in one split."""
    figures = write(tmp_path, days(10), MARKET, splits={"train": 0.5, "validation": 0.2, "test": 0.3})
    data = Dataset(tmp_path)
    assert data.markets == ("AAA", "BBB")
    assert [len(data.points(split)) for split in SPLITS] == [10, 4, 6]
    dates = np.concatenate([data.arrays(split)["date"] for split in SPLITS])
    np.testing.assert_array_equal(dates, np.repeat(19723 + np.arange(10), 2))
    assert data.arrays("test")["market"].tolist() == [0, 1] * 3
    assert "time" not in data.arrays("train")
    assert figures["markets"] == 2
    assert figures["dates"] == 10


def test_snapshots_have_their_time(tmp_path: Path) -> None:
    rows = joined(*(chain(date="2024-01-02", at=f"2024-01-02T{hour}:00") for hour in ("15", "09")))
    write(tmp_path, rows, COLUMNS | {"snapshot": "at"}, splits={"train": 1, "validation": 0, "test": 0})
    np.testing.assert_allclose(Dataset(tmp_path).arrays("train")["time"], [19724 + 9 / 24, 19724 + 15 / 24])
    assert not (tmp_path / "markets.json").exists()


def test_three_lines_say_what_was_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = chain(bad=np.arange(150) < 2)
    write(tmp_path, table, drop_where="bad")
    assert (
        "made of spots with rate 0, as no column is read for it; prepare.quotes.rate: ... changes it"
        in capsys.readouterr().err
    )
    figures = write(tmp_path, table, drop_where="bad", rate=0.0, dividend_yield=0.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3:-1] == [
        "prepare: used 74 of 150 quotes: 1 surfaces",
        "prepare: rejected 76: 74 in_the_money (49.3%), 2 flagged (1.3%)",
    ]
    low, median, high = (f"{figures[f'{name}_vol']:.2%}" for name in ("lowest", "median", "highest"))
    assert lines[-1] == (
        f"prepare: vols from {low} to {high}, median {median}; tenors from 30 days (0.082 years) to "
        "182 days (0.5 years); static arbitrage in 0.0% of surfaces"
    )
    assert figures["unusable_rate"] == 0.0
    assert json.loads((tmp_path / "report.json").read_text())["arbitrage_free_rate"] == 1.0


def test_a_file_of_which_most_is_unusable_is_refused(tmp_path: Path) -> None:
    table = chain()
    table["iv"][np.flatnonzero(table["days"] != DAYS[0])[::2]] = np.nan
    table["iv"][np.flatnonzero(table["days"] == DAYS[2])] = np.nan
    with pytest.raises(InputError, match=r"\d\d% of the rows are rejected: \d+ missing_value; .*max_rejected"):
        write(tmp_path, table, max_rejected=0.2)
    write(tmp_path, table, max_rejected=0.9)


def test_a_file_of_arbitrage_is_refused(tmp_path: Path) -> None:
    """A later expiry at half the vol."""
    table = chain()
    table["iv"][table["days"] > DAYS[0]] *= 0.3
    with pytest.raises(InputError, match=r"100% of the surfaces have static arbitrage .*max_arbitrage: 10%"):
        write(tmp_path, table)
    assert write(tmp_path, table, max_arbitrage=1.0)["large_arbitrage_rate"] == 1.0


def test_points_that_no_date_quotes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = chain()
    near = np.abs(np.log(table["strike"] / 100.0)) < 0.08
    write(tmp_path, {name: values[near] for name, values in table.items()})
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"4 of 6 points of prepare\.grid are known on no date, the first at 45 days, node -0\.1", last)


def test_a_tenor_of_the_grid_before_the_first_quoted_one_is_named_with_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A month is 30.42 days, so that a grid of 30 days lies before it."""
    table = chain()
    labels = np.array(["1M", "3M", "6M"])[np.searchsorted(DAYS, table["days"])]
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({**table, "tenor": labels}), path)
    columns = {name: column for name, column in COLUMNS.items() if name != "days"} | {"tenor": "tenor"}
    grid = {**GRID, "tenors_days": [30, 120]}
    block = {"source": "quotes", "grid": grid, "quotes": {"path": str(path), "columns": columns}}
    quotes.write(QuotesPrepare.model_validate(block), tmp_path)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the first at 30 days" in last
    assert "the shortest quoted tenor is 30.41667 days, and nothing is extrapolated: write this in" in last


@pytest.mark.parametrize("rolling", [False, True])
def test_smiles_that_repeat_those_before_are_counted_and_may_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, rolling: bool
) -> None:
    """Constant maturities, and expiries that come nearer day by day; of the second date one smile has moved."""
    first, second = chain(date="2024-01-02"), chain(date="2024-01-03")
    second["iv"] = second["iv"] + np.where(second["days"] == DAYS[0], 0.001, 0.0)
    if rolling:
        second["days"] = second["days"] - 1
    table = joined(first, second, chain(0.9, date="2024-01-04"))
    assert write(tmp_path, table)["repeated_smiles"] == 2
    assert "2 of 9 smiles repeat all quotes of the time before; prepare.quotes.drop_repeated" in capsys.readouterr().err
    figures = write(tmp_path, table, drop_repeated=True)
    assert figures["repeated_smiles"] == 0
    assert figures["rejected_repeated"] == 100
    assert figures["unusable_rate"] == 0.0
