"""Commas that may separate thousands or decimals, where no number of the file shows which."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import usable_quotes
from pipeline.sources.book import read_book
from pipeline.sources.quote_rows import QuoteTable
from pipeline.sources.vector_file import read_vectors


def read(folder: Path, header: str, *rows: str, **values: object) -> QuoteTable:
    path = folder / "q.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    columns = {name: name for name in header.split(",") if name not in values.get("conditions", {})}
    settings = {"path": str(path), "date": "2024-01-02", "columns": columns, "vol_unit": "percent", **values}
    return usable_quotes.read(QuotesParams.model_validate(settings))


def test_strikes_beside_a_forward_are_thousands(tmp_path: Path) -> None:
    rows = [f'91,"{strike}",1085,20' for strike in ("1,000", "1,085", "1,100")]
    found = read(tmp_path, "days,strike,forward,iv", *rows)
    np.testing.assert_allclose(np.exp(found["k"]), np.array([1000.0, 1085.0, 1100.0]) / 1085.0)


def test_strikes_beside_a_rate_of_exchange_are_decimals(tmp_path: Path) -> None:
    rows = [f'91,"{strike}",1,20' for strike in ("1,000", "1,085", "1,100")]
    found = read(tmp_path, "days,strike,forward,iv", *rows)
    np.testing.assert_allclose(np.exp(found["k"]), [1.0, 1.085, 1.1])


def test_strike_and_forward_that_are_both_unclear_have_one_ratio(tmp_path: Path) -> None:
    found = read(tmp_path, "days,strike,forward,iv", *(f'91,"{k}","1,085",20' for k in ("1,000", "1,085", "1,100")))
    np.testing.assert_allclose(np.exp(found["k"]), np.array([1000.0, 1085.0, 1100.0]) / 1085.0)


def test_prices_are_decimals_where_no_vol_gives_them_as_thousands(tmp_path: Path) -> None:
    rows = [f'{days},1000,1000,C,"{price}"' for days, price in ((30, "22,867"), (91, "39,800"), (182, "56,300"))]
    found = read(tmp_path, "days,strike,forward,type,price", *rows, vol_unit="decimal")
    np.testing.assert_allclose(found["vol"], 0.2, rtol=1e-3)


@pytest.mark.parametrize(
    ("header", "rows", "column"),
    [
        ("days,log_moneyness,iv", ['"1,050",0,20', '"1,095",0,21', '"1,100",0,20'], "days"),
        ("days,log_moneyness,iv,weight", ['30,0,20,"1,000"', '91,0,20,"2,000"'], "weight"),
        ("days,log_moneyness,iv,weight", ['30,0,20,"1,050"', *[f"{day},0,20,1" for day in range(31, 125)]], "weight"),
        ("days,log_moneyness,iv", ['"1,050",0,20', *[f"{day},0,20" for day in range(31, 125)]], "days"),
        ("days,log_moneyness,forward,iv", ['30,0,"1,050",20', "91,0,1100,20"], "forward"),
    ],
)
def test_numbers_that_both_readings_take_are_refused_with_the_setting_that_settles_it(
    tmp_path: Path, header: str, rows: list[str], column: str
) -> None:
    with pytest.raises(InputError, match=f"column {column} holds '1,0[05]0' in row 1.*prepare.quotes.decimal_mark"):
        read(tmp_path, header, *rows)
    assert read(tmp_path, header, *rows, decimal_mark=",").kept.any()


def test_rows_that_make_quotes_by_one_reading_alone_are_of_that(tmp_path: Path) -> None:
    """Read as decimals, the dear calls of a chain cost less than exercise brings, and are no quotes."""
    calls = {4500: 512, 4600: 420, 4700: 333, 4800: 254, 4900: 186, 5000: 130, 5100: 86, 5200: 55, 5300: 34, 5400: 20}
    rows = [f"30,{strike},5000,C,{price}" for strike, price in calls.items()]
    dear = ['30,3800,5000,C,"1,203"', '30,3900,5000,C,"1,104"']
    found = read(tmp_path, "days,strike,forward,type,price", *rows, *dear, vol_unit="decimal")
    assert found.kept.all()
    assert set(found["value"]) == {*calls.values(), 1203.0, 1104.0}


def test_all_quotes_of_a_row_are_compared(tmp_path: Path) -> None:
    wide = {"coordinate": "moneyness", "columns": "numbers"}

    def table(vols: str) -> QuoteTable:
        return read(tmp_path, "days,0.9,1.1", f"30,{vols}", columns={"days": "days"}, wide=wide)

    assert usable_quotes.same_quotes(table("20,30"), table("20,30"))
    assert not usable_quotes.same_quotes(table("20,30"), table("25,30"))


def test_a_condition_is_one_of_these_numbers(tmp_path: Path) -> None:
    rows = [f'91,{k},20,"1,250"' for k in (-1, 0, 1)]
    with pytest.raises(InputError, match="column index holds '1,250'"):
        read(tmp_path, "days,log_moneyness,iv,index", *rows, conditions={"index": "index"})


def test_a_number_with_a_point_elsewhere_in_the_file_settles_it(tmp_path: Path) -> None:
    found = read(tmp_path, "days,log_moneyness,iv", '"1,050",0.0,20', '"1,095",0.0,21')
    np.testing.assert_allclose(found["tenor"], [1050 / 365, 1095 / 365])


def test_a_book_of_such_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "book.csv"
    path.write_text('type,strike,quantity,days\ncall,4500,"1,000",30\n')
    with pytest.raises(InputError, match="column quantity holds '1,000' in row 1: thousands or decimals"):
        read_book(path)


def test_vectors_of_such_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text('a,b\n"1,085",2\n3,4\n')
    with pytest.raises(InputError, match=r"column a holds '1,085' in row 1: thousands or decimals.*without separators"):
        read_vectors(path, 2)
    path.write_text("a,b\n18.600,2.000\n3.250,4.000\n")
    assert read_vectors(path, 2).tolist() == [[18.6, 2.0], [3.25, 4.0]]
    path.write_text('a,b\n"1,085.5",2\n3,4\n')
    assert read_vectors(path, 2).tolist() == [[1085.5, 2.0], [3.0, 4.0]]
