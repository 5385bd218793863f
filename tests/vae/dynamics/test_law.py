"""The law of motion: arithmetic with known answers, no look-ahead, and an exact linear Gaussian process."""

import itertools
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vae.dynamics.histories import wild_history
from vae.dynamics import law as motion
from vae.dynamics.fit import FEWEST_DATES, History, walk
from vae.dynamics.law import FORMS, Array, passed, scenarios
from vae.dynamics.shrunken import ShrunkenRegressions

_EPOCH = date(1970, 1, 1)


@given(st.integers(-30_000, 60_000), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_days_of_the_week_are_those_of_the_calendar(first: int, gaps: list[int]) -> None:
    days = first + np.cumsum([0, *gaps])
    for step, (start, stop) in enumerate(itertools.pairwise(days)):
        through = [(_EPOCH + timedelta(int(day))).weekday() for day in range(start + 1, stop + 1)]
        assert passed(days)[step].tolist() == np.bincount(through, minlength=7).tolist()


def test_filtered_historical_simulation_is_that_of_the_paper() -> None:
    history = wild_history(with_price=True, rank=4)
    assert history.log_price is not None
    walked = walk(history, FORMS["filtered_historical"])
    points = np.column_stack([history.coordinates @ history.basis.T, history.log_price])
    changes = np.diff(points, axis=0)
    variance = np.square(changes[:20]).mean(axis=0)
    expected = []
    for change in changes:
        expected.append(change / np.sqrt(variance))
        variance = 0.94 * variance + 0.06 * change**2
    np.testing.assert_allclose(walked.law().shocks, expected[20:], rtol=1e-12)
    drawn = scenarios(walked.law(), walked.state(), [np.zeros(7)], np.arange(len(changes) - 20)[:, None])
    moved = np.column_stack([drawn.coordinates[:, 0] @ history.basis.T, drawn.log_return])
    today = np.r_[points[-1, :-1], 0.0]
    np.testing.assert_allclose(moved, today + np.sqrt(variance) * np.array(expected[20:]), rtol=1e-9, atol=1e-12)


_ELASTICITY = np.array([[-1.0, 0.5, 1.5, 0.0, 2.0], [0.3, 0.0, 0.0, -0.4, 1.0], [0.0] * 5])  # [R, points and return]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_price", [False, True])
def test_the_future_changes_nothing_of_the_past(form: str, *, with_price: bool) -> None:
    history, now = wild_history(with_price=with_price), 130
    order = np.r_[: now + 1, np.random.default_rng(1).permutation(np.arange(now + 1, len(history.days)))]
    other = history._replace(
        coordinates=3.0 * history.coordinates[order],
        log_price=None if history.log_price is None else history.log_price[order],
    )
    other.coordinates[: now + 1] = history.coordinates[: now + 1]
    before, after = (walk(one, FORMS[form]) for one in (history, other))
    assert not np.array_equal(before.law().shocks, after.law().shocks)
    for one, two in zip((*before.law(now), *before.state(now)), (*after.law(now), *after.state(now)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("elasticity", [None, _ELASTICITY])
@pytest.mark.parametrize("form", FORMS)
def test_the_filter_follows_the_walk(form: str, elasticity: Array | None) -> None:
    history, now = wild_history(with_price=True), 120
    walked = walk(history, FORMS[form], elasticity)
    law = walked.law(now)
    state = motion.advanced(law, walked.state(now), walked.weeks[now], history.moves[now])
    for found, expected in zip(state, walked.state(now + 1), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert law.has_return


def test_a_path_depends_on_its_own_numbers_only() -> None:
    walked = walk(wild_history(with_price=True), FORMS["reverting"])
    places = motion.draw(walked.law(), np.random.default_rng(0).random((9, 4)))
    weeks = passed(np.array([0, 1, 4, 5, 6]))
    whole = scenarios(walked.law(), walked.state(), weeks, places)
    part = scenarios(walked.law(), walked.state(), weeks, places[3:5])
    np.testing.assert_allclose(whole.coordinates[3:5], part.coordinates, rtol=1e-13)
    np.testing.assert_allclose(whole.log_return[3:5], part.log_return, rtol=1e-13)


def test_old_shocks_are_drawn_less_often_and_where_there_is_a_mean_they_have_none() -> None:
    walked = walk(wild_history(with_price=True), FORMS["reverting"])
    law, uniform = walked.law(), (np.arange(1_000_000) + 0.5) / 1_000_000
    share = np.bincount(motion.draw(law, uniform), minlength=len(law.shocks)) / len(uniform)
    age = np.arange(len(law.shocks))[::-1]
    weights = 0.5 ** (age / 250.0)
    np.testing.assert_allclose(share, weights / weights.sum(), rtol=2e-3)
    np.testing.assert_allclose(share @ law.shocks, 0.0, atol=1e-4)
    ends = np.array([1e-7, 1.0])
    assert motion.draw(law, ends).tolist() == [len(age) - 1, 0]
    still = walk(wild_history(with_price=True), FORMS["filtered_historical"]).law()
    assert np.ptp(np.bincount(motion.draw(still, uniform))) <= 1
    assert np.abs(still.shocks.mean(axis=0)).max() > 0.01


def test_a_path_takes_its_first_candidate_without_static_arbitrage() -> None:
    """Of two steps; a path none of whose candidates is free takes the last one."""
    walked = walk(wild_history(with_price=True), FORMS["reverting"])
    law, state, weeks = walked.law(), walked.state(), passed(np.array([0, 1, 4]))
    uniform = 1.0 - np.random.default_rng(0).random((50, 2, 4))
    limit = state.coordinates[0]

    def below(coordinates: Array) -> NDArray[np.bool_]:
        return coordinates[:, 0] < limit

    places = motion.choose(law, state, weeks, uniform, below)
    reached = scenarios(law, state, weeks, places).coordinates[..., 0]
    for path in range(50):
        taken: list[int] = []
        for step in range(2):
            for candidate in motion.draw(law, uniform[path, step]):
                tried = np.array([[*taken, candidate]])
                if scenarios(law, state, weeks[: step + 1], tried).coordinates[0, step, 0] < limit:
                    break
            taken.append(int(candidate))
        assert places[path].tolist() == taken
    assert 0.5 < (reached < limit).mean() < 1.0
    every = motion.choose(law, state, weeks, uniform, lambda coordinates: np.ones(len(coordinates), bool))
    np.testing.assert_array_equal(every, motion.draw(law, uniform[..., 0]))


def test_a_wild_day_widens_the_next_band() -> None:
    walked = walk(wild_history(with_price=False), FORMS["reverting"])
    law, state, week = walked.law(), walked.state(), np.zeros(7)
    calm, wild = (
        motion.forecast(law, motion.advanced(law, state, week, np.full(3, size)), week).deviation for size in (0.0, 0.5)
    )
    assert (wild > 1.5 * calm).all()


def test_log_deviations_are_linear_in_the_coordinates() -> None:
    """With a decay of 1, on all dates and on the dates of a path, whatever the moves were."""
    history = wild_history(with_price=True)
    walked = walk(history, FORMS["historical"], _ELASTICITY)
    week, places = np.zeros((5, 7)), np.arange(5)[None]
    paths = scenarios(walked.law(), walked.state(), week, places)
    state = walked.state()
    for step in range(5):
        moved = motion.to_coordinates(history.basis, motion.deviation(state.variances) * walked.law().shocks[step])
        state = motion.advanced(walked.law(), state, week[step], moved)
    np.testing.assert_allclose(state.coordinates, paths.coordinates[0, -1])
    first = motion.deviation(walked.states.variances[0])
    for coordinates, variances in (
        (history.coordinates, walked.states.variances),
        (state.coordinates, state.variances),
    ):
        expected = first * np.exp((coordinates - history.coordinates[0]) @ _ELASTICITY)
        np.testing.assert_allclose(motion.deviation(variances), expected, rtol=1e-9)


@pytest.mark.slow
def test_mean_of_an_exact_process_is_found() -> None:
    """A move is -0.4 of the decayed moves before it, and 0.3 deviations more on Fridays, with normal noise."""
    random = np.random.default_rng(5)
    days = np.array([day for day in range(6000) if (day + 3) % 7 < 5])
    weeks, recent, moves = passed(days), np.zeros(2), []
    for week in weeks:
        move = -0.4 * recent + 0.003 * week[4] + 0.01 * random.standard_normal(2)
        moves.append(move)
        recent = 0.4 * (recent + move)
    history = History(np.cumsum([np.zeros(2), *moves], axis=0), days, np.eye(2))
    walked = walk(history, FORMS["reverting"])
    law, state = walked.law(), walked.state()
    state = state._replace(recent=np.array([0.004, -0.004]))
    for day, drift in ((4, 0.003), (2, 0.0)):
        mean = motion.forecast(law, state, np.eye(7)[day]).mean
        np.testing.assert_allclose(mean, -0.4 * state.recent + drift, atol=0.0008)
    np.testing.assert_allclose(walked.states.variances[500:].mean(axis=(0, 1)), 1e-4, rtol=0.05)
    np.testing.assert_allclose(
        np.quantile(law.shocks, (0.05, 0.95), axis=0), np.outer((-1.645, 1.645), np.ones(2)), rtol=0.1
    )


def test_the_strongest_penalty_wins_where_nothing_can_be_forecast() -> None:
    random = np.random.default_rng(2)
    regressions = ShrunkenRegressions(1, np.array([[0.1, 0.1], [1e9, 1e9]]))
    for _ in range(400):
        regressions.learn(random.standard_normal((1, 2)), random.standard_normal(1), np.ones(1))
    free = ShrunkenRegressions(1, np.array([[0.1, 0.1]]))
    for _ in range(400):
        free.learn(random.standard_normal((1, 2)), random.standard_normal(1), np.ones(1))
    assert np.abs(regressions.coefficients).max() < 0.5 * np.abs(free.coefficients).max()


def test_too_few_dates_are_refused() -> None:
    history = History(np.zeros((3, 1)), np.arange(3), np.eye(1))
    with pytest.raises(ValueError, match=rf"3 dates, but a law of motion needs {FEWEST_DATES}"):
        walk(history, FORMS["reverting"])
    still = History(np.zeros((FEWEST_DATES, 1)), np.zeros(FEWEST_DATES, int), np.eye(1))
    with pytest.raises(ValueError, match="one surface a date"):
        walk(still, FORMS["reverting"])


def test_points_outside_of_the_basis_are_left() -> None:
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 2)))[0]
    moves = np.array([0.1, -0.2, 0.3])
    np.testing.assert_allclose(motion.to_coordinates(basis, motion.to_points(basis, moves)), moves, atol=1e-15)
    across = np.linalg.svd(basis)[0][:, 2]
    np.testing.assert_allclose(motion.to_coordinates(basis, across), 0.0, atol=1e-15)
