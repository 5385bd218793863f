"""Files of positions: what they hold, and what each fault says."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.sources.book import read_book
from vae.risk.book import CALL, PUT, UNDERLYING

TODAY = dt.date(2026, 11, 26)


def written(folder: Path, text: str) -> Path:
    path = folder / "book.csv"
    path.write_text(text)
    return path


def test_rows_are_positions(tmp_path: Path) -> None:
    text = "type;strike;expiry;quantity\nCall;4000,5;2027-11-26;10\nPE;3800;26-Nov-2028;-5\nstock;;;120\n"
    book = read_book(written(tmp_path, text), today=TODAY)
    assert book.kind.tolist() == [CALL, PUT, UNDERLYING]
    assert book.strike.tolist() == [4000.5, 3800.0, 0.0]
    assert book.quantity.tolist() == [10.0, -5.0, 120.0]
    np.testing.assert_allclose(book.tenor, [1.0, 731 / 365, 0.0])


@pytest.mark.parametrize(("name", "value"), [("days", "73"), ("tenor_years", "0.2")])
def test_tenors_need_no_date(tmp_path: Path, name: str, value: str) -> None:
    book = read_book(written(tmp_path, f"type,strike,{name},quantity\nput,90,{value},1\n"))
    assert book.tenor.tolist() == [0.2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("call,100,2026-11-26,1", "the option has expired; leave it out: row 1"),
        ("put,-5,2027-11-26,1", "strike must be a number above 0: row 1"),
        ("stock,,,1\nput,,2027-11-26,1", "strike must be a number above 0: row 2"),
        ("call,100,,1", "expiry is empty: row 1"),
        ("call,100,2027-11-26,", "quantity is empty or not finite: row 1"),
        (",100,2027-11-26,1", "type is empty; allowed: call, put, underlying: row 1"),
        ("straddle,100,2027-11-26,1", "straddle"),
    ],
)
def test_a_row_that_is_no_position_is_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_book(written(tmp_path, f"type,strike,expiry,quantity\n{rows}\n"), today=TODAY)


def test_all_faults_are_told_together(tmp_path: Path) -> None:
    rows = "call,0,10,1\n" * 7 + "call,100,-3,1\n"
    with pytest.raises(InputError) as error:
        read_book(written(tmp_path, "type,strike,days,quantity\n" + rows))
    assert "rows 1, 2, 3, 4, 5 and 2 more" in str(error.value)
    assert "has expired; leave it out: row 8" in str(error.value)


def test_dates_need_a_day_to_count_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--date says"):
        read_book(written(tmp_path, "type,strike,expiry,quantity\ncall,1,2027-01-01,1\n"))


@pytest.mark.parametrize("header", ["type,strike,quantity", "type,strike,days,tenor_years,quantity"])
def test_the_expiry_stands_in_one_column(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="one of the columns expiry, days, tenor_years"):
        read_book(written(tmp_path, f"{header}\n" + ",".join("1" for _ in header.split(",")) + "\n"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("Contract Size", "100 100", r"column Contract Size \(100\) is not read; multiply quantity by it, and leave"),
        ("side", "buy sell", r"column side \(buy, sell\) is not read; write what is sold as a negative quantity"),
        ("symbol", "SPX NDX", "column symbol has NDX, SPX; a book is of one underlying"),
        ("root", "SPX SPXW NDXP", "column root has NDXP, SPX, SPXW; a book is of one underlying"),
        ("underlying", "SPX NDX", "column underlying has NDX, SPX; a book is of one underlying: make one of each"),
        ("exercise", "E American", "column exercise has American, E; only European options are valued"),
    ],
)
def test_a_column_that_changes_positions_is_not_passed_over(
    tmp_path: Path, name: str, values: str, message: str
) -> None:
    rows = "\n".join(f"call,100,30,1,{value}" for value in values.split())
    with pytest.raises(InputError, match=message):
        read_book(written(tmp_path, f"type,strike,days,quantity,{name}\n{rows}\n"))


def test_columns_that_change_nothing_are_passed_over(tmp_path: Path) -> None:
    text = "type,strike,days,quantity,multiplier,underlying,style,note\ncall,100,30,2,1,SPX,E,hedge\n"
    assert read_book(written(tmp_path, text)).quantity.tolist() == [2.0]


@pytest.mark.parametrize(
    ("name", "values", "sign"),
    [
        ("multiplier", "1.00 1", 1),
        ("root", "SPX SPXW", 1),
        ("symbol", "SPX261218C04000000 SPX SPX261218P03800000", 1),
        ("side", "long Long", 1),
        ("side", "short sell", -1),
    ],
)
def test_columns_that_agree_with_the_positions_are_passed_over(
    tmp_path: Path, name: str, values: str, sign: int
) -> None:
    rows = "\n".join(f"call,100,30,{sign},{value}" for value in values.split())
    book = read_book(written(tmp_path, f"type,strike,days,quantity,{name}\n{rows}\n"))
    assert set(book.quantity) == {sign}


def test_only_columns_with_known_names_are_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "book.parquet"
    table = {"type": ["call"], "strike": [100.0], "days": [30], "quantity": [2.0], "multiplier": [Decimal("1.00")]}
    pq.write_table(pa.table(table | {"legs": [[1, 2]], "key": [b"\xff"], "more": [{"a": 1}]}), path)
    assert read_book(path).quantity.tolist() == [2.0]
    for values in ([[1, 2]], [b"\xff"]):
        pq.write_table(pa.table(table | {"underlying": values}), path)
        with pytest.raises(InputError, match="column underlying"):
            read_book(path)


def test_dates_of_a_book_name_no_setting_of_quotes(tmp_path: Path) -> None:
    for date in ("11/12/2027", "soon"):
        with pytest.raises(InputError, match="write dates as 2026-03-02") as caught:
            read_book(written(tmp_path, f"type,strike,expiry,quantity\ncall,100,{date},1\n"), today=TODAY)
        assert "prepare.quotes" not in str(caught.value)
