"""Log scores of newer dates by the law of motion of examples/dated: 0 on average where the law holds."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from pipeline.files.dataset import SPLITS, Dataset
from pipeline.report import drift, motion_drift
from pipeline.report.drift import Rule, Watched
from pipeline.report.motion_drift import Dates, LogScores
from vae.motion_state import State
from vae.runtime import SurfaceModel
from vae.surface.days import day_of


@pytest.fixture(scope="module")
def model(root: Path) -> SurfaceModel:
    return SurfaceModel.load(root / "examples/dated", provider="cpu", threads=1)


def path(model: SurfaceModel, days: int, seed: int, *, pace: float = 1.0) -> Dates:
    """Dates that the law draws, whose moves are ``pace`` times as large."""
    drawn = model.scenarios(days=days, n=1, seed=seed)
    log_vols = np.log(drawn.iv[0])
    return Dates(
        np.exp(log_vols[:1] + pace * (log_vols - log_vols[:1])),
        np.array([day_of(date) for date in drawn.dates], np.int32),
        np.exp(pace * drawn.log_return[0].astype(float)),
    )


def scores(model: SurfaceModel, dates: Dates) -> LogScores:
    found = motion_drift.of_incoming(model, dates)
    assert found is not None
    return found


@pytest.mark.slow
def test_dates_that_the_law_draws_have_the_score_that_it_expects(model: SurfaceModel) -> None:
    """Those of another pace have less, until the deviations have followed. The first date has no return."""
    known = scores(model, path(model, 60, 3)).known
    assert len(known) == 59
    assert abs(known.mean()) < 3.0 * known.std() / np.sqrt(59)
    assert scores(model, path(model, 60, 3, pace=2.0)).known.mean() < -0.5


@pytest.mark.slow
def test_what_the_law_expects_errs_on_each_date_by_itself(model: SurfaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One move on dates that are whole weeks apart, which are alike to the law, beside the mean of more scenarios."""
    state = model.state
    after = model.next_state(state.iv, state.date + dt.timedelta(1), log_return=0.0)

    def found() -> np.ndarray:
        later = [
            [each._replace(date=each.date + dt.timedelta(weeks=weeks)) for each in (state, after)]
            for weeks in range(25)
        ]
        return np.array([motion_drift._log_score(model, *states, 0.0) for states in later])

    few = found()
    monkeypatch.setattr(motion_drift, "_OTHERS", 400)
    errors = few - found()
    assert 0.05 < errors.std(ddof=1) < 0.2
    assert abs(errors.mean()) < 3.0 * errors.std(ddof=1) / 5.0


def test_a_score_does_not_depend_on_later_dates(model: SurfaceModel) -> None:
    whole = path(model, 6, 3)
    first = Dates(whole.iv[:4], whole.days[:4], None if whole.price is None else whole.price[:4])
    np.testing.assert_array_equal(scores(model, first).nats, scores(model, whole).nats[:4])


@pytest.mark.parametrize(
    ("change", "scored", "reason"),
    [
        (lambda dates: dates, [False, True, True, True], "the first date with a price of the underlying has no return"),
        (lambda dates: dates._replace(days=dates.days + 400), [False, True, True, True], "over a gap of five working"),
        (lambda dates: dates._replace(days=dates.days - 400), [False] * 4, "not after the last one of the model"),
        (lambda dates: dates._replace(days=dates.days[[0, 1, 1, 2]]), [False, True, False, True], "several surfaces"),
        (lambda dates: dates._replace(price=None), [False] * 4, "without a price of the underlying"),
        (
            lambda dates: dates._replace(iv=np.where(np.arange(4)[:, None, None] == 2, np.nan, dates.iv)),
            [False, True, False, True],
            "with missing points",
        ),
        (lambda dates: dates._replace(markets=("DAX", "SPX")), [], "of several markets, and the law is of one"),
        (lambda _: None, [], "the dates of the surfaces are not known"),
    ],
)  # fmt: skip
def test_dates_that_cannot_be_foretold_are_left_out_with_the_reason(
    model: SurfaceModel, change, scored: list[bool], reason: str
) -> None:
    found = scores(model, change(path(model, 4, 3)))
    assert np.isfinite(found.nats).tolist() == scored
    assert any(reason in each for each in found.reasons)


def test_variances_follow_the_surface_through_a_gap(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a law whose log deviations are linear in the coordinates; several gaps are as one."""
    model = SurfaceModel.load(root / "examples/dated", provider="cpu", threads=1)
    motion = model._motion
    assert motion is not None
    shape = len(model.state.coordinates), model.state.variances.shape[1]
    elasticity = np.random.default_rng(0).normal(0.0, 100.0, shape)
    motion._law = motion._law._replace(elasticity=elasticity)
    begun: list[State] = []
    monkeypatch.setattr(motion_drift, "_log_score", lambda _, state, *__: begun.append(state) or 0.0)
    dates = path(model, 4, 3)
    scores(model, dates._replace(days=dates.days + np.array([400, 800, 801, 802])))
    state = begun[0]
    variances = motion._begun(state, state.coordinates[None])[2][0]
    moves = (state.coordinates - model.state.coordinates).astype(float)
    factors = np.exp(2.0 * moves @ elasticity)
    assert factors.max() > 1.2
    np.testing.assert_allclose(variances, model.state.variances * factors, rtol=1e-4)


@pytest.mark.slow
def test_the_test_split_is_scored_from_the_dates_before_it(model: SurfaceModel, tmp_path: Path) -> None:
    """As it would be in one walk through all of them."""
    whole, data = path(model, 40, 3), Dataset(tmp_path)
    long_ago = whole._replace(days=(whole.days - 3000).astype(np.int32))
    assert long_ago.price is not None
    data.write_grid(model.grid)
    for split, rows in zip(SPLITS, (slice(0, 20), slice(20, 30), slice(30, 40)), strict=True):
        data.write_surfaces(
            split, long_ago.iv[rows].astype(np.float32), long_ago.days[rows], {"spot": long_ago.price[rows]}
        )
    found = drift.of_test_split(model, tmp_path, motion=True)
    assert found is not None
    assert found.motion is not None
    begun = model.state._replace(date=dt.date(1980, 1, 1))
    np.testing.assert_array_equal(found.motion.nats, motion_drift._walked(model, long_ago, begun).nats[30:])
    assert np.isfinite(found.motion.nats).all()


@pytest.mark.slow
def test_the_page_says_what_the_law_of_motion_finds(model: SurfaceModel) -> None:
    def watched(seed: int, *, pace: float, days: int = 30) -> Watched:
        dates = path(model, days, seed, pace=pace)
        return Watched(model.score(dates.iv), dates.days, None, scores(model, dates))

    test, rule = watched(3, pace=1.0), Rule(0.05, watched=True)
    found = drift.motion_figures(test, watched(4, pace=2.0))
    page = drift.drift_page("a model", test, watched(4, pace=2.0), rule)
    assert "Incoming dates are foretold worse than test dates: " in page
    assert f"{found['log_score_excess']:+.2f} nats" in page
    assert "Scheduled runs do not decide by it." in page
    assert "are foretold as well as test dates" in drift.drift_page("a model", test, watched(5, pace=1.0), rule)
    undated = test._replace(days=None, motion=motion_drift.of_incoming(model, None))
    unknown = drift.drift_page("a model", None, undated, rule)
    assert "foretold none of the incoming dates. The dates of the surfaces are not known." in unknown
    scheduled = drift.drift_page("a model", None, test._replace(motion=motion_drift.left_out(model)), rule)
    assert "as they do not decide by it; `volvae drift` shows it." in scheduled
    assert "log score of a date" not in scheduled
    alone = drift.drift_page("a model", None, test, rule)
    assert "Nothing is known to compare with: the test dates are not here." in alone


def test_a_model_without_a_law_of_motion_has_no_log_scores(root: Path) -> None:
    static = SurfaceModel.load(root / "deploy/demo/bundle", provider="cpu", threads=1)
    assert motion_drift.of_incoming(static, None) is None
    found = Watched(static.score(static.sample(3, seed=1)))
    assert "Law of motion" not in drift.drift_page("a model", None, found, Rule(0.05, watched=True))
