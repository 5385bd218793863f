"""Days to expiry that count trading days: recognised, as 252 of them are a year and not 0.69 of one."""

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array

TRADING_YEAR = 252.0
_MONTH = 21.0
_WEEKS = (1.0, 5.0, 10.0, 15.0)
_FEWEST = 3  # different tenors that show a table of months of 21 days
_FRIDAY, _WEEKEND = 1, 3  # the place of a Friday in the week of 1970-01-01, a Thursday; days until Monday
_MANY = 1e5  # more than the days to any expiry
_MOST = 0.5  # share of the expiries that are one day nearer after a weekend


def check(days: Array, dates: Array, params: QuotesParams) -> None:
    """Raise InputError where whole days are those of trading, and the settings do not say how many make a year.

    Args:
        days: to expiry, [row].
        dates: days since 1970-01-01, [row].
        params: settings.
    """
    if params.days_per_year is not None:
        return
    known = np.isfinite(days) & np.isfinite(dates) & (days > 0.0)
    shown = _shown(np.unique(days[known]), np.unique(_MANY * dates[known] + days[known]))
    if shown:
        raise InputError(
            f"{params.path}: column {params.columns.days}: {shown}, as trading days do, of which a year has "
            f"{TRADING_YEAR:g}; set prepare.quotes.days_per_year: {TRADING_YEAR:g}, or 365 where they are calendar days"
        )


def _shown(days: Array, expiries: Array) -> str:
    """What shows that days are trading days; empty where nothing does.

    Args:
        days: the different ones.
        expiries: _MANY * date + days of each expiry of each date.
    """
    months = days[days % _MONTH == 0.0]
    if TRADING_YEAR in days and len(months) >= _FEWEST and np.isin(days, (*months, *_WEEKS)).all():
        return f"its {', '.join(f'{day:g}' for day in months[:6])} count months of {_MONTH:g} days"
    date, left = expiries // _MANY, expiries % _MANY
    on_friday = (date % 7.0 == _FRIDAY) & np.isin(date + _WEEKEND, date) & (left > _WEEKEND)
    on_monday = expiries[on_friday] + _WEEKEND * _MANY
    none, one, three = (np.isin(on_monday - nearer, expiries).sum() for nearer in (0, 1, _WEEKEND))
    return (
        "after a weekend its options are one day nearer"
        if one > max(_MOST * len(on_monday), 2 * none, 2 * three)
        else ""
    )
