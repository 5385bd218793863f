"""The half-life of shocks: all count where the law stays, new ones where dependence has changed."""

import numpy as np
import pytest

from vae.dynamics.ageing import best_half_life
from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS, Array


def _history(correlation: Array, random: np.random.Generator) -> History:
    """One coordinate and a return whose normal moves have these correlations, [step]."""
    level, other = random.standard_normal((2, len(correlation)))
    log_return = correlation * level + np.sqrt(1.0 - correlation**2) * other
    path = 0.02 * np.cumsum(np.stack([level, log_return], axis=1), axis=0)
    return History(path[:, :1], np.arange(len(path)), np.eye(1), path[:, 1])


def test_shocks_of_a_law_that_stays_do_not_age() -> None:
    history = _history(np.full(1500, -0.8), np.random.default_rng(3))
    assert best_half_life(walk(history, FORMS["reverting"])) == np.inf


def test_shocks_age_where_their_dependence_changes() -> None:
    correlation = np.where(np.arange(700) // 150 % 2, 0.9, -0.9)
    history = _history(correlation, np.random.default_rng(3))
    assert best_half_life(walk(history, FORMS["reverting"])) == 60.0


@pytest.mark.parametrize("wild", [300, 1100])
def test_one_wild_date_does_not_decide(wild: int) -> None:
    history = _history(np.full(1500, -0.8), np.random.default_rng(3))
    history.coordinates[wild:] += 0.6
    assert best_half_life(walk(history, FORMS["reverting"])) == np.inf


def test_few_dates_choose_nothing() -> None:
    history = _history(np.full(101, -0.8), np.random.default_rng(3))
    assert best_half_life(walk(history, FORMS["reverting"])) == np.inf
