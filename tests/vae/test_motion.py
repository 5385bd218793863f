"""Scenarios of a bundle that start where quotes have led, and those whose return is given."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from vae import motion
from vae.dynamics import law as law_of_motion
from vae.dynamics.law import MOVE_DECAY, followed, forecast, to_points
from vae.motion import MOST_GIVEN_STEPS, working_days
from vae.runtime import Scenarios, State, SurfaceModel
from vae.surface.arbitrage import block_count
from vae.surface.grid import Grid

_QUOTES = {"tenor": np.array([0.1, 0.5]), "log_moneyness": np.array([0.0, 0.05])}

pytestmark = pytest.mark.slow  # the bundle is exported


@pytest.fixture(scope="module")
def model(moving_bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(moving_bundle, provider="cpu", threads=1)


def test_paths_start_at_draws_from_the_law_of_the_state(model: SurfaceModel) -> None:
    """The same seed draws the same moves, so that what parts the paths is their start.

    The law is narrowed, as a start in a corner of a wide one makes arbitrage likelier, so that its path is drawn again.
    """
    state = model.complete([0.21, 0.2], **_QUOTES, previous=model.state).state
    assert state is not None
    narrow, count = 0.01, 20_000
    starts = (state._replace(spread=np.float32(size) * state.spread) for size in (narrow, 0.0))
    drawn, from_the_mean = (model.scenarios(each, n=count, seed=3) for each in starts)
    same = (drawn.shocks == from_the_mean.shocks)[:, 0]
    assert same.mean() > 0.99
    apart = (np.log(drawn.iv) - np.log(from_the_mean.iv))[same].reshape(same.sum(), -1) / narrow
    apart = apart.astype(float)
    basis = np.array(model.manifest["dynamics"]["law"]["basis"])
    covariance = basis @ state.spread @ state.spread.T @ basis.T
    deviation = np.sqrt(np.diag(covariance))
    assert (np.abs(apart.mean(axis=0)) < 5.0 * deviation / np.sqrt(count)).all()
    scale = np.outer(deviation, deviation)
    np.testing.assert_allclose(np.cov(apart.T) / scale, covariance / scale, atol=7.0 / np.sqrt(count))
    # the uncertainty of completions, less the noise of quotes, is that of the start
    noise = float(model.manifest["dynamics"]["noise"])
    found = model.complete([0.21, 0.2], **_QUOTES, previous=model.state)
    np.testing.assert_allclose(found.std.ravel() / found.iv.ravel(), np.hypot(deviation, noise), rtol=1e-4)


def test_a_path_within_a_day_moves_by_what_is_left_of_it(model: SurfaceModel) -> None:
    """The mean of a move in proportion to that part, its deviation to the root; the next day is whole.

    The same seed draws the same moves, but for the few paths where one of the two surfaces has arbitrage.
    """
    close = model.state
    later = close._replace(elapsed=0.75)
    whole, part = (model.scenarios(each, days=2, n=20_000, seed=4) for each in (close, later))
    same = (part.shocks[:, 0] == whole.shocks[:, 0]).nonzero()[0]
    assert len(same) > 0.99 * 20_000
    for full, quarter in (
        (whole.log_return[same, 0], part.log_return[same, 0]),
        *zip(*(np.log(each.iv[same, 0] / close.iv).reshape(len(same), -1).T for each in (whole, part)), strict=True),
    ):
        mean, deviation = full.mean(dtype=float), full.std(dtype=float)
        assert quarter.std(dtype=float) == pytest.approx(0.5 * deviation, rel=1e-3)
        assert quarter.mean(dtype=float) == pytest.approx(0.25 * mean, abs=4.0 * deviation / np.sqrt(20_000))
    second = [np.diff(each.log_return, axis=1)[:, 0].std(dtype=float) for each in (whole, part)]
    assert second[1] == pytest.approx(second[0], rel=0.1)


def test_a_path_that_starts_within_a_day_has_the_state_of_the_filter_at_its_close(model: SurfaceModel) -> None:
    """Moves of the morning are recent ones at the close, and variances learn from the afternoon as from a part."""
    moving, left = model._moving, 0.25
    law, known = moving._law, model.state
    state = known._replace(elapsed=1.0 - left, moved=np.full_like(known.recent, 0.01))
    days = [dt.date(2020, 6, 1)]
    (step,) = moving._steps(state, days, 50, 4, 0, ("log_return",))
    log_return, coordinates, recent, variances = (part.astype(float) for part in step)
    move = np.concatenate([coordinates - state.coordinates, log_return[:, None]], axis=1)
    np.testing.assert_allclose(recent, MOVE_DECAY * (state.recent + state.moved + move), rtol=1e-4, atol=1e-6)
    before = law_of_motion.LawState(
        *(np.asarray(part, float) for part in (state.coordinates, state.recent, state.variances))
    )
    week = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])  # from a Friday to a Monday
    innovation = to_points(law.basis, move - left * forecast(law, before, week).mean)
    kept = law.decays[:, None] ** left
    expected = kept * before.variances + (1.0 - kept) * np.square(innovation)[:, None] / left
    expected *= followed(law.elasticity, coordinates - state.coordinates + state.moved[: len(known.coordinates)])
    np.testing.assert_allclose(variances, expected, rtol=2e-3)


def test_paths_from_a_whole_surface_start_there(model: SurfaceModel) -> None:
    state = model.next_state(model.state.iv, dt.date(2020, 6, 1), log_return=0.0)
    for each in (model.state, state):
        assert not each.spread.any()
        paths = model.scenarios(each, n=3, seed=1)
        np.testing.assert_array_equal(paths.iv, model.scenarios(each._replace(elapsed=0.0), n=3, seed=1).iv)


@pytest.mark.parametrize("log_return", [None, -0.01])
def test_a_path_depends_on_its_seed_and_number_only(model: SurfaceModel, log_return: float | None) -> None:
    state = model.complete([0.21, 0.2], **_QUOTES, previous=model.state).state
    whole = model.scenarios(state, 2, 9, seed=5, offset=2, log_return=log_return)
    part = model.scenarios(state, 2, 4, seed=5, offset=5, log_return=log_return)
    np.testing.assert_allclose(part.iv, whole.iv[3:7], rtol=1e-6)
    np.testing.assert_allclose(part.log_return, whole.log_return[3:7], atol=1e-8)
    np.testing.assert_array_equal(part.shocks, whole.shocks[3:7])
    assert part.effective_size == whole.effective_size
    other = model.scenarios(state, 2, 4, seed=6, offset=5, log_return=log_return)
    assert (other.shocks != part.shocks).any()


def test_few_paths_of_many_steps_are_those_among_many(model: SurfaceModel) -> None:
    """From number 2^53 on, which steps beyond the eighth had, onnxruntime makes other counts of random rows than asked.

    That ended in an error, or the process, for counts that are no multiple of eight.
    """
    many, few = (model.scenarios(days=12, n=n, seed=5) for n in (16, 3))
    np.testing.assert_array_equal(few.shocks, many.shocks[:3])
    np.testing.assert_array_equal(few.iv, many.iv[:3])
    with pytest.raises(ValueError, match=r"offset is 1099511627774; allowed: 0 to 2\^40 less the number of paths"):
        model.scenarios(n=3, offset=2**40 - 2, seed=5)


@pytest.mark.parametrize("days", [1, 3])
def test_a_given_return_is_that_of_all_paths(model: SurfaceModel, days: int) -> None:
    """Their surfaces are those of the other paths whose returns are near the given one."""
    many = model.scenarios(days=days, n=40_000, seed=1)
    returns = many.log_return[:, -1]
    asked = float(np.quantile(returns, 0.2))
    found = model.scenarios(days=days, n=4000, seed=2, log_return=asked)
    np.testing.assert_allclose(found.log_return[:, -1], asked, rtol=1e-6)
    assert found.effective_size is not None
    near = np.abs(returns - asked) < 0.2 * returns.std()
    brute, given = (np.log(each.iv[:, -1]).reshape(len(each.iv), -1) for each in (many, found))
    sizes = np.array([found.effective_size, len(np.unique(many.shocks[near], axis=0)), len(given)])
    error = 4.0 * brute[near].std(axis=0) * np.sqrt((1.0 / sizes).sum())
    assert (np.abs(given.mean(axis=0) - brute[near].mean(axis=0)) < error).all()
    assert found.iv.dtype == np.float32
    assert many.effective_size is None


def _near_arbitrage(model: SurfaceModel, ratio: float) -> State:
    """A state whose longer smile has so much total variance for that of the shorter one; below 1 it has arbitrage."""
    tenors = model.grid.tenors
    iv = np.full(model.grid.shape, 0.3, np.float32)
    iv[1] *= np.sqrt(ratio * tenors[0] / tenors[1])
    return model.next_state(iv, dt.date(2020, 6, 1), log_return=0.0)


def _measured(found: Scenarios, model: SurfaceModel) -> np.ndarray:
    return found._replace(known_free=None).arbitrage_free(model.grid)


def test_a_long_measurement_of_arbitrage_can_be_ended() -> None:
    """As the server does at the deadline of a request."""
    grid, looks = Grid([0.5, 1.0], [-0.2, 0.0, 0.2]), []
    found = Scenarios(np.full((700, 2, *grid.shape), 0.2, np.float32), np.zeros((700, 2)), (), np.zeros((700, 2)))

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        found.arbitrage_free(grid, check=check)
    assert found.arbitrage_free(grid, slice(-1, None), check=check).tolist() == [[True]] * 700
    assert len(looks) == 2 + block_count(700), "once a block"


@pytest.mark.parametrize("elapsed", [0.0, 0.5])
def test_surfaces_that_still_have_arbitrage_are_told(model: SurfaceModel, elapsed: float) -> None:
    """Where no candidate is free of it, a path says so, and all others are free, within a day too."""
    state = _near_arbitrage(model, 0.98)._replace(elapsed=elapsed)
    found = model.scenarios(state, days=2, n=4000, seed=1)
    free, measured = found.arbitrage_free(model.grid), _measured(found, model)
    assert 0.01 < free[:, 0].mean() < 0.99
    assert measured[free].all()
    assert (free != measured).mean() < 1e-3  # single precision is stricter by a fifth of the tolerance
    np.testing.assert_array_equal(found.arbitrage_free(model.grid, slice(-1, None)), free[:, 1:])
    hopeless = model.scenarios(_near_arbitrage(model, 0.5), n=50, seed=1)
    assert not hopeless.arbitrage_free(model.grid).any()
    assert model.scenarios(_near_arbitrage(model, 2.0), n=500, seed=1).arbitrage_free(model.grid).mean() > 0.99


def test_surfaces_of_a_given_return_are_drawn_without_arbitrage_too(model: SurfaceModel) -> None:
    state = _near_arbitrage(model, 1.02)
    found = model.scenarios(state, days=2, n=2000, seed=1, log_return=0.005)
    free = found.arbitrage_free(model.grid)
    np.testing.assert_array_equal(free, _measured(found, model))
    assert 0.9 < free.all(axis=1).mean() < 1.0
    chance = model.scenarios(_near_arbitrage(model, 2.0), days=2, n=1, seed=1, log_return=0.005)
    assert found.effective_size < 0.9 * chance.effective_size  # less than without arbitrage, whatever n
    assert model.scenarios(state, days=2, n=1, seed=1, log_return=0.005).effective_size == found.effective_size
    with pytest.raises(ValueError, match=r"log_return is 0\.02, .* without static arbitrage are worth 4\.8; al"):
        model.scenarios(state, days=2, n=1, seed=1, log_return=0.02)
    hopeless = model.scenarios(_near_arbitrage(model, 0.5), n=50, seed=1, log_return=0.005)
    assert not hopeless.arbitrage_free(model.grid).any()


def test_paths_of_a_given_return_are_measured_with_the_deadline_in_view(
    model: SurfaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, looks = motion._are_free, []
    monkeypatch.setattr(motion, "_are_free", lambda iv, grid, check: looks.append(check) or measure(iv, grid, check))
    model.checked(_look).scenarios(n=20, days=2, seed=1, log_return=0.005)
    assert set(looks) == {_look}


def _look() -> None:
    pass


def test_surfaces_of_a_bundle_that_does_not_tell_are_measured(
    moving_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles of earlier versions, and those of grids in deltas."""
    model = SurfaceModel.load(moving_bundle, provider="cpu", threads=1)
    state = _near_arbitrage(model, 0.98)
    expected = _measured(model.scenarios(state, n=300, seed=1), model)
    monkeypatch.setattr(model._moving, "_free_output", ())
    found = model.scenarios(state, n=300, seed=1)
    assert found.known_free is None
    np.testing.assert_array_equal(found.arbitrage_free(model.grid), expected)
    assert 0 < expected.sum() < 300


def test_what_no_law_can_say_is_refused_in_one_line(model: SurfaceModel) -> None:
    for wrong, message in (
        (
            {"log_return": -0.5},
            r"log_return is -0\.5, and 0\.0 of the paths that the law of motion draws lie near it",
        ),
        ({"log_return": float("nan")}, "log_return is nan; allowed: a finite number"),
        (
            {"log_return": 0.0, "days": MOST_GIVEN_STEPS + 1},
            r"days must be 1 to 64 dates .*, as log_return is given",
        ),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            model.scenarios(seed=1, **wrong)  # type: ignore[arg-type]
        assert "\n" not in str(refused.value)


def test_a_law_without_a_return_cannot_be_given_one(model: SurfaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model._moving, "has_return", False)
    with pytest.raises(ValueError, match=r"log_return is 0\.0; allowed: None, as the law has no return"):
        model.scenarios(seed=1, log_return=0.0)


def test_dates_of_any_kind_are_dates(model: SurfaceModel) -> None:
    """Frames have times of numpy and pandas where others have dates."""
    following = motion.working_days(model.state.date, 3)
    expected = model.scenarios(days=3, n=2, seed=1)
    kinds = (
        np.array(following, "datetime64[ns]"),
        [dt.datetime.combine(day, dt.time(16)) for day in following],
        np.int64(3),
    )
    for days in kinds:
        found = model.scenarios(days=days, n=2, seed=1)
        assert found.dates == following
        np.testing.assert_array_equal(found.iv, expected.iv)
    moved = [
        model.next_state(expected.iv[0, 0], day, log_return=0.0) for day in (following[0], kinds[0][0], kinds[1][0])
    ]
    assert {state.date for state in moved} == {following[0]}


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["2020-06-01"], "'2020-06-01' is no date; allowed: datetime.date"),
        (1.5, "days is 1.5; allowed: a whole number"),
        (10**12, "days must be 1 to 8192 dates that rise"),
        (-1, "days must be 1 to 8192 dates that rise"),
    ],
)
def test_days_that_are_none_are_refused(model: SurfaceModel, days: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.scenarios(days=days, n=2, seed=1)  # type: ignore[arg-type]


def test_days_beyond_the_calendar_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^the calendar ends before 3 working days after 9999-12-29; it ends at 9999-"
    ):
        motion.working_days(dt.date(9999, 12, 29), 3)


@pytest.mark.parametrize("part", ["coordinates", "recent", "variances", "filtered", "moved"])
def test_a_state_that_leads_beyond_all_numbers_is_refused(model: SurfaceModel, part: str) -> None:
    """One that a client changed; no warning tells of the overflow before."""
    plain = model.state_to_plain(model.state)
    changed = plain | {part: np.full(np.shape(plain[part]), 1e30).tolist()}
    if part == "coordinates":
        with pytest.raises(ValueError, match="iv of the state is not the surface of its coordinates; send back"):
            model.state_of_plain(changed)
        return
    state = model.state_of_plain(changed)
    outcomes = []
    for ask in (
        lambda: model.scenarios(state, days=3, n=5, seed=1).iv,
        lambda: model.complete([0.21, 0.2], **_QUOTES, previous=state).iv,
    ):
        try:
            outcomes.append(bool(np.isfinite(ask()).all()))
        except ValueError as error:
            outcomes.append("beyond single precision" in str(error))
    assert outcomes == [True, True]


@pytest.mark.parametrize("apart", [65, 5])
def test_dates_with_a_gap_are_refused_and_the_days_between_are_the_way(model: SurfaceModel, apart: int) -> None:
    """A step over a quarter, or a week, would move as little as one over a day."""
    end = working_days(model.state.date, apart)[-1]
    for log_return in (None, -0.01) if model.manifest["dynamics"]["underlying"] else (None,):
        with pytest.raises(ValueError, match=rf"{end} follows {model.state.date} over a gap, but a step"):
            model.scenarios(days=[end], n=4, seed=1, log_return=log_return)
    assert model.scenarios(days=working_days(model.state.date, apart), n=4, seed=1).dates[-1] == end
    assert model.scenarios(days=[working_days(model.state.date, 4)[-1]], n=4, seed=1).iv.shape[1] == 1  # past holidays


def test_a_surface_after_a_gap_widens_nothing(model: SurfaceModel) -> None:
    """A move of a quarter is no shock of a day: deviations stay, but for their level, and there are no recent moves."""
    before = model.state
    risen = model.sample(1, seed=3)[0]
    log_return = 0.1 if len(before.recent) > len(before.coordinates) else None
    days = working_days(before.date, 60)
    after = model.next_state(risen, days[-1], log_return=log_return)
    np.testing.assert_array_equal(after.recent, np.zeros_like(before.recent))
    assert np.abs(np.log(after.variances / before.variances)).max() < 0.1
    np.testing.assert_allclose(after.filtered, after.coordinates, rtol=1e-6)
    assert (after.date, after.elapsed) == (days[-1], 0.0)
    shocked = model.next_state(risen, days[0], log_return=log_return)
    assert np.log(shocked.variances / before.variances).max() > 0.5
