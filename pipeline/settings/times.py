"""Times of day and time zones in params.yaml, as text."""

import datetime as dt
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone, such as America/New_York or UTC") from error


def part_of_day(text: str) -> float:
    """A time of day, hours and minutes before a blank, as a part of the day.

    Raises:
        ValueError: it is none.

    >>> part_of_day("06:00 America/New_York")
    0.25
    """
    try:
        moment = dt.datetime.strptime(text.partition(" ")[0], "%H:%M")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time of day, such as '16:00' or '16:00 America/New_York'") from error
    return (60 * moment.hour + moment.minute) / 1440.0


def zone_in(text: str) -> ZoneInfo | None:
    """The zone behind a time of day, None where there is none.

    Raises:
        ValueError: it is no zone.
    """
    zone = text.partition(" ")[2]
    return zone_of(zone) if zone else None


def _time_of_day(text: str) -> str:
    part_of_day(text)
    zone_in(text)
    return text


def _zone(name: str) -> str:
    zone_of(name)
    return name


TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Zone = Annotated[str, AfterValidator(_zone)]
