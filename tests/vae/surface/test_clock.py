import datetime as dt

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st

from vae.surface import clock

EPOCH = dt.date(1970, 1, 1)
INSTANTS = st.floats(10_000.0, 30_000.0)


def day(text: str, hours: float = 0.0) -> np.ndarray:
    return np.array([(dt.date.fromisoformat(text) - EPOCH).days + hours / 24.0])


def test_hours_of_the_last_day_count() -> None:
    years = clock.years(day("2024-06-03", 10.5), day("2024-06-03", 16.0))
    np.testing.assert_allclose(years, 5.5 / (365.0 * 24.0), rtol=1e-9)


@pytest.mark.parametrize(("start", "end"), [("2024-01-02", "2024-12-31"), ("2023-07-03", "2024-01-16")])
def test_business_days_are_quantlibs(start: str, end: str) -> None:
    """Its calendar of the New York exchange, with a weight of nothing for closed days."""
    calendar = ql.UnitedStates(ql.UnitedStates.NYSE)
    first, last = (ql.DateParser.parseISO(text) for text in (start, end))
    holidays = [d.to_date() for d in calendar.holidayList(first, last)]
    ours = clock.years(day(start), day(end), weight=0.0, holidays=holidays).item()
    expected = calendar.businessDaysBetween(first, last)
    assert ours * 365.0 * 5.0 / 7.0 == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(INSTANTS, INSTANTS, INSTANTS, st.floats(0.0, 1.0))
def test_time_adds_up_and_a_long_time_is_that_of_the_calendar(a: float, b: float, c: float, weight: float) -> None:
    one, two, three = np.array([a]), np.array([b]), np.array([c])

    def years(start: np.ndarray, end: np.ndarray) -> float:
        return clock.years(start, end, weight=weight).item()

    assert years(one, two) + years(two, three) == pytest.approx(years(one, three), abs=1e-9)
    assert years(one, one + 7.0 * 520.0) == pytest.approx(7.0 * 520.0 / 365.0, rel=1e-9)
    assert (years(one, two) >= 0.0) is (b >= a) or weight == 0.0


def test_closed_days_weigh_less() -> None:
    """From Friday to Monday: one day and two of the weight; a holiday on Monday weighs as little."""
    friday, tuesday = day("2024-05-24"), day("2024-05-28")
    unit = 365.0 * (5.0 + 2.0 * 0.25) / 7.0
    assert unit * clock.years(friday, tuesday, weight=0.25).item() == pytest.approx(2.5)
    memorial = [dt.date(2024, 5, 27)]
    assert unit * clock.years(friday, tuesday, weight=0.25, holidays=memorial).item() == pytest.approx(1.75)


def test_unknown_instants_are_nan() -> None:
    start, end = np.array([np.nan, 20_000.0]), np.array([20_000.0, np.nan])
    for weight in (1.0, 0.5):
        assert np.isnan(clock.years(start, end, weight=weight)).all()
