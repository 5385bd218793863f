"""Hours count where times of day are known, and are asked for where they matter."""

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_tenors, quotes
from pipeline.sources.columns import Array
from vae.surface.grid import Grid

EPOCH = dt.datetime(1970, 1, 1)
HOUR = 1.0 / (365.0 * 24.0)
NEW_YORK = {"expiry_time": "16:00 America/New_York", "quote_zone": "UTC"}
ZONED = 'expiry_time: "16:00 America/New_York" and quote_zone: UTC'


def instants(*texts: str) -> Array:
    return np.array([(dt.datetime.fromisoformat(text) - EPOCH) / dt.timedelta(days=1) for text in texts])


def years(found: dict[str, Array], columns: dict[str, str] | None = None, **settings: Any) -> Array:
    names = {name: name.upper() for name in found} | {"log_moneyness": "k", "iv": "iv"} | (columns or {})
    params = QuotesParams.model_validate({"path": "q.csv", "columns": names, **settings})
    date = found["date"] if "date" in found else found["snapshot"]
    return quote_tenors.years(found, np.floor(date), params)


def test_hours_are_those_between_quote_and_expiry() -> None:
    found = {
        "date": instants("2024-06-03 10:30", "2024-06-03 10:30"),
        "expiry": instants("2024-06-03 16:00", "2024-06-04 16:00"),
    }
    np.testing.assert_allclose(years(found), [5.5 * HOUR, 29.5 * HOUR], atol=1e-9)


@pytest.mark.parametrize("name", ["date", "snapshot"])
def test_the_time_of_expiry_is_a_setting(name: str) -> None:
    found = {name: instants("2024-06-03 10:30", "2024-06-03 10:30"), "expiry": instants("2024-06-03", "2024-06-10")}
    np.testing.assert_allclose(years(found, expiry_time="16:00"), [5.5 * HOUR, 173.5 * HOUR], atol=1e-9)


def test_zones_of_quotes_and_expiry_may_differ() -> None:
    """14:30 in UTC is 10:30 in New York in summer and 9:30 in winter."""
    zones = {"expiry_time": "16:00 America/New_York", "quote_zone": "UTC"}
    for day, hours in (("2024-06-03", 5.5), ("2024-01-03", 6.5)):
        found = {"snapshot": instants(f"{day} 14:30"), "expiry": instants(day)}
        np.testing.assert_allclose(years(found, **zones), hours * HOUR, atol=1e-9)


@pytest.mark.parametrize(
    ("quoted", "expires", "hours"),
    [
        ("2024-06-03T20:00:00Z", "2024-06-04T16:00:00-04:00", 24.0),
        ("2024-06-03 20:00:00+00:00", "2024-06-04 16:00:00 -0400", 24.0),
        ("2024-03-08T16:00:00-05:00", "2024-03-11T16:00:00-04:00", 71.0),  # the night in which summer time begins
        ("1717444800000", "2024-06-04T16:00:00-04:00", 24.0),  # 2024-06-03 20:00 in UTC
        ("3-Jun-2024 20:00 UTC", "4-Jun-2024 16:00 -04:00", 24.0),
        ("2024-06-03 14:00", "2024-06-04 16:00", 26.0),
    ],
)
def test_offsets_from_utc_count(tmp_path: Path, quoted: str, expires: str, hours: float) -> None:
    rows = [f"{quoted},{expires},{k},0.2" for k in (-0.02, -0.01, 0.0, 0.01, 0.02)]
    table = quotes.read_table(offset_params(tmp_path, rows))
    np.testing.assert_allclose(table["tenor"], hours * HOUR, atol=1e-9)


@pytest.mark.parametrize(
    ("quoted", "expires", "one", "other"),
    [
        ("2024-06-03T20:00:00Z", "2024-06-04 16:00", "date", "expiry"),
        ("2024-06-03 20:00", "2024-06-04T16:00Z", "expiry", "date"),
        ("2024-06-03 20:00", "1717516800000", "expiry", "date"),
    ],
)
def test_an_offset_that_one_side_lacks_is_refused(
    tmp_path: Path, quoted: str, expires: str, one: str, other: str
) -> None:
    """The settings that the message names read the file."""
    rows = [f"{quoted},{expires},{k},0.2" for k in (-0.02, -0.01, 0.0, 0.01, 0.02)]
    with pytest.raises(InputError, match=f"column {one} say .* in column {other} do not.*{re.escape(ZONED)}"):
        quotes.read_table(offset_params(tmp_path, rows))
    zones = yaml.safe_load(ZONED.replace(" and ", "\n"))
    assert quotes.read_table(offset_params(tmp_path, rows, **zones)).kept.all()


@pytest.mark.parametrize(
    ("quoted", "expires", "zones", "days"),
    [
        ("2024-06-03 20:00", "1718352000000", {"expiry_time": "08:00 UTC", "quote_zone": "UTC"}, 10.5),
        ("2024-06-03T16:00-04:00", "2024-06-04", NEW_YORK, 1.0),
        ("2024-06-03T16:00-04:00", "2024-06-04T20:00Z", NEW_YORK, 1.0),
        ("2024-06-03T20:00Z", "2024-06-04 16:00", NEW_YORK, 1.0),
    ],
)
def test_zones_are_of_times_without_an_offset(
    tmp_path: Path, quoted: str, expires: str, zones: dict[str, str], days: float
) -> None:
    rows = [f"{quoted},{expires},{k},0.2" for k in (-0.02, -0.01, 0.0, 0.01, 0.02)]
    table = quotes.read_table(offset_params(tmp_path, rows, **zones))
    np.testing.assert_allclose(table["tenor"], 24.0 * days * HOUR, atol=1e-9)


@pytest.mark.parametrize(
    ("quoted", "zones"),
    [
        ("2024-06-03T20:00Z", {"expiry_time": "20:00"}),
        ("1717444800000", {"expiry_time": "20:00"}),
        ("2024-06-03T20:00Z", NEW_YORK),
        ("2024-06-03T15:00-05:00", NEW_YORK),
    ],
)
def test_whole_days_end_at_the_time_of_expiry(tmp_path: Path, quoted: str, zones: dict[str, str]) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text("at,days,k,iv\n" + "".join(f"{quoted},30,{k},0.2\n" for k in (-0.1, -0.05, 0.0, 0.05, 0.1)))
    columns = {"snapshot": "at", "days": "days", "log_moneyness": "k", "iv": "iv"}
    table = quotes.read_table(QuotesParams.model_validate({"path": str(path), "columns": columns, **zones}))
    np.testing.assert_allclose(table["tenor"], 30 * 24 * HOUR, atol=1e-9)


def test_a_row_without_a_time_says_no_offset(tmp_path: Path) -> None:
    rows = [f"2024-06-03T20:00Z,2024-06-04T16:00-04:00,{k},0.2" for k in (-0.02, -0.01, 0.0, 0.01, 0.02)]
    table = quotes.read_table(offset_params(tmp_path, [*rows, ",2024-06-04T16:00-04:00,0.03,0.2"]))
    assert (table.kept.sum(), table.rejected["missing_value"]) == (5, 1)


def test_midnight_with_an_offset_is_a_time_beside_other_times(tmp_path: Path) -> None:
    """Where all expiries are midnights they are dates, as libraries write these."""
    for expiries, days in (
        (("2024-06-05T00:00Z", "2024-06-12T20:00Z"), (28 / 24, 9.0)),
        (("2024-06-05T00:00Z", "2024-06-12T00:00Z"), (2.0, 9.0)),
    ):
        rows = [f"2024-06-03T16:00-04:00,{expiry},{k},0.2" for expiry in expiries for k in (-0.02, -0.01, 0.0, 0.01)]
        table = quotes.read_table(offset_params(tmp_path, rows, **({} if days[0] < 2.0 else {"expiry_time": "16:00"})))
        np.testing.assert_allclose(np.unique(table["tenor"]), 24.0 * np.array(days) * HOUR, atol=1e-9)


def offset_params(folder: Path, rows: list[str], **settings: Any) -> QuotesParams:
    path = folder / "quotes.csv"
    path.write_text("\n".join(["date,expiry,log_moneyness,iv", *rows]) + "\n")
    columns = {name: name for name in ("date", "expiry", "log_moneyness", "iv")}
    return QuotesParams.model_validate({"path": str(path), "columns": columns, **settings})


def test_each_snapshot_has_its_own_hours() -> None:
    found = {
        "snapshot": instants("2024-06-03 10:00", "2024-06-03 15:00"),
        "expiry": instants(*2 * ["2024-06-03 16:00"]),
    }
    np.testing.assert_allclose(years(found), [6.0 * HOUR, 1.0 * HOUR], atol=1e-9)


def test_whole_days_where_nothing_has_a_time() -> None:
    found = {"date": instants("2024-06-03"), "expiry": instants("2024-07-03")}
    assert years(found).item() == 30.0 / 365.0
    found["expiry"] = instants("2024-07-03 16:00")
    assert years(found).item() == 30.0 / 365.0


def test_hours_that_matter_are_asked_for() -> None:
    """Quotes of half past ten and an expiry tomorrow; an expiry in half a year may do without."""
    found = {"date": instants("2024-06-03 10:30"), "expiry": instants("2024-06-04")}
    with pytest.raises(InputError, match=r"column EXPIRY has no times .* 1 days later.*prepare\.quotes\.expiry_time"):
        years(found)
    found["expiry"] = instants("2024-12-02")
    assert years(found).item() == 182.0 / 365.0


def test_last_trades_give_no_hours() -> None:
    """Their times lie on other dates, or are several a date."""
    date = instants("2024-06-03", "2024-06-03")
    for first in ("2024-06-02 19:58", "2024-06-03 19:50"):
        found = {"date": date, "quoted_at": instants(first, "2024-06-03 19:58"), "expiry": date + 7.0}
        np.testing.assert_allclose(years(found), 7.0 / 365.0, rtol=1e-15)


def test_whole_days_may_stand_for_the_date_of_expiry() -> None:
    """Parts of days say the hours themselves."""
    found = {"date": instants("2024-06-03 10:30"), "days": np.array([1.0])}
    with pytest.raises(InputError, match=r"column DAYS has no times .* 1 days later.*prepare\.quotes\.expiry_time"):
        years(found)
    np.testing.assert_allclose(years(found, expiry_time="16:00"), 29.5 * HOUR, atol=1e-9)
    found["days"] = np.array([29.5 / 24.0])
    np.testing.assert_allclose(years(found), 29.5 * HOUR, rtol=1e-12)
    with pytest.raises(InputError, match=r"DAYS has parts of days.*leave prepare\.quotes\.expiry_time out"):
        years(found, expiry_time="16:00")


def test_a_date_of_several_times_needs_snapshots() -> None:
    found = {"date": instants("2024-06-03 10:30", "2024-06-03 11:30"), "expiry": instants(*2 * ["2024-06-03 16:00"])}
    with pytest.raises(InputError, match=r"10:30 and 2024-06-03 11:30.*prepare\.quotes\.columns\.snapshot"):
        years(found)


def test_hours_without_a_time_of_the_quotes_are_refused() -> None:
    found = {"date": instants("2024-06-03"), "expiry": instants("2024-06-04")}
    with pytest.raises(InputError, match=r"the quotes have no time of day.*columns\.snapshot"):
        years(found, expiry_time="16:00")


def test_business_time_counts_closed_days_less() -> None:
    """From Friday to Tuesday, with a holiday on Monday."""
    found = {"date": instants("2024-05-24"), "expiry": instants("2024-05-28")}
    settings = {"clock": "business", "closed_day_weight": 0.25, "holidays": [dt.date(2024, 5, 27)]}
    assert years(found, **settings).item() == pytest.approx(1.75 / (365.0 * 5.5 / 7.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expiry_time": "25:00"}, "not a time of day"),
        ({"expiry_time": "16:00 New_York"}, "not a time zone"),
        ({"expiry_time": "16:00 America/New_York"}, "quote_zone and the zone of expiry_time"),
        ({"expiry_time": "16:00", "quote_zone": "UTC"}, "quote_zone and the zone of expiry_time"),
        ({"closed_day_weight": 0.1}, "need clock: business"),
        (
            {"expiry_time": "16:00", "columns": {"date": "d", "tenor": "n", "log_moneyness": "k", "iv": "v"}},
            "needs columns.expiry",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    columns = {"date": "d", "expiry": "e", "log_moneyness": "k", "iv": "v"}
    with pytest.raises(ValueError, match=message):
        QuotesParams.model_validate({"path": "q.csv", "columns": columns, **settings})


def test_an_option_of_today_is_read(tmp_path: Path) -> None:
    """A text file with times in both columns: the hours are in the surface, and the wrong tenor would be 20 % off."""
    rows = ["when,until,k,iv"]
    for hours in (6, 30):
        until = dt.datetime(2024, 6, 3, 10, 0) + dt.timedelta(hours=hours)
        rows += [f"2024-06-03 10:00:00,{until},{k},{0.1 + 0.01 * hours}" for k in (-0.02, -0.01, 0.0, 0.01, 0.02)]
    path = tmp_path / "q.csv"
    path.write_text("\n".join(rows))
    columns = {"date": "when", "expiry": "until", "log_moneyness": "k", "iv": "iv"}
    params = QuotesParams.model_validate({"path": str(path), "columns": columns})
    grid = Grid(np.array([6.0, 30.0]) * HOUR, np.array([-0.01, 0.0, 0.01]), "log_moneyness")
    np.testing.assert_allclose(quotes.read(params, grid).iv[0], [[0.16] * 3, [0.4] * 3], rtol=1e-9)


FRIDAY = 19727.0  # 2024-01-05
TABLE = np.array([21.0, 42.0, 63.0, 126.0, 252.0])


@pytest.mark.parametrize(
    ("days", "dates", "shown"),
    [
        (TABLE, np.full(5, FRIDAY), "21, 42, 63, 126, 252 count months of 21 days"),
        (np.array([10.0, 31.0, 9.0, 30.0]), FRIDAY + np.array([0.0, 0.0, 3.0, 3.0]), "its options are one day nearer"),
    ],
)
def test_trading_days_are_refused_until_their_year_is_said(days: Array, dates: Array, shown: str) -> None:
    found = {"days": days, "date": dates}
    with pytest.raises(InputError, match=rf"column DAYS: .*{shown}.*set prepare\.quotes\.days_per_year: 252, or 365"):
        years(found)
    np.testing.assert_allclose(years(found, days_per_year=252), days / 252, atol=1e-9)
    np.testing.assert_allclose(years(found, days_per_year=365), days / 365, atol=1e-9)


@pytest.mark.parametrize(
    ("friday", "monday"),
    [
        ([10.0, 31.0], [7.0, 28.0]),  # expiries in calendar days
        ([30.0, 91.0], [30.0, 91.0]),  # constant maturities
        ([*range(1, 40)], [*range(1, 40)]),  # an expiry on each day
    ],
)
def test_calendar_days_are_read_as_they_are(friday: list[float], monday: list[float]) -> None:
    dates = np.repeat([FRIDAY, FRIDAY + 3.0], [len(friday), len(monday)])
    days = np.array([*friday, *monday])
    np.testing.assert_allclose(years({"days": days, "date": dates}), days / 365, atol=1e-9)


def test_weeks_that_make_252_days_are_calendar_days() -> None:
    days = 7.0 * np.arange(1, 37)
    np.testing.assert_allclose(years({"days": days, "date": np.full(36, FRIDAY)}), days / 365, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("tenor_years", [1.0, 3.0, 6.0, 12.0, 24.0], "the whole numbers 1, 3, 6, 12, 24 look like months: divide them"),
        ("tenor_years", [7.0, 14.0, 28.0, 45.0], "look like days: name it prepare.quotes.columns.days"),
        ("days", [0.083, 0.25, 0.5, 1.0, 2.0], "look like years; name it prepare.quotes.columns.tenor_years"),
    ],
)
def test_tenors_that_are_usual_in_another_unit_only_are_refused(name: str, numbers: list[float], message: str) -> None:
    found = {name: np.array(numbers), "date": np.full(len(numbers), FRIDAY)}
    with pytest.raises(InputError, match=message):
        years(found)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("tenor_years", [1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 12.0]),
        ("tenor_years", [0.25, 1.0, 3.0, 6.0, 12.0]),
        ("days", [0.25, 1.25, 2.25, 9.25]),  # hours at one time of day
    ],
)
def test_tenors_of_other_markets_are_read_as_they_are(name: str, numbers: list[float]) -> None:
    found = {name: np.array(numbers), "date": np.full(len(numbers), FRIDAY)}
    np.testing.assert_allclose(years(found), np.array(numbers) / (365 if name == "days" else 1), atol=1e-9)
