"""Dates and times as numbers: days since 1970-01-01, with the part of the day."""

import datetime as dt
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def weekdays_passed(before: ArrayLike | dt.date, after: ArrayLike | dt.date) -> NDArray[np.int64]:
    """Days from Monday to Friday after one date, up to another and with it; of dates or days, [*batch].

    >>> int(weekdays_passed(dt.date(2026, 1, 2), dt.date(2026, 1, 6)))  # from a Friday to a Tuesday
    2
    """
    first, last = (np.asarray(date).astype("datetime64[D]") + 1 for date in (before, after))
    return np.asarray(np.busday_count(first, last))


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
