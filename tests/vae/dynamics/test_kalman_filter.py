"""The filter against exact conditioning of the joint Gaussian, and beliefs whose errors depend on each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vae.dynamics import kalman_filter
from vae.dynamics.fit import History, walk
from vae.dynamics.kalman_filter import Belief, Known, LogQuotes, TimeStep
from vae.dynamics.law import FORMS, MOVE_DECAY, Array, Law, LawState, advanced, forecast

_POINTS, _RANK = 5, 4
_DAY = TimeStep(np.zeros(7), 1.0)
_NOISE = 1e-4


def _law(*, with_return: bool = False) -> Law:
    """A random walk with correlated moves, whose variances do not change."""
    random = np.random.default_rng(1)
    basis = np.linalg.qr(random.standard_normal((_POINTS, _RANK)))[0]
    moves, points = _RANK + with_return, _POINTS + with_return
    shocks = random.standard_normal((50, points)) @ random.standard_normal((points, points))
    return Law(basis, np.zeros((moves, 2 + with_return)), np.zeros((moves, 7)), np.ones(1), np.ones(1), shocks)


def _known(law: Law) -> Known:
    moves, points = len(law.reversal), law.shocks.shape[1]
    state = LawState(np.linspace(-0.1, 0.2, _RANK), np.zeros(moves), np.full((1, points), 1e-4))
    return Known(state, 1e-6 * np.eye(_RANK))


def _at(points: list[int], log_vols: Array) -> LogQuotes:
    """Quotes at points of the grid, which log vols are linear in."""
    return LogQuotes(log_vols[points], np.full(len(points), 1.0 / _NOISE), np.eye(_POINTS)[points])


def _covariance(law: Law) -> Array:
    """Of a move of coordinates and return."""
    basis, rank = law.basis, law.basis.shape[1]
    projected = np.concatenate([law.shocks[:, :_POINTS] @ basis, law.shocks[:, _POINTS:]], axis=1)
    assert rank == _RANK
    return 1e-4 * projected.T @ projected / len(projected)


def test_a_filter_is_the_conditional_law_of_all_dates_given_all_quotes() -> None:
    law, center = _law(), np.log(np.linspace(0.15, 0.3, _POINTS))
    known, moving, random = _known(law), _covariance(law), np.random.default_rng(2)
    sets, log_vols = ([0, 3], [1], [0, 2, 4]), center + 0.03 * random.standard_normal((3, _POINTS))
    # the coordinates of three dates as one vector: what they start from and the moves up to each date
    covariance = np.kron(np.ones((3, 3)), known.covariance) + np.kron(np.minimum.outer([1, 2, 3], [1, 2, 3]), moving)
    mean = np.tile(known.state.coordinates, 3)
    slopes = np.zeros((6, 3 * _RANK))
    seen = np.concatenate([row[points] - center[points] for row, points in zip(log_vols, sets, strict=True)])
    for quote, (date, point) in enumerate((date, point) for date, points in enumerate(sets) for point in points):
        slopes[quote, _RANK * date : _RANK * (date + 1)] = law.basis[point]
    gain = covariance @ slopes.T @ np.linalg.inv(slopes @ covariance @ slopes.T + _NOISE * np.eye(6))
    expected, left = mean + gain @ (seen - slopes @ mean), covariance - gain @ slopes @ covariance

    for row, points in zip(log_vols, sets, strict=True):
        found = kalman_filter.filtered(law, known, _DAY, _at(points, row), center)
        known = found.known
    np.testing.assert_allclose(known.state.coordinates, expected[-_RANK:], rtol=1e-8)
    np.testing.assert_allclose(known.covariance, left[-_RANK:, -_RANK:], atol=1e-12)


def test_the_misfit_is_the_chi_square_of_the_quotes_under_the_forecast() -> None:
    law, center = _law(), np.log(np.full(_POINTS, 0.2))
    known = _known(law)
    row, points = center + 0.05, [0, 2]
    error = 0.05 - (law.basis @ known.state.coordinates)[points]
    spread = law.basis[points] @ (_covariance(law) + known.covariance) @ law.basis[points].T + _NOISE * np.eye(2)
    found = kalman_filter.filtered(law, known, _DAY, _at(points, row), center)
    assert found.misfit == pytest.approx(error @ np.linalg.solve(spread, error))


def test_a_whole_surface_moves_the_state_as_the_law_does() -> None:
    """Quotes at all points without noise are the next surface itself."""
    random = np.random.default_rng(3)
    basis = np.linalg.qr(random.standard_normal((_POINTS, _POINTS)))[0]
    history = History(np.cumsum(0.02 * random.standard_normal((150, _POINTS)), axis=0), np.arange(150), basis)
    walked = walk(history, FORMS["reverting"], np.linspace(-1.0, 2.0, _POINTS**2).reshape(_POINTS, -1))
    law, week = walked.law(), np.array([1.0, 0, 0, 0, 0, 1.0, 1.0])
    move = 0.02 * random.standard_normal(_POINTS)
    expected = advanced(law, walked.state(), week, move)
    quotes = LogQuotes(basis @ expected.coordinates, np.full(_POINTS, 1e12), np.eye(_POINTS))
    known = Known(walked.state(), np.zeros((_POINTS, _POINTS)))
    found = kalman_filter.filtered(
        kalman_filter.compact(law), known, TimeStep(week, 1.0), quotes, np.zeros(_POINTS)
    ).known
    for one, other in zip(found.state, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert np.abs(found.covariance).max() < 1e-11


def test_vols_between_points_are_matched_although_they_are_not_linear() -> None:
    """A precise quote of a far surface, whose squared vol is a mean of squared vols, is met."""
    law, center = _law(), np.log(np.full(_POINTS, 0.2))
    weights = np.array([[0.2, 0.5, 0.3, 0.0, 0.0]])
    quotes = LogQuotes(np.log([0.27]), np.array([1e10]), weights)
    found = kalman_filter.filtered(law, _known(law), _DAY, quotes, center).known
    vols, _ = kalman_filter.at_quotes(law, found.state.coordinates, found.covariance, quotes, center)
    assert vols[0] == pytest.approx(0.27, rel=1e-3)


def test_a_return_moves_the_surface_by_its_regression() -> None:
    law, center = _law(with_return=True), np.zeros(_POINTS)
    known, moving = _known(law), _covariance(law)
    nothing = LogQuotes(np.zeros(1), np.zeros(1), np.eye(_POINTS)[:1])
    found = kalman_filter.filtered(law, known, _DAY, nothing, center, 0.03).known
    expected = known.state.coordinates + moving[:_RANK, _RANK] / moving[_RANK, _RANK] * 0.03
    np.testing.assert_allclose(found.state.coordinates, expected, rtol=1e-6)
    assert found.state.recent[_RANK] == pytest.approx(MOVE_DECAY * 0.03, rel=1e-6)


def test_without_quotes_only_the_covariance_grows() -> None:
    law = _law()
    known, nothing = _known(law), LogQuotes(np.zeros(1), np.zeros(1), np.eye(_POINTS)[:1])
    waited = kalman_filter.waited(law, known, [_DAY, _DAY])
    np.testing.assert_allclose(waited.covariance, known.covariance + 2.0 * _covariance(law))
    half = TimeStep(np.zeros(7), 0.5)
    found = known
    for _ in range(4):
        found = kalman_filter.filtered(law, found, half, nothing, np.zeros(_POINTS)).known
    np.testing.assert_allclose(found.covariance, waited.covariance, rtol=1e-9)
    for one, other in zip(found.state, waited.state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


_CUTS = st.lists(st.floats(0.01, 0.99), max_size=6, unique=True)


@pytest.mark.slow
@given(_CUTS, st.booleans())
def test_parts_of_a_step_add_up_to_the_step(cuts: list[float], quoted: bool) -> None:  # noqa: FBT001  by hypothesis
    """Without quotes the law after two steps is the same, to rounding, wherever these are cut."""
    law = _reverting(_law(with_return=True))
    law = law._replace(
        decays=np.array([0.9, 0.98]), elasticity=np.linspace(-1.0, 2.0, _RANK * (_POINTS + 1)).reshape(_RANK, -1)
    )
    known = _known(law)
    variances = np.array([[4e-4], [1e-4]]) * np.linspace(0.5, 1.5, _POINTS + 1)
    recent = np.linspace(-0.05, 0.08, _RANK + 1)
    known = known._replace(state=known.state._replace(recent=recent, variances=variances))
    week, nothing = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]), LogQuotes(*np.zeros((2, 1)), np.eye(_POINTS)[:1])
    ends = [*sorted(cuts), 1.0]
    parts = [
        TimeStep((end - start) * week, end - start, ends=end == 1.0)
        for start, end in zip([0.0, *ends], ends, strict=False)
    ]
    whole = kalman_filter.waited(law, known, [TimeStep(week, 1.0)] * 2)
    if quoted:  # by quotes that say nothing
        found = known
        for step in parts * 2:
            found = kalman_filter.filtered(law, found, step, nothing, np.zeros(_POINTS)).known
    else:
        found = kalman_filter.waited(law, known, parts * 2)
    np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-9)
    np.testing.assert_allclose(found.moved, 0.0)
    for one, other in zip(found.state, whole.state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def _reverting(law: Law) -> Law:
    """The law with a mean of every kind."""
    return law._replace(reversal=np.full(law.reversal.shape, -0.1), calendar=np.full(law.calendar.shape, 0.002))


def test_a_mean_is_that_of_the_forecast() -> None:
    law = _reverting(_law())
    known = _known(law)
    known = known._replace(state=known.state._replace(recent=np.full(_RANK, 0.05)))
    week = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    waited = kalman_filter.waited(law, known, [TimeStep(week, 1.0)]).state
    mean = forecast(law, known.state, week).mean
    np.testing.assert_allclose(waited.coordinates, known.state.coordinates + mean)
    np.testing.assert_allclose(waited.recent, MOVE_DECAY * (known.state.recent + mean))


def test_doubt_is_the_part_of_a_day_that_moves_as_far_as_the_surface_misses() -> None:
    law = _law(with_return=True)
    state, moving = _known(law).state, _covariance(law)[:_RANK, :_RANK]
    moved = np.sqrt(np.diag(law.basis @ moving @ law.basis.T).mean())
    own = [1e-6 * np.eye(_RANK), np.zeros((_RANK, _RANK))]
    for size in (0.0, 0.3, 0.99):
        found = kalman_filter.doubted(law, state, own, np.full(_POINTS, size * moved))
        assert found is not None
        for covariance, before in zip(found, own, strict=True):
            np.testing.assert_allclose(covariance, before + size**2 * moving, rtol=1e-9, atol=1e-15)
    crooked = [np.triu(one) + np.nextafter(np.tril(one, -1), np.inf) for one in own]  # by the rounding of products
    for one in kalman_filter.doubted(law, state, crooked, np.full(_POINTS, 0.5 * moved)) or ():
        np.testing.assert_array_equal(one, one.T)  # or the state could be written and not be read
    assert kalman_filter.doubted(law, state, own, np.full(_POINTS, 1.01 * moved)) is None
    still = state._replace(variances=np.zeros_like(state.variances))
    assert kalman_filter.doubted(law, still, own, np.full(_POINTS, 1e-9)) is None
    assert kalman_filter.doubted(law, still, own, np.zeros(_POINTS)) is not None


def _spread(root: Array) -> Array:
    return root @ root.T + 1e-3 * np.eye(len(root))


_ROOTS = arrays(np.float64, (3, 3), elements=st.floats(-2.0, 2.0))


@pytest.mark.slow
@given(_ROOTS, _ROOTS, arrays(np.float64, 3, elements=st.floats(-5.0, 5.0)))
def test_an_intersection_is_as_sure_as_the_surer_belief_or_the_quotes_alone(
    past: Array, alone: Array, apart: Array
) -> None:
    first, second = Belief(np.zeros(3), _spread(past)), Belief(apart, _spread(alone))
    found = kalman_filter.intersection(first, second, 1e-6)
    stale = first.covariance.trace() > 2.5 * second.covariance.trace()
    surer = second.covariance.trace() if stale else min(first.covariance.trace(), second.covariance.trace())
    assert found.covariance.trace() <= surer * (1.0 + 1e-9)
    assert np.linalg.eigvalsh(found.covariance)[0] > -1e-9
    if stale:
        assert found is second


@given(arrays(np.float64, (6, 6), elements=st.floats(-1.0, 1.0)))
def test_an_intersection_is_not_surer_than_it_may_be_whatever_the_dependence(root: Array) -> None:
    """Two estimates of 0 with any joint covariance: the claimed covariance is at least that of the result."""
    joint = root @ root.T + 1e-2 * np.eye(6)
    parts = [joint[:3, :3], joint[3:, 3:]]
    gains = np.zeros((3, 6))
    for place in range(6):  # the result is linear in the two means, as long as both agree
        means = 1e-3 * np.eye(6)[place]
        beliefs = [Belief(mean, part) for mean, part in zip(np.split(means, 2), parts, strict=True)]
        found = kalman_filter.intersection(*beliefs, 1e-9)
        gains[:, place] = 1e3 * found.mean
    np.testing.assert_allclose(gains @ np.tile(np.eye(3), (2, 1)), np.eye(3), atol=1e-8)
    assert np.linalg.eigvalsh(found.covariance - gains @ joint @ gains.T)[0] > -1e-7


def test_of_two_beliefs_that_disagree_the_surer_one_counts() -> None:
    sure, wrong = Belief(np.zeros(2), 1e-4 * np.eye(2)), Belief(np.full(2, 5.0), np.diag([4e-4, 2e-5]))
    assert kalman_filter.intersection(sure, wrong, 1e-9) is sure
    agreeing = Belief(np.zeros(2), wrong.covariance)
    assert kalman_filter.intersection(sure, agreeing, 1e-9).covariance[1, 1] < 9e-5
