"""Backtests of standard books: a right law passes, one that states half of the risk does not."""

import numpy as np
import pytest

from vae.dynamics.fit import History, Walk, walk
from vae.dynamics.law import FORMS
from vae.evaluation.var_backtests import Losses, backtest_metrics, losses
from vae.surface.grid import Grid

GRID = Grid([0.25, 1.0], np.linspace(-0.3, 0.3, 5))
CENTER = np.log(0.2 + 0.3 * np.tile(GRID.nodes, 2) ** 2)
DATES, FIRST = 500, 300


def history(spread: float) -> History:
    """Dates whose surfaces rise and fall as a whole by ``spread``, against the return, independent from day to day."""
    rng = np.random.default_rng(1)
    shock = rng.standard_normal((DATES, 2)) @ np.array([[1.0, -0.7], [0.0, 0.7]])
    level = np.cumsum(spread * shock[:, :1], axis=0) * np.ones(10)
    return History(level, np.arange(DATES), np.eye(10), np.cumsum(0.01 * shock[:, 1]))


def lost(walked: Walk, of: History) -> Losses:
    iv = np.exp(CENTER + of.coordinates).reshape(-1, *GRID.shape)
    assert of.log_price is not None
    return losses(walked, iv, CENTER, GRID, of.log_price, of.days, first=FIRST)


@pytest.mark.slow
def test_a_law_that_is_right_is_rejected_as_often_as_chance_has_it() -> None:
    of = history(0.02)
    figures = backtest_metrics(lost(walk(of, FORMS["historical"]), of), "", seed=1)
    assert figures["var_books"] == 34.0
    assert figures["var_95_exceedance_rate"] == pytest.approx(0.05, abs=0.02)
    assert figures["var_99_exceedance_rate"] == pytest.approx(0.01, abs=0.008)
    assert figures["var_95_kupiec_fails"] <= 8
    assert figures["var_99_red"] == 0


@pytest.mark.slow
def test_a_law_that_states_half_of_the_risk_is_found_out() -> None:
    of = history(0.02)
    right = walk(of, FORMS["historical"])
    figures = backtest_metrics(lost(right._replace(shocks=0.5 * right.shocks), of), "half_", seed=1)
    assert figures["half_var_95_exceedance_rate"] > 0.12
    assert figures["half_var_95_kupiec_fails"] >= 20
    assert figures["half_es_97_5_acerbi_szekely_fails"] >= 20


def test_what_is_bought_and_what_is_sold_lose_opposite_amounts() -> None:
    of = history(0.02)
    short = History(*(part[: FIRST + 3] if part is not of.basis else part for part in of))
    found = lost(walk(short, FORMS["historical"]), short)
    assert found.seen.shape == (3, 34)
    np.testing.assert_array_equal(found.seen[:, :17], -found.seen[:, 17:])
    np.testing.assert_array_equal(found.drawn[..., :17], -found.drawn[..., 17:])


def test_without_any_move_an_option_loses_the_value_of_time() -> None:
    """The call at the money falls by what Black's formula says of a day less; a straddle by twice that."""
    of = history(0.0)._replace(log_price=np.zeros(DATES))
    short = History(*(part[: FIRST + 1] if part is not of.basis else part for part in of))
    found = lost(walk(short, FORMS["historical"]), short)
    vol, day = 0.2, 1.0 / 365.0
    straddle = [np.sqrt(2.0 / np.pi) * vol * np.sqrt(tenor) for tenor in (0.25, 0.25 - day)]  # to first order
    assert found.seen[0, 5] == pytest.approx(straddle[0] - straddle[1], rel=0.01)
    assert found.seen[0, 2] == pytest.approx(0.5 * found.seen[0, 5], rel=1e-6)
    np.testing.assert_allclose(found.drawn[0], np.broadcast_to(found.seen[0], found.drawn[0].shape), atol=1e-7)
