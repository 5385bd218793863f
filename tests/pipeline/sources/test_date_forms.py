"""Dates with several readings, which the expiries of their file tell apart or do not."""

import datetime as dt
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_rows
from pipeline.sources.quote_rows import QuoteTable

DATE = dt.date(2010, 12, 2)
THIRD_FRIDAYS = (dt.date(2010, 12, 17), dt.date(2011, 3, 18))
SATURDAYS = (dt.date(2010, 12, 18), dt.date(2011, 3, 19))  # of listed options until 2015
OTHERS = (dt.date(2010, 12, 15), dt.date(2011, 3, 16))
COLUMNS = {"date": "date", "expiry": "expiry", "log_moneyness": "k", "iv": "iv"}
EXCEL_EPOCH = dt.date(1899, 12, 30)


def written(day: dt.date, form: str) -> str:
    return str((day - EXCEL_EPOCH).days) if form == "excel" else day.strftime(form)


def table(
    path: Path, form: str, date: dt.date, expiries: tuple[dt.date, ...], *, days: bool = False, ends: str | None = None
) -> QuoteTable:
    """The quotes of a date in a file of text, maybe with a column of the days to expiry."""
    rows = [
        f"{written(date, form)},{written(expiry, ends or form)},{k},0.2{f',{(expiry - date).days}' if days else ''}"
        for expiry in expiries
        for k in (-0.1, 0.0, 0.1)
    ]
    path.write_text("\n".join([f"date,expiry,k,iv{',dte' if days else ''}", *rows]))
    return quote_rows.read(QuotesParams.model_validate({"path": str(path), "columns": COLUMNS}))


def check(found: QuoteTable, date: dt.date, expiries: tuple[dt.date, ...]) -> None:
    assert set(found["date"]) == {(date - dt.date(1970, 1, 1)).days}
    days = {(expiry - date).days for expiry in expiries}
    assert set((365 * found["tenor"]).round().astype(int)) == days


@pytest.mark.parametrize("form", ["excel", "%d-%b-%y", "%y%m%d", "%d/%m/%Y", "%m/%d/%y"])
@pytest.mark.parametrize("expiries", [THIRD_FRIDAYS, SATURDAYS])
def test_third_fridays_show_how_dates_are_written(tmp_path: Path, form: str, expiries: tuple[dt.date, ...]) -> None:
    check(table(tmp_path / "q.csv", form, DATE, expiries), DATE, expiries)


def test_days_to_expiry_show_how_dates_are_written(tmp_path: Path) -> None:
    check(table(tmp_path / "q.csv", "excel", DATE, OTHERS, days=True), DATE, OTHERS)


def test_expiries_before_their_quotes_show_how_dates_are_written(tmp_path: Path) -> None:
    """05/02 is in May or in February, when the other expiry had passed."""
    date, expiries = dt.date(2024, 2, 5), (dt.date(2024, 3, 4), dt.date(2024, 2, 12))
    check(table(tmp_path / "q.csv", "%m/%d/%Y", date, expiries), date, expiries)


def test_the_order_of_one_column_is_that_of_the_other(tmp_path: Path) -> None:
    date, expiries = dt.date(2024, 4, 3), (dt.date(2024, 4, 25),)
    check(table(tmp_path / "q.csv", "%d/%m/%Y", date, expiries), date, expiries)


def test_times_of_day_leave_the_order_of_a_date_as_it_is(tmp_path: Path) -> None:
    rows = [f"3/1/2024 15:45,{month}/{day}/2024,{k},0.2" for month, day in ((3, 15), (4, 19)) for k in (-0.1, 0.0, 0.1)]
    file = tmp_path / "q.csv"
    file.write_text("\n".join(["date,expiry,k,iv", *rows]))
    block = {"path": str(file), "columns": COLUMNS, "expiry_time": "15:45"}
    check(
        quote_rows.read(QuotesParams.model_validate(block)),
        dt.date(2024, 3, 1),
        (dt.date(2024, 3, 15), dt.date(2024, 4, 19)),
    )


def test_many_fridays_show_how_dates_are_written(tmp_path: Path) -> None:
    """As weekly options expire; three may be chance."""
    expiries = tuple(dt.date(2024, 3, 8) + dt.timedelta(weeks=i) for i in range(4))
    check(table(tmp_path / "q.csv", "%d-%b-%y", dt.date(2024, 3, 1), expiries), dt.date(2024, 3, 1), expiries)
    with pytest.raises(InputError, match="'%d-%b-%y' or '%y-%b-%d'"):
        table(tmp_path / "q.csv", "%d-%b-%y", dt.date(2024, 3, 1), expiries[:1] + expiries[2:])


def test_dates_that_one_order_alone_reads_need_no_expiries(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    columns = {"date": "date", "tenor": "tenor", "log_moneyness": "k", "iv": "iv"}
    for date, day in (("13/02/2024", 19_766), ("02/13/2024", 19_766)):
        file.write_text(f"date,tenor,k,iv\n{date},1M,0.0,0.2\n{date},1M,0.1,0.2\n")
        found = quote_rows.read(QuotesParams.model_validate({"path": str(file), "columns": columns}))
        assert set(found["date"]) == {day}
    file.write_text("date,tenor,k,iv\n03/02/2024,1M,0.0,0.2\n")
    with pytest.raises(InputError, match="'%d/%m/%Y' or '%m/%d/%Y'"):
        quote_rows.read(QuotesParams.model_validate({"path": str(file), "columns": columns}))


@pytest.mark.parametrize(
    ("form", "expiries", "message"),
    [
        ("excel", OTHERS, r"40514.* set prepare\.quotes\.date_format to 'excel' or '%m%d%y' or '%d%m%y'"),
        ("excel", THIRD_FRIDAYS[:1], r"date_format to 'excel' or '%m%d%y' or '%d%m%y'"),  # which may be chance
        ("%d/%m/%Y", (dt.date(2011, 3, 9), dt.date(2011, 6, 8)), r"date_format to '%d/%m/%Y' or '%m/%d/%Y'"),
    ],
)
def test_dates_that_nothing_tells_apart_are_refused(
    tmp_path: Path, form: str, expiries: tuple[dt.date, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        table(tmp_path / "q.csv", form, DATE, expiries)
