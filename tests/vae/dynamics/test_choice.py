"""The choices of the past: shocks age where dependence changes, deviations follow the surface where they do."""

import numpy as np
import pytest
from scipy.stats import multivariate_t

from vae.dynamics.choice import best_half_life, chosen_walk, elasticities, log_density, surface_forecasts_better
from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS, Array


def _history(correlation: Array, random: np.random.Generator) -> History:
    """One coordinate and a return whose normal moves have these correlations, [step]."""
    level, other = random.standard_normal((2, len(correlation)))
    log_return = correlation * level + np.sqrt(1.0 - correlation**2) * other
    path = 0.02 * np.cumsum(np.stack([level, log_return], axis=1), axis=0)
    return History(path[:, :1], np.arange(len(path)), np.eye(1), path[:, 1])


@pytest.mark.slow
def test_shocks_of_a_law_that_stays_do_not_age() -> None:
    history = _history(np.full(1500, -0.8), np.random.default_rng(3))
    assert best_half_life(walk(history, FORMS["reverting"])) == np.inf


def test_shocks_age_where_their_dependence_changes() -> None:
    correlation = np.where(np.arange(700) // 150 % 2, 0.9, -0.9)
    history = _history(correlation, np.random.default_rng(3))
    assert best_half_life(walk(history, FORMS["reverting"])) == 60.0


@pytest.mark.parametrize("count", [1, 2])
def test_a_log_density_is_that_of_a_mixture_of_students(count: int) -> None:
    """Of scipy: four degrees of freedom, and Scott's width of what the weights are worth."""
    random = np.random.default_rng(3)
    moves, weights = random.standard_normal((50, count)), random.random(50)
    weights /= weights.sum()
    width = np.square(weights).sum() ** (2.0 / (count + 4.0))
    shape, seen = np.atleast_2d(np.cov(moves.T, aweights=weights)) * width, np.full(count, 0.3)
    density = sum(w * multivariate_t(move, shape, df=4).pdf(seen) for w, move in zip(weights, moves, strict=True))
    assert log_density(moves, weights, seen) == pytest.approx(np.log(density), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("wild", [300, 1100])
def test_one_wild_date_does_not_decide(wild: int) -> None:
    history = _history(np.full(1500, -0.8), np.random.default_rng(3))
    history.coordinates[wild:] += 0.6
    assert best_half_life(walk(history, FORMS["reverting"])) == np.inf


def test_few_dates_choose_nothing() -> None:
    history = _history(np.full(101, -0.8), np.random.default_rng(3))
    assert best_half_life(walk(history, FORMS["reverting"])) == np.inf


def _elastic_history(dates: int, seed: int, *, elasticity: float = 1.0) -> History:
    """A log vol that reverts and a return, whose deviations are powers of the vol."""
    random, level, moves = np.random.default_rng(seed), 0.0, []
    for _ in range(dates):
        vol, log_return = 0.06 * np.exp(elasticity * level) * random.standard_normal(2)
        moves.append((vol - 0.02 * level, log_return))
        level += moves[-1][0]
    path = np.cumsum(moves, axis=0)
    return History(path[:, :1], np.arange(dates), np.eye(1), path[:, 1])


def _wandering_history(dates: int, seed: int) -> History:
    """A log vol that reverts and a return, whose deviations wander by themselves."""
    random, level, size, moves = np.random.default_rng(seed), 0.0, 0.0, []
    for _ in range(dates):
        size = 0.98 * size + 0.12 * random.standard_normal()
        vol, log_return = 0.03 * np.exp(size) * random.standard_normal(2)
        moves.append((vol - 0.02 * level, log_return))
        level += moves[-1][0]
    path = np.cumsum(moves, axis=0)
    return History(path[:, :1], np.arange(dates), np.eye(1), path[:, 1])


@pytest.mark.parametrize("expected", [-0.8, 0.0, 1.0])
def test_elasticities_of_an_exact_process_are_found(expected: float) -> None:
    found = elasticities(_elastic_history(20_000, 3, elasticity=expected))
    np.testing.assert_allclose(found, expected, atol=0.06)


def test_elasticities_in_two_coordinates_are_found_beside_one_without_effect() -> None:
    """Of independent moves of three points, in a basis that is none of them; the third coordinate hardly moves."""
    expected = np.array([[0.6, -0.4, 0.2], [0.3, 0.5, -0.6], [0.0, 0.0, 0.0]])
    random, place, path = np.random.default_rng(3), np.zeros(3), []
    basis = np.linalg.qr(random.standard_normal((3, 3)))[0]
    for _ in range(20_000):
        path.append(place)
        of_points = 0.06 * np.exp(place @ expected) * random.standard_normal(3)
        place = place * [0.97, 0.97, 0.5] + of_points @ basis
    found = elasticities(History(np.array(path), np.arange(len(path)), basis))
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_deviations_follow_the_surface_where_they_do(seed: int) -> None:
    chosen = chosen_walk(_elastic_history(1200, seed), FORMS["reverting"])
    assert chosen.form.decays == (1.0,)
    np.testing.assert_allclose(chosen.law().elasticity, 1.0, atol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_deviations_that_move_on_their_own_do_not_follow(seed: int) -> None:
    chosen = chosen_walk(_wandering_history(1200, seed), FORMS["reverting"])
    assert chosen.form.decays == FORMS["reverting"].decays
    assert not chosen.law().elasticity.any()


def test_few_dates_and_other_forms_do_not_follow_the_surface() -> None:
    few = _elastic_history(200, 0)
    assert not surface_forecasts_better(few, walk(few, FORMS["reverting"]))
    for form in ("filtered_historical", "historical"):
        assert chosen_walk(_elastic_history(400, 0), FORMS[form]).form == FORMS[form]
