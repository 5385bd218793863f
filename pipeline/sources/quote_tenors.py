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
from vae.surface.days import instant_of, moment_of
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
        end = _on_clock_of_quotes(found, quotes, _expiry_instants(end, params), params)
        return _elapsed(start, end, params).round(_DIGITS)
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
    """Expiries on the clock of the quotes, where both say how far theirs is ahead of UTC.

    Raises:
        InputError: one of them says it and the other does not, or settings say it too.
    """
    expiry, unknown = found.get("expiry", end), np.full(len(end), np.nan)
    timed = np.isfinite(expiry) & (expiry != np.floor(expiry))  # dates have no clock
    ahead = np.where(timed, found.get("expiry.offset", unknown), np.nan)
    quoted = found.get(f"{quotes}.offset", unknown)
    says, said = np.isfinite(ahead), np.isfinite(quoted)
    if params.quote_zone is not None:
        if says.any():
            raise InputError(
                f"{params.path}: times in column {params.columns.expiry} say their offset from UTC already; leave "
                "prepare.quotes.expiry_time and quote_zone out"
            )
    elif (timed & (says != said)).any():
        names = [getattr(params.columns, name) for name in (quotes, "expiry")]
        one, other = names if (timed & said & ~says).any() else reversed(names)
        raise InputError(
            f"{params.path}: times in column {one} say their offset from UTC, but those in column {other} do not, so "
            "that no hours can be counted between them; write both with offsets or both without, on one clock"
        )
    return end + np.where(says, quoted - ahead, 0.0)


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


def _expiry_instants(expiry: Array, params: QuotesParams) -> Array:
    """When options expire, on the clock of the quotes; dates without a time get that of the settings."""
    if params.expiry_time is None:
        return expiry
    instants = np.where(expiry == np.floor(expiry), expiry + part_of_day(params.expiry_time), expiry)
    zone = zone_in(params.expiry_time)
    if zone is None or params.quote_zone is None:
        return instants
    unique, index = np.unique(instants, return_inverse=True)
    moved = [_in_zone(instant, zone, zone_of(params.quote_zone)) for instant in unique.tolist()]
    return np.array(moved)[index]


def _in_zone(instant: float, zone: ZoneInfo, other: ZoneInfo) -> float:
    """An instant on the clock of a zone, on that of another."""
    if np.isnan(instant):
        return instant
    return instant_of(moment_of(instant).replace(tzinfo=zone).astimezone(other))


def _text(instant: float) -> str:
    return moment_of(instant).isoformat(" ", "minutes")
