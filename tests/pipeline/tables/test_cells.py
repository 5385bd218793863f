"""The meaning of cells of text: numbers, dates, tenors and words, or a refusal that names the rows."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from pipeline.tables import dates, numbers, tenors, words
from pipeline.tables.cell_errors import CellError
from pipeline.tables.numbers import Mark


def text(*cells: str | None) -> pa.Array:
    return pa.array(cells, pa.large_string())


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-2", "+3", "1e-3", ".5", "2."], [1, -2, 3, 1e-3, 0.5, 2]),
        (["25,000.00", "7.24", None, "1,250,000"], [25000, 7.24, np.nan, 1_250_000]),
        (["43,66", "1.234", "1.234,5"], [43.66, 1234, 1234.5]),
        (["0,347", "-0,150000"], [0.347, -0.15]),
        (["0.347", "1.234"], [0.347, 1.234]),
        (["1,00,000.50", "12,34,567", "1.5"], [100000.5, 1234567, 1.5]),
        (["1'234.5", "1\u2019234'567.25"], [1234.5, 1234567.25]),
        (["1 234,5", "1\u00a0234\u202f567,25"], [1234.5, 1234567.25]),
        (["\u22120.5", "1 000"], [-0.5, 1000]),
        (["100", "1234567"], [100, 1234567]),
    ],
)
def test_numbers_show_their_decimal_mark(cells: list[str | None], values: list[float]) -> None:
    np.testing.assert_array_equal(numbers.read(text(*cells), None, percent=False), values)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234"], r"holds '1,234' in row 1: thousands or decimals\? Set prepare\.quotes\.decimal_mark"),
        (["100", "1.234"], r"holds '1\.234' in row 2: thousands or decimals\?"),
        (["1.5", "1,5"], r"holds '1\.5' in row 1, with the decimal mark '\.', and '1,5' in row 2, with ','"),
        (["1.5", "high", "low", "12,34", "high"], r"holds 'high' in rows 2, 5 and 'low' in row 3, but must hold"),
        (["1", "x", "x", "x", "x"], r"holds 'x' in rows 2, 3, 4 \(4 such rows\), but must hold numbers"),
        (["1W", "3M"], r"must hold numbers; labels of tenors are read as prepare\.quotes\.columns\.tenor"),
        (["1.5", "20%"], r"holds '20%' in row 2; a percent sign is read where prepare\.quotes\.vol_unit"),
        (["1 23", "+-1", "--1", "0x1F", "1.2.3"], r"holds '1 23' in row 1 and '\+-1' in row 2 .* \(5 such rows\)"),
    ],
)
def test_numbers_that_are_unclear_are_refused(cells: list[str], message: str) -> None:
    with pytest.raises(CellError, match=message):
        numbers.read(text(*cells), None, percent=False)


@pytest.mark.parametrize(("mark", "value"), [(".", 1234.0), (",", 1.234)])
def test_a_setting_decides_on_the_decimal_mark(mark: Mark, value: float) -> None:
    assert numbers.read(text("1,234"), mark, percent=False).tolist() == [value]
    with pytest.raises(CellError, match=f"with the decimal mark '{mark}'"):
        numbers.read(text("1,5" if mark == "." else "1.5"), mark, percent=False)


def test_a_percent_sign_stands_in_all_cells_or_none() -> None:
    assert numbers.read(text("20%", "21.5 %", None), None, percent=True).tolist()[:2] == [20.0, 21.5]
    with pytest.raises(CellError, match=r"holds '20%' in row 1, but '21' in row 2 without percent sign"):
        numbers.read(text("20%", "21"), None, percent=True)


NOON = dt.datetime(2025, 9, 6, 12, 30)
SECONDS = int(NOON.replace(tzinfo=dt.UTC).timestamp())


@pytest.mark.parametrize(
    "cell",
    ["2025-09-06", "20250906", "20250906.0", "2025/09/06", "2025.9.6", "6-Sep-2025", "06-SEP-2025", "6 September 2025",
     "Sep 6 2025", "Sep 06, 2025", "Sat Sep 06 2025", "2025-Sep-06", "06Sep2025"],
)  # fmt: skip
def test_dates_whose_order_shows(cell: str) -> None:
    assert dates.of_text(text(cell, None), None)[0] == (NOON - dt.datetime(1970, 1, 1)).days


@pytest.mark.parametrize(
    "cell",
    ["2025-09-06 12:30", "2025-09-06T12:30:00.000", "2025-09-06T12:30:00-05:00", "2025/09/06 12:30", "6-Sep-2025 12:30",
     "2025-09-06 12:30:00 UTC", *(str(SECONDS * 10**digits) for digits in (0, 3, 6, 9))],
)  # fmt: skip
def test_times(cell: str) -> None:
    """Of one with an offset the local one."""
    assert dates.of_text(text(cell), None)[0] == (NOON - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1)


@pytest.mark.parametrize(
    "moment", [NOON, dt.datetime(1990, 1, 1), dt.datetime(2050, 12, 31, 16, 0), dt.datetime(2026, 3, 2)]
)
def test_days_as_excel_counts_them(moment: dt.datetime) -> None:
    """To the second, in files of text and as numbers; Excel rounds a time to some ten digits."""
    excel = pytest.importorskip("openpyxl.utils.datetime")
    days = (moment - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1)
    serial = round(excel.to_excel(moment), 7)
    assert dates.of_text(text(str(serial), None), None)[0] == days
    assert dates.of_numbers(np.array([serial, np.nan]))[0] == days
    assert np.isnan(dates.offsets_of_text(text(str(serial)), None)).all()


def test_many_times_are_read_as_few_are() -> None:
    times = [(NOON + dt.timedelta(minutes=i)).isoformat(sep=" ") for i in range(1500)]
    few = [dates.of_text(text(time), None)[0] for time in times[::100]]
    np.testing.assert_array_equal(dates.of_text(text(*times), None)[::100], few)


@pytest.mark.parametrize(
    ("cell", "hours"),
    [
        ("2024-06-03T20:00Z", 0.0),
        ("2024-06-03 16:00 UTC", 0.0),
        ("2024-06-03T16:00:00.5-04:00", -4.0),
        ("2024-06-03 16:00 -0400", -4.0),
        ("20240603T213000+0530", 5.5),
        ("3-Jun-2024 21:30 +05:30", 5.5),
    ],
)
def test_a_time_says_how_far_its_clock_is_ahead(cell: str, hours: float) -> None:
    np.testing.assert_array_equal(
        dates.offsets_of_text(text(cell, "2024-06-03", None), None), [hours / 24, *[np.nan] * 2]
    )


@pytest.mark.parametrize(
    "cell", ["2024-06-03", "2024-06-03 16:00", "3-Jun-2024", "Jun 3, 2024", "2024/06/03 16:00:01.5"]
)
def test_cells_without_an_offset_are_not_read_one_by_one(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dates, "_offset")
    np.testing.assert_array_equal(dates.offsets_of_text(text(cell), None), [np.nan])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["03/04/2025"], r"in row 1, which can be read in several ways; set .*date_format to '%d/%m/%Y' or '%m/%d/%Y'"),
        (["03/04/2025", "13/04/2025"], r"set prepare.quotes.date_format to '%d/%m/%Y', the only order that reads all"),
        (["03.25.2025 16:00"], r"date_format to '%m\.%d\.%Y %H:%M', the only order"),
        (["16-Sep-25"], r"set prepare.quotes.date_format to '%d-%b-%y' or '%y-%b-%d'"),
        (["13/13/2025"], "which is not a date; allowed: ISO dates"),
        (["31-Apr-2025"], "which is not a date"),
        (["32873"], "which is not a date"),  # 1989 as Excel counts, or 2060 as days since 1970
        (["55154"], "which is not a date"),
        (["060215", "060317"], r"date_format to '%y%m%d' or '%m%d%y'"),
        (["040515"], r"date_format to '%y%m%d' or '%m%d%y' or '%d%m%y'"),  # 40515 would be a day of Excel
        (["201203", "201206"], r"may be months yyyymm, without a day, or dates; write days, or set .* to '%y%m%d'"),
        (["031523"], r"date_format to '%m%d%y', the only order"),
        (["40515"], r"days as Excel counts them or dates without their .* to 'excel' or '%m%d%y' or '%d%m%y'"),
        (["42415", "42416"], r"days as Excel counts them or dates without their .* to 'excel' or '%m%d%y'$"),
        (["61915"], r"set prepare.quotes.date_format to '%m%d%y', the only order"),  # 2069 as Excel counts
        (["45916", "20250916"], "which is not a date"),
        (["20250906", "1757161800"], "which is not a date"),
        (["1757161800", "1757161800000"], "which is not a date"),
    ],
)
def test_dates_that_are_unclear_are_refused(cells: list[str], message: str) -> None:
    with pytest.raises(CellError, match=message):
        dates.of_text(text(*cells), None)


def test_serial_days_that_may_be_written_dates_are_refused_as_numbers_too() -> None:
    """40515 may be 2010-12-02 or 04/05/15; 40515.5 has a time, and 40567 would be of 2067."""
    with pytest.raises(CellError, match=r"or dates without their leading zero: set .* to 'excel' or '%m%d%y' or '%d%"):
        dates.of_numbers(np.array([40515.0]))
    for form, day in (("excel", 14_945.0), ("%m%d%y", 16_530.0), ("%d%m%y", 16_559.0)):  # 5 April and 4 May 2015
        assert dates.of_numbers(np.array([40514.0 if form == "excel" else 40515.0, np.nan]), form)[0] == day
        assert dates.of_text(text("40514" if form == "excel" else "040515"), form)[0] == day
    with pytest.raises(CellError, match=r"which prepare\.quotes\.date_format 'excel' does not read"):
        dates.of_text(text("61915", "today"), "excel")
    assert np.isnan(dates.offsets_of_text(text("40515"), "excel")).all()


def test_a_date_that_lost_its_leading_zero_is_read_by_its_format() -> None:
    """11115 was the first of November."""
    assert dates.of_text(text("11115"), "%m%d%y").tolist() == [16_446.0]  # 11 January 2015
    assert dates.of_text(text("50315"), "%y%m%d").tolist() == [12_857.0]  # 15 March 2005
    assert dates.of_numbers(np.array([40515.5])).tolist() == [14_946.5]
    assert dates.of_numbers(np.array([40515.0, 40567.0])).tolist() == [14_946.0, 14_998.0]


def test_a_setting_decides_on_the_order_of_a_date() -> None:
    first, second = (dates.of_text(text("03/04/2025"), form)[0] for form in ("%d/%m/%Y", "%m/%d/%Y"))
    assert (first, second) == (20_181.0, 20_151.0)  # 3 April and 4 March
    with pytest.raises(CellError, match=r"'2025-04-03' in row 1, which prepare\.quotes\.date_format '%d/%m/%Y' does"):
        dates.of_text(text("2025-04-03"), "%d/%m/%Y")


def test_labels_of_tenors_are_years_by_one_rule() -> None:
    labels = ["ON", "TN", "1D", "1W", "2w", "1M", "3 M", "9m", "18M", "1Y", "10Y", "1.5Y", "6 months", "1 year"]
    days = [1, 2, 1, 7, 14, 365 / 12, 365 / 4, 273.75, 547.5, 365, 3650, 547.5, 182.5, 365]
    np.testing.assert_allclose(tenors.years(text(*labels)) * 365, days, rtol=1e-14)
    with pytest.raises(CellError, match=r"holds '0\.25' in row 2 and 'M' in row 3; allowed: ON, TN, SN, or a number"):
        tenors.years(text("3M", "0.25", "M", None))


def test_words_of_the_field() -> None:
    calls = ["C", "call", "CALLS", "CE", "Call Option", "call_option"]
    puts = ["p", "Put", "puts", "pe", "PUT-OPTION"]
    found = words.indices(text(*calls, *puts), words.OPTION_TYPES)
    assert found.tolist() == [0.0] * len(calls) + [1.0] * len(puts)
    assert (
        words.indices(text("E", "European", "eu", "A", "am", "American"), words.EXERCISES).tolist()
        == [0.0] * 3 + [1.0] * 3
    )
    with pytest.raises(CellError, match="holds '1' in row 1 and '0' in row 2; allowed: call, c, "):
        words.indices(text("1", "0"), words.OPTION_TYPES)


@pytest.mark.parametrize(
    "column", [text("true", "No", None, "1"), pa.array([1, 0, None, 1]), pa.array([True, False, None, True])]
)
def test_flags(column: pa.Array) -> None:
    assert words.flags(column).tolist() == [1.0, 0.0, 0.0, 1.0]
    with pytest.raises(CellError, match=r"holds 2 in row 2; allowed: true, false, or nothing but 0 and 1"):
        words.flags(pa.array([1, 2, 0]))
