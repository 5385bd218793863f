"""Time to expiry in years, by the calendar or in business time."""

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]


def years(start: Array, end: Array, *, weight: float = 1.0, holidays: Sequence[date] = ()) -> Array:
    """Years between instants, ACT/365 with parts of days; days on which markets are closed may count less.

    A Saturday, a Sunday and a holiday count ``weight`` of a day. A year is 365 days of the average week, so that a vol
    in business time is near the one in calendar time.

    Args:
        start: days since 1970-01-01 with the part of the day, any shape.
        end: of the same kind, in a shape that broadcasts; before ``start`` the result is negative.
        weight: of a closed day, from 0 to 1; 1 is calendar time.
        holidays: closed days beside the weekends.

    Returns:
        Years, NaN where an instant is.

    From Friday noon to Monday noon:

    >>> friday, monday = np.array([1.5]), np.array([4.5])
    >>> 365.0 * years(friday, monday)
    array([3.])
    >>> years(friday, monday, weight=0.0) * 365.0 * 5.0 / 7.0
    array([1.])
    """
    if weight == 1.0:
        elapsed: Array = (end - start) / DAYS_PER_YEAR
        return elapsed
    week = (5.0 + 2.0 * weight) / 7.0  # of an average day
    business = _business_days(end, holidays) - _business_days(start, holidays)
    result: Array = (weight * (end - start) + (1.0 - weight) * business) / (week * DAYS_PER_YEAR)
    return result


def _business_days(instant: Array, holidays: Sequence[date]) -> Array:
    """Business days from 1970-01-01 to an instant, with the part of its own day."""
    known = np.isfinite(instant)
    day = np.floor(np.where(known, instant, 0.0))
    dates = day.astype(np.int64).astype("datetime64[D]")
    closed = np.array(holidays, "datetime64[D]")
    whole = np.busday_count(np.datetime64(0, "D"), dates, holidays=closed)
    return np.where(known, whole + (instant - day) * np.is_busday(dates, holidays=closed), np.nan)
