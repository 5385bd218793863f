"""How dates are written that have several readings, where other columns of their file show it.

Numbers such as 40515 may be days as Excel counts them, or 04/05/15 without a zero; 03/04/2024 is in March or in April.
Expiries tell these apart. They come after their quotes; some file says how many days after; and those of listed options
are third Fridays, which a wrong reading does not meet twice by chance, or Fridays.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.sources.columns import Array, Columns, Wanted
from vae.surface.units import DAYS_PER_YEAR

_STARTS = ("date", "snapshot")  # the first that a file has says when its rows were quoted
_LONGEST = 50.0 * DAYS_PER_YEAR  # days
_MOST = 0.95  # of the rows, as files have expired options
_FEWEST, _FEWEST_FRIDAYS = 2, 4  # different expiries that show something, and that do as Fridays of any week
_ROUNDED = 1.0  # days: of a column of days, as some count the day itself
_FRIDAY, _SATURDAY = 4, 5  # of the week; options expired on the Saturday after the third Friday until 2015
_THIRD = 15  # the earliest day of a month that is its third Friday


Mask = NDArray[np.bool_]


class _Reading(NamedTuple):
    """A reading of the columns that are unclear.

    Attributes:
        forms: of each by canonical name.
        start: days since 1970-01-01, [row].
        end: likewise.
    """

    forms: Mapping[str, str]
    start: Array
    end: Array


def settled(source: Columns, wanted: dict[str, Wanted], date: float | None) -> dict[str, Wanted]:
    """The wanted columns, with the forms of dates that are unclear where the file shows them.

    Args:
        source: the file.
        wanted: its columns by canonical name.
        date: of all rows, days since 1970-01-01; None where a column has it.
    """
    start = next((name for name in _STARTS if name in wanted), None)
    ends = [name for name in (start, "expiry") if name is not None and name in wanted]
    forms = {name: source.date_forms(wanted[name].column) for name in ends if wanted[name].date_format is None}
    unclear = {name: own for name, own in forms.items() if own}
    if "expiry" not in wanted or (start is None and date is None):  # nothing to compare them with
        only = {name: own[0] for name, own in unclear.items() if len(own) == 1}
        return {name: _in_form(one, name, only) for name, one in wanted.items()}
    readings = []
    for chosen in product(*unclear.values()):
        if len(unclear) == len(ends) and len({_of_day(form) for form in chosen}) > 1:  # a file has one order
            continue
        own = dict(zip(unclear, chosen, strict=True))
        try:
            found = [source.instants(wanted[name].column, date_format=own.get(name)) for name in ends]
        except InputError:
            continue
        readings.append(_Reading(own, found[0] if start is not None else np.full(len(found[0]), date), found[-1]))
    shown = _shown(source, [reading for reading in readings if _is_possible(reading)])
    return wanted if shown is None else {name: _in_form(one, name, shown.forms) for name, one in wanted.items()}


def _of_day(form: str) -> str:
    """A form without its time."""
    return form.partition(" %H")[0].partition(" %I")[0]


def _in_form(wanted: Wanted, name: str, forms: Mapping[str, str]) -> Wanted:
    """A column, or the offsets of one, in the form that was found."""
    form = forms.get(name.removesuffix(".offset"))
    return wanted if form is None else wanted._replace(date_format=form)


def _shown(source: Columns, readings: list[_Reading]) -> _Reading | None:
    """The one reading that the file shows; None where it shows none, or several."""
    if len(readings) == 1:
        return readings[0]
    for evidence in (_says_days, lambda _, reading: _are_third_fridays(reading), lambda _, own: _are_fridays(own)):
        found = [reading for reading in readings if evidence(source, reading)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _known(reading: _Reading) -> Mask:
    return np.isfinite(reading.start) & np.isfinite(reading.end)


def _is_possible(reading: _Reading) -> bool:
    """Whether nearly all expiries come after their quotes, within the longest tenor that there is."""
    days = (np.floor(reading.end) - np.floor(reading.start))[_known(reading)]
    return bool(len(days)) and bool(((days >= 0.0) & (days <= _LONGEST)).mean() >= _MOST)


def _says_days(source: Columns, reading: _Reading) -> bool:
    """Whether a column has the days, or years, from quote to expiry."""
    known = _known(reading)
    days = (np.floor(reading.end) - np.floor(reading.start))[known]
    if len(np.unique(days)) < _FEWEST:
        return False
    for name in source.distinct_names:
        try:
            numbers = source.numbers(name)[known]
        except InputError:
            continue
        if any((np.abs(size * numbers - days) <= _ROUNDED).all() for size in (1.0, DAYS_PER_YEAR)):
            return True
    return False


def _are_fridays(reading: _Reading) -> bool:
    """Whether quotes are of working days and all of many expiries are Fridays."""
    start, end = _days(reading)
    return len(end) >= _FEWEST_FRIDAYS and bool(
        (_weekday(start) < _SATURDAY).all() and (_weekday(end) == _FRIDAY).all()
    )


def _days(reading: _Reading) -> tuple[Array, Array]:
    """The different dates of quotes, and those of expiries."""
    start, end = (np.unique(np.floor(days[_known(reading)])) for days in (reading.start, reading.end))
    return start, end


def _are_third_fridays(reading: _Reading) -> bool:
    """Whether quotes are of working days and all of several expiries are those of listed options."""
    start, end = _days(reading)
    if len(end) < _FEWEST or (_weekday(start) >= _SATURDAY).any():
        return False
    month = end.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]")
    day, weekday = end - month.astype(np.int64) + 1, _weekday(end)
    third = (day - (weekday == _SATURDAY) >= _THIRD) & (day - (weekday == _SATURDAY) < _THIRD + 7)
    return bool((third & np.isin(weekday, (_FRIDAY, _SATURDAY))).all())


def _weekday(days: Array) -> Array:
    """The day of the week, 0 for Mondays; 1970-01-01 was a Thursday."""
    return (days + 3) % 7
