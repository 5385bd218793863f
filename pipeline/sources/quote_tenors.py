"""Years to expiry of the rows of a file, in whole days, in hours where times of day are known, or in business time."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.settings.times import part_of_day, zone_in, zone_of
from pipeline.sources import tenor_units
from pipeline.sources.columns import Array
from vae.surface import clock
from vae.surface.days import DAY, moment_of
from vae.surface.units import DAYS_PER_YEAR

_DIGITS = 9  # decimals of a year: rounding must not split an expiry
_LONGEST = 20.0  # days of an option whose vol may be off by more than 0.5 % of itself where hours are left out


def years(found: Mapping[str, Array], dates: Array, params: QuotesParams) -> Array:
    """The tenor of each row, [row].

    Args:
        found: columns of the file by canonical name; date, snapshot, quoted_at and expiry as days since 1970-01-01 with
            the part of the day; ``expiry.offset`` and so on the days by which their clocks are ahead of UTC.
        dates: the date of each row, days since 1970-01-01.
        params: settings.

    Raises:
        InputError: hours matter, but one of quote and expiry has no time of day, or a date has several; hours are
            given twice; or the numbers of a column of days or years are those of another unit.
    """
    if "tenor_years" in found:
        tenor_units.check_years(found["tenor_years"], params)
        return found["tenor_years"].round(_DIGITS)
    if "tenor" in found:
        return found["tenor"].round(_DIGITS)
    if "days" in found:
        tenor_units.check_days(found["days"], dates, params)
        if params.days_per_year not in (None, DAYS_PER_YEAR):
            return (found["days"] / params.days_per_year).round(_DIGITS)
        if _has_times(found["days"]):
            return _hours_in_days(found["days"], params)
    quotes = _timed_column(found, dates)
    start, end = found.get(quotes), found["expiry"] if "expiry" in found else dates + found["days"]
    if params.expiry_time is not None or (_has_times(end) and start is not None):
        if start is None:
            raise InputError(
                f"{params.path}: prepare.quotes.expiry_time counts hours, but the quotes have no time of day; name a "
                "column of times in prepare.quotes.columns.snapshot, or leave expiry_time out"
            )
        _check_one_time(found, start, params)
        return _elapsed(start, _on_clock_of_quotes(found, quotes, end, params), params).round(_DIGITS)
    _check_hours(start, end, params)
    return _elapsed(dates, np.floor(end), params)


def _elapsed(start: Array, end: Array, params: QuotesParams) -> Array:
    weight = params.closed_day_weight if params.clock == "business" else 1.0
    return clock.years(start, end, weight=weight, holidays=params.holidays)


def _hours_in_days(days: Array, params: QuotesParams) -> Array:
    """Years of days with parts, which say the hours."""
    if params.expiry_time is not None:
        raise InputError(
            f"{params.path}: column {params.columns.days} has parts of days, which say the hours already; leave "
            "prepare.quotes.expiry_time out"
        )
    return days / DAYS_PER_YEAR


def _timed_column(found: Mapping[str, Array], dates: Array) -> str:
    """The first column with times of day that says when each row was quoted; empty where there is none.

    Times of quotes that lie on other dates, or of which a date has several, are those of last trades and no instants of
    a surface.
    """
    columns = {name: found[name] for name in ("snapshot", "date", "quoted_at") if name in found}
    quoted_at = columns.get("quoted_at", dates)
    if (np.floor(quoted_at) != dates).any() or len(_several(quoted_at)):
        columns.pop("quoted_at", None)
    return next((name for name, instants in columns.items() if _has_times(instants)), "")


def _on_clock_of_quotes(found: Mapping[str, Array], quotes: str, end: Array, params: QuotesParams) -> Array:
    """When options expire, on the clock of the quotes.

    Args:
        found: columns of the file by canonical name.
        quotes: the column with the times of the quotes.
        end: expiries as the file has them; dates without a time get that of the settings.
        params: settings.

    Raises:
        InputError: one of quotes and expiries says how far its clock is ahead of UTC, and the other does not.
    """
    unknown = np.full(len(end), np.nan)
    own = found.get("expiry.offset", unknown)
    timed = _has_times(end) & np.isfinite(end) & ((end != np.floor(end)) | np.isfinite(own))  # dates have no clock
    zone = None
    if params.expiry_time is not None:
        zone = zone_in(params.expiry_time)
        end = np.where(timed, end, end + part_of_day(params.expiry_time))
    quote_zone = None if params.quote_zone is None else zone_of(params.quote_zone)
    ahead = _offsets(end, np.where(timed, own, np.nan), zone)
    quoted = _offsets(found[quotes], found.get(f"{quotes}.offset", unknown), quote_zone)
    says, said = np.isfinite(ahead), np.isfinite(quoted)
    differ = timed & np.isfinite(found[quotes]) & (says != said)
    if differ.any():
        names = [getattr(params.columns, name) for name in (quotes, "expiry")]
        one, other = names if (differ & said).any() else reversed(names)
        raise InputError(
            f"{params.path}: times in column {one} say their offset from UTC, but those in column {other} do not, so "
            "that no hours can be counted between them; write both with offsets or both without, on one clock, or set "
            "prepare.quotes.expiry_time with a zone and quote_zone for the times without: expiry_time: "
            '"16:00 America/New_York" and quote_zone: UTC'
        )
    return end + np.where(says & said, quoted - ahead, 0.0)


def _offsets(instants: Array, own: Array, zone: ZoneInfo | None) -> Array:
    """Days by which the clocks of instants are ahead of UTC: their own, else of a zone; NaN without either, [row]."""
    if zone is None:
        return own
    unique, index = np.unique(instants, return_inverse=True)
    of_zone = [_offset(instant, zone) for instant in unique.tolist()]
    return np.where(np.isfinite(own), own, np.array(of_zone)[index])


def _offset(instant: float, zone: ZoneInfo) -> float:
    """Days by which the clock of a zone is ahead of UTC at an instant on it, NaN where this is."""
    ahead = None if np.isnan(instant) else moment_of(instant).replace(tzinfo=zone).utcoffset()
    return np.nan if ahead is None else ahead / DAY


def _several(instants: Array) -> Array:
    """Of the first date with several times two of these, [2]; of none [0]."""
    known = np.unique(instants[np.isfinite(instants)])
    several = np.flatnonzero(np.diff(np.floor(known)) == 0.0)
    return known[several[0] : several[0] + 2] if len(several) else known[:0]


def _has_times(instants: Array) -> bool:
    known = instants[np.isfinite(instants)]
    return bool((known != np.floor(known)).any())


def _check_one_time(found: Mapping[str, Array], start: Array, params: QuotesParams) -> None:
    """Raise InputError where a date has several times but no snapshot: its options would all have other tenors."""
    if "snapshot" in found and start is found["snapshot"]:
        return
    several = _several(start)
    if len(several):
        first, second = map(_text, several)
        raise InputError(
            f"{params.path}: quotes of one date have the times {first} and {second}, from which hours to expiry are "
            "counted; name their column in prepare.quotes.columns.snapshot, for a surface at each time"
        )


def _check_hours(start: Array | None, end: Array, params: QuotesParams) -> None:
    """Raise InputError where quotes have times of day but expiries none, and hours matter."""
    if start is None:
        return
    days = np.floor(end) - np.floor(start)
    short = np.flatnonzero((days >= 0.0) & (days <= _LONGEST))
    if len(short):
        row = short[np.argmin(days[short])]
        raise InputError(
            f"{params.path}: column {params.columns.expiry or params.columns.days} has no times of day, but a quote of "
            f"{_text(start[row])} expires {days[row]:g} days later, where hours matter; set prepare.quotes.expiry_time "
            'in the zone of the quotes, such as "16:00", or with zones, such as "16:00 America/New_York" and '
            "quote_zone: UTC"
        )


def _text(instant: float) -> str:
    return moment_of(instant).isoformat(" ", "minutes")
