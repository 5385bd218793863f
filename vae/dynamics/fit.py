"""The law of motion of a history of surfaces, and what it said on each date before it knew the next.

One walk through the dates does all: on each date it forecasts with what it has learned so far, then learns from the
innovation. So a test walks on through dates that the model has not seen, and nothing looks ahead.
"""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.dynamics.law import (
    TRIES,
    WEEK,
    Array,
    CoordinatePaths,
    Form,
    Free,
    Law,
    LawState,
    choose,
    deviation,
    draw,
    followed,
    passed,
    remembered,
    reversing,
    scenarios,
    shares,
    to_points,
    updated,
)
from vae.dynamics.shrunken import ShrunkenRegressions

FEWEST_DATES = 100
_FIRST = 20  # steps whose squared moves the variances start from; their shocks are not drawn
_UNTAUGHT = 60  # steps before the first one with a mean
_SCALE_DECAY = 0.94  # of the variance of a coordinate, by which regressions weigh steps
_NONE = 1e9  # a penalty that leaves no effect
_OF_OWN, _OF_CALENDAR, _OF_OTHERS = (10.0, 100.0, 1000.0), (30.0, 300.0, _NONE), (100.0, _NONE)


class History(NamedTuple):
    """Surfaces of one market, one a date.

    Attributes:
        coordinates: in the basis, [date, R].
        days: since 1970-01-01, rising, [date].
        basis: orthonormal, [D, R].
        log_price: of the underlying, [date]; None where it is not known.
    """

    coordinates: Array
    days: NDArray[np.integer]
    basis: Array
    log_price: Array | None = None

    @property
    def moves(self) -> Array:
        """From each date to the next, of coordinates and the log price, [date - 1, C]."""
        parts = [self.coordinates] if self.log_price is None else [self.coordinates, self.log_price[:, None]]
        return np.diff(np.concatenate(parts, axis=1), axis=0)


class Walk(NamedTuple):
    """The law and the state at each date, from the dates up to it.

    Attributes:
        form: of the law.
        basis: of the coordinates, [D, R].
        states: with a leading axis of dates.
        coefficients: of the mean, [date, C, feature].
        shocks: of the steps, [date - 1, P].
        weeks: days of the week that each step goes through, [date - 1, 7].
        elasticity: of the law.
        free: tells surfaces without static arbitrage, on which scenarios are conditioned; None: they are not.
    """

    form: Form
    basis: Array
    states: LawState
    coefficients: Array
    shocks: Array
    weeks: Array
    elasticity: Array
    free: Free | None = None

    def law(self, date: int = -1) -> Law:
        """The law as it was known at a date, given by its place; at the last one by default."""
        date %= len(self.coefficients)
        found, shocks, ageing = self.coefficients[date], self.shocks[_FIRST:date], self.form.ageing
        if self.form.moving_mean:
            shocks = shocks - shares(len(shocks), ageing) @ shocks
        return Law(
            basis=self.basis,
            reversal=found[:, :-WEEK],
            calendar=found[:, -WEEK:],
            decays=np.array(self.form.decays),
            ageing=np.array([ageing]),
            shocks=shocks,
            elasticity=self.elasticity,
        )

    def state(self, date: int = -1) -> LawState:
        """The state at the close of a date, given by its place; of the last one by default."""
        return LawState(*(part[date] for part in self.states))

    def scenarios(self, date: int, uniform: Array) -> CoordinatePaths:
        """Paths from the close of a date, by the law as it was known then.

        Args:
            date: its place.
            uniform: random numbers on (0, 1] of the first candidates, [n, step]; others follow from the date.
        """
        law, state, weeks = self.law(date), self.state(date), self.weeks[date : date + uniform.shape[1]]
        if self.free is None:
            return scenarios(law, state, weeks, draw(law, uniform))
        others = np.random.default_rng(date).random((*uniform.shape, TRIES - 1))
        candidates = np.concatenate([uniform[..., None], 1.0 - others], axis=-1)
        return scenarios(law, state, weeks, choose(law, state, weeks, candidates, self.free))


def walk(history: History, form: Form, elasticity: Array | None = None) -> Walk:
    """Fit a law step by step.

    Args:
        history: of the surfaces.
        form: of the law.
        elasticity: of deviations, [R, P]; none by default.

    Raises:
        ValueError: fewer than ``FEWEST_DATES`` dates, or dates that do not rise.
    """
    _check(history)
    moves, weeks, rank = history.moves, passed(history.days), history.basis.shape[1]
    squares = np.square(to_points(history.basis, moves))
    recent, decays = np.zeros(moves.shape[1]), np.array(form.decays)
    elasticity = np.zeros((1, 1)) if elasticity is None else elasticity
    variances = np.repeat(squares[None, :_FIRST].mean(axis=1), len(decays), axis=0)
    scale = np.square(moves[:_FIRST]).mean(axis=0)
    regressions = ShrunkenRegressions(moves.shape[1], _penalties(moves.shape[1] - rank))
    nothing = np.zeros((moves.shape[1], 2 + moves.shape[1] - rank + WEEK))
    known, shocks = [(recent, variances, nothing)], []
    for step, (move, week) in enumerate(zip(moves, weeks, strict=True)):
        features = np.concatenate([reversing(recent, rank), np.broadcast_to(week, (len(move), WEEK))], axis=1)
        innovation = to_points(history.basis, move - (known[-1][2] * features).sum(axis=1))
        shocks.append(innovation / _positive(deviation(variances)))
        variances = updated(variances, decays, innovation) * followed(elasticity, move)
        recent = remembered(recent, move)
        if form.moving_mean:
            regressions.learn(features, move, _positive(np.sqrt(scale)))
            scale = _SCALE_DECAY * scale + (1.0 - _SCALE_DECAY) * np.square(move)
        taught = form.moving_mean and step + 1 >= _UNTAUGHT
        known.append((recent, variances, regressions.coefficients if taught else nothing))
    recents, variance_of, coefficients = (np.stack(part) for part in zip(*known, strict=True))
    states = LawState(history.coordinates, recents, variance_of)
    return Walk(form, history.basis, states, coefficients, np.stack(shocks), weeks, elasticity)


def _penalties(returns: int) -> Array:
    """Penalties of the features of a mean, [penalty, feature], with one or no return; the last leaves no mean."""
    mixed = itertools.product(_OF_OWN, _OF_CALENDAR, _OF_OTHERS)
    rows = [[own, *[others] * (1 + returns), *[calendar] * WEEK] for own, calendar, others in mixed]
    return np.array([*rows, [_NONE] * len(rows[0])])


def _positive(deviations: Array) -> Array:
    """Deviations, 1 in place of 0: a point that has never moved has no shock."""
    return np.where(deviations > 0.0, deviations, 1.0)


def _check(history: History) -> None:
    """Raise ValueError for a history that no law can be fitted to."""
    if len(history.days) < FEWEST_DATES:
        raise ValueError(f"{len(history.days)} dates, but a law of motion needs {FEWEST_DATES}")
    if not (np.diff(history.days) > 0).all():
        raise ValueError("a law of motion needs dates that rise: one surface a date")
