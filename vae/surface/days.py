"""Dates and times as numbers: days since 1970-01-01, with the part of the day."""

import datetime as dt
import math

EPOCH = dt.datetime(1970, 1, 1)
DAY = dt.timedelta(days=1)


def day_of(date: dt.date) -> int:
    """Days from 1970-01-01 to a date.

    >>> day_of(dt.date(1970, 1, 3))
    2
    """
    return date.toordinal() - EPOCH.toordinal()


def date_of(day: float) -> dt.date:
    """The date of a day, whose part of the day is left out.

    >>> date_of(20454.75)
    datetime.date(2026, 1, 1)
    """
    return dt.date.fromordinal(EPOCH.toordinal() + math.floor(day))


def instant_of(moment: dt.datetime) -> float:
    """Days from 1970-01-01 to the time on a clock.

    >>> instant_of(dt.datetime(1970, 1, 2, 18))
    1.75
    """
    return (moment.replace(tzinfo=None) - EPOCH) / DAY


def moment_of(instant: float) -> dt.datetime:
    """The time on a clock at an instant.

    >>> moment_of(1.75)
    datetime.datetime(1970, 1, 2, 18, 0)
    """
    return EPOCH + instant * DAY
