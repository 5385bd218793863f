"""Tenors in another unit than their column says: trading days, months or days as years, years as days.

A table of tenors shows its unit by the numbers that it has. Where these are of another unit the file is refused, as 252
trading days are a year and not 0.69 of one.
"""

import numpy as np

from pipeline.errors import InputError, listed
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array

_TRADING_YEAR, _TRADING_MONTH = 252.0, 21.0
_TRADING_WEEKS = (1.0, 5.0, 10.0, 15.0)
_MONTHS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 12.0, 15.0, 18.0, 24.0, 36.0, 48.0, 60.0)  # of usual tenors
_YEARS = (*range(1, 11), 12, 15, 20, 25, 30, 35, 40, 45, 50)
_FEWEST = 3  # different tenors that show a unit
_FRIDAY, _WEEKEND = 1, 3  # the place of a Friday in the week of 1970-01-01, a Thursday; days until Monday
_MANY = 1e5  # more than the days to any expiry
_MOST = 0.5  # share of the expiries that are one day nearer after a weekend
_ROUNDED = 0.005  # of a year
_MOST_TENORS = 15  # of a table


def check_days(days: Array, dates: Array, params: QuotesParams) -> None:
    """Raise InputError where days are those of trading, or years.

    Args:
        days: to expiry, [row].
        dates: days since 1970-01-01, [row].
        params: settings; ``days_per_year`` says what days are.
    """
    if params.days_per_year is not None:
        return
    known = np.isfinite(days) & np.isfinite(dates) & (days > 0.0)
    different = np.unique(days[known])
    prefix = f"{params.path}: column {params.columns.days}:"
    if _are_years(different):
        raise InputError(
            f"{prefix} {_numbers(different)} look like years; name it prepare.quotes.columns.tenor_years, or set "
            "prepare.quotes.days_per_year: 365 where they are days"
        )
    shown = _trading(different, np.unique(_MANY * dates[known] + days[known]))
    if shown:
        raise InputError(
            f"{prefix} {shown}, as trading days do, of which a year has {_TRADING_YEAR:g}; set "
            f"prepare.quotes.days_per_year: {_TRADING_YEAR:g}, or 365 where they are calendar days"
        )


def check_years(years: Array, params: QuotesParams) -> None:
    """Raise InputError where years to expiry [row] are whole numbers that are usual for months or days only."""
    known = np.unique(years[(years > 0.0) & (years <= max(_YEARS))])
    if len(known) < _FEWEST or (known != np.rint(known)).any():
        return
    prefix = f"{params.path}: column {params.columns.tenor_years}: the whole numbers {_numbers(known)} look like"
    labels = "; where they are years write labels such as 3Y and name them prepare.quotes.columns.tenor"
    if 12.0 in known and np.isin(known, _MONTHS).all():
        raise InputError(f"{prefix} months: divide them by 12 in the file{labels}")
    if not np.isin(known, _YEARS).all():
        raise InputError(f"{prefix} days: name it prepare.quotes.columns.days{labels}")


def _are_years(days: Array) -> bool:
    """Whether few different days are months as parts of a year, and whole years; hours would share a part of a day."""
    if not _FEWEST <= len(days) <= _MOST_TENORS or days[0] >= 1.0 or days[-1] > max(_YEARS):
        return False
    months = np.rint(12.0 * days)
    return bool((np.abs(months - 12.0 * days) <= 12.0 * _ROUNDED).all() and len(np.unique(months % 12.0)) >= _FEWEST)


def _trading(days: Array, expiries: Array) -> str:
    """The fact that shows trading days; empty where none does.

    Args:
        days: the different ones.
        expiries: _MANY * date + days of each expiry of each date.
    """
    months = days[days % _TRADING_MONTH == 0.0]
    if _TRADING_YEAR in days and len(months) >= _FEWEST and np.isin(days, (*months, *_TRADING_WEEKS)).all():
        return f"its {_numbers(months)} count months of {_TRADING_MONTH:g} days"
    date, left = expiries // _MANY, expiries % _MANY
    on_friday = (date % 7.0 == _FRIDAY) & np.isin(date + _WEEKEND, date) & (left > _WEEKEND)
    on_monday = expiries[on_friday] + _WEEKEND * _MANY
    none, one, three = (np.isin(on_monday - nearer, expiries).sum() for nearer in (0, 1, _WEEKEND))
    shown = one > max(_MOST * len(on_monday), 2 * none, 2 * three)
    return "after a weekend its options are one day nearer" if shown else ""


def _numbers(values: Array) -> str:
    return listed(f"{value:g}" for value in values)
