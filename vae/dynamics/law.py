"""The law of motion of surfaces and of the return of their underlying, from one date to the next.

A surface is a vector of coordinates c in an orthonormal basis B of its points: log vols are B c and a constant. Where
the underlying is known, its log return r is one more coordinate and one more point. In one step

    move = mean + B' (deviation * shock),   deviation^2 = mean over the decays of (decayed means of squared innovations)

- The mean is linear in recent moves, which partly reverse, and in the days of the week that pass: vols are quoted for
  fixed tenors, so that a weekend moves them. ``vae.dynamics.fit`` estimates it, shrunk to no mean at all.
- Each point has a volatility of its own that moves: after a wild day tomorrow's band is wide. Or the surface says how
  far it moves, as in models whose variance is their state: log deviations are then linear in the coordinates, with
  elasticities as slopes. ``vae.dynamics.choice`` finds out which of both forecasts better.
- The shock of all points and of the return is drawn as one from past innovations, each divided by the deviation that
  was forecast for it. So tails and dependence are those of the data. An old shock is drawn less often than a new one,
  as dependence changes. Where the law has a mean, shocks have none: 20 steps of a mean by chance would be a trend.

- The law is that given that the surface has no static arbitrage: of several candidates the first without is taken.

Without mean, with one decay and shocks that do not age, this is filtered historical simulation; with a decay of 1
historical simulation.

Reference: Barone-Adesi, Giannopoulos, Vosper (1999), "VaR without correlations for portfolios of derivative
securities", Journal of Futures Markets 19(5). Boudoukh, Richardson, Whitelaw (1998), "The best of both worlds", Risk
11(5), for weights by age.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Free = Callable[[Array], NDArray[np.bool_]]  # of coordinates [n, R]: whether their surfaces have no static arbitrage

WEEK = 7
MOVE_DECAY = 0.4  # factor by which a move counts less in the recent moves with each further step
TRIES = 16  # candidates of a step, of which the first is taken whose surface has no static arbitrage
_MONDAY = 3  # 1970-01-01 was a Thursday, the fourth day of the week


class Form(NamedTuple):
    """The parts that a law has; ``FORMS`` has the named ones.

    Attributes:
        decays: factors by which squared innovations count less with each step; 1 for a volatility that is constant.
        moving_mean: whether the mean depends on recent moves and on the days that pass; else it is 0.
        half_life: steps after which a shock is drawn half as often; infinite for shocks that do not age. Where it is
            finite, it is a start: ``vae.dynamics.choice`` chooses another.
    """

    decays: tuple[float, ...]
    moving_mean: bool
    half_life: float = np.inf

    @property
    def ageing(self) -> float:
        """Factor by which a shock is drawn less often with each step."""
        return float(0.5 ** (1.0 / self.half_life))

    def of(self, law: "Law") -> "Form":
        """The form with the decays and the half-life of a law.

        >>> law = Law(*[np.zeros(0)] * 3, decays=np.ones(1), ageing=np.array([0.5]), shocks=np.zeros((2, 1)))
        >>> FORMS["reverting"].of(law)
        Form(decays=(1.0,), moving_mean=True, half_life=1.0)
        """
        ageing = float(law.ageing[0])
        half_life = np.inf if ageing == 1.0 else float(np.log(0.5) / np.log(ageing))
        return self._replace(decays=tuple(law.decays.tolist()), half_life=half_life)


FORMS = {
    "reverting": Form((0.9, 0.98), moving_mean=True, half_life=250.0),
    "filtered_historical": Form((0.94,), moving_mean=False),
    "historical": Form((1.0,), moving_mean=False),
}


class LawState(NamedTuple):
    """All that is known at the close of a date; the arrays may have leading axes.

    Attributes:
        coordinates: of the surface, [*batch, R].
        recent: decayed sum of the moves so far, [*batch, C]; C is R, or R + 1 with a return.
        variances: decayed means of squared innovations by decay, [*batch, decay, P]; P is D, or D + 1 with a return.
    """

    coordinates: Array
    recent: Array
    variances: Array


class Law(NamedTuple):
    """The law of motion.

    Attributes:
        basis: B, orthonormal, [D, R].
        reversal: factors of recent moves in the mean: of the coordinate's own, of the first coordinate's and, with a
            return, of the return, [C, 2 or 3].
        calendar: mean of each day of the week that passes, Monday first, [C, 7].
        decays: of the variances, [decay].
        ageing: factor by which a shock is drawn less often with each step of its age, [1].
        shocks: past innovations in units of their deviations, the newest last, [shock, P].
        elasticity: slopes of the log deviations of points in the coordinates, [R, P]; a single 0 for none, [1, 1].
    """

    basis: Array
    reversal: Array
    calendar: Array
    decays: Array
    ageing: Array
    shocks: Array
    elasticity: Array = np.zeros((1, 1))

    @property
    def has_return(self) -> bool:
        """Whether the return of the underlying moves with the surface."""
        return bool(len(self.reversal) > self.basis.shape[1])


class Forecast(NamedTuple):
    """Mean of the next move, [*batch, C], and deviation of its points, [*batch, P]."""

    mean: Array
    deviation: Array


class CoordinatePaths(NamedTuple):
    """Coordinates of surfaces [n, step, R] and log returns since the start [n, step], 0 where the law has none."""

    coordinates: Array
    log_return: Array


def passed(days: NDArray[np.integer]) -> Array:
    """How many of each day of the week, Monday first, each step between dates goes through, [date - 1, 7].

    Args:
        days: dates, days since 1970-01-01, rising, [date]; a step leaves its first day out and has its last one.

    >>> passed(np.array([0, 1, 4]))  # Thursday to Friday to Monday
    array([[0., 0., 0., 0., 1., 0., 0.],
           [1., 0., 0., 0., 0., 1., 1.]])
    """
    weekday = (np.arange(WEEK) - _MONDAY) % WEEK  # days since a Thursday
    seen = (days[:, None] - weekday) // WEEK  # of each day of the week, since then
    return np.diff(seen, axis=0).astype(float)


def to_points(basis: Array, moves: Array) -> Array:
    """Moves of points [*batch, P] of moves of coordinates [*batch, C]."""
    rank = basis.shape[1]
    return np.concatenate([moves[..., :rank] @ basis.T, moves[..., rank:]], axis=-1)


def to_coordinates(basis: Array, moves: Array) -> Array:
    """Moves of coordinates [*batch, C] of moves of points [*batch, P], of which the part outside of the basis is left.

    >>> to_coordinates(np.eye(2), to_points(np.eye(2), np.array([1.0, 2.0, 3.0])))
    array([1., 2., 3.])
    """
    points = len(basis)
    return np.concatenate([moves[..., :points] @ basis, moves[..., points:]], axis=-1)


def reversing(recent: Array, rank: int) -> Array:
    """Moves that each coordinate partly reverses: its own, the first's and the return's recent moves, [*batch, C, 2|3].

    Args:
        recent: decayed sums of moves, [*batch, C].
        rank: number R of the coordinates of surfaces.
    """
    shared = [0, *range(rank, recent.shape[-1])]
    common = np.broadcast_to(recent[..., None, shared], (*recent.shape, len(shared)))
    return np.concatenate([recent[..., None], common], axis=-1)


def remembered(recent: Array, move: Array) -> Array:
    """The decayed sum of moves after one more."""
    return MOVE_DECAY * (recent + move)


def deviation(variances: Array) -> Array:
    """Deviation of points [*batch, P] of their variances [*batch, decay, P]."""
    found: Array = np.sqrt(variances.mean(axis=-2))
    return found


def updated(variances: Array, decays: Array, innovation: Array) -> Array:
    """Variances [*batch, decay, P] after an innovation of the points [*batch, P]."""
    kept = decays[:, None]
    return kept * variances + (1.0 - kept) * np.square(innovation)[..., None, :]


def followed(elasticity: Array, moves: Array) -> Array:
    """Factors of variances as these follow the surface through moves [*batch, C], [*batch, 1, P or 1].

    >>> followed(np.array([[0.0, 0.5], [0.0, 0.0]]), np.log([4.0, 7.0]))  # the first coordinate is a log vol
    array([[1., 4.]])
    """
    found: Array = np.exp(2.0 * moves[..., : len(elasticity)] @ elasticity)[..., None, :]
    return found


def forecast(law: Law, state: LawState, week: Array) -> Forecast:
    """The next move, given how many of each day of the week it goes through, [7]."""
    own = (law.reversal * reversing(state.recent, law.basis.shape[1])).sum(axis=-1)
    return Forecast(own + law.calendar @ week, deviation(state.variances))


def advanced(law: Law, state: LawState, week: Array, move: Array) -> LawState:
    """The state after a move of the coordinates [*batch, C]: the filter."""
    innovation = to_points(law.basis, move - forecast(law, state, week).mean)
    return LawState(
        state.coordinates + move[..., : law.basis.shape[1]],
        remembered(state.recent, move),
        updated(state.variances, law.decays, innovation) * followed(law.elasticity, move),
    )


def shares(count: int, ageing: float) -> Array:
    """How often each of so many shocks is drawn, the newest last, [shock]."""
    weights = ageing ** np.arange(count)[::-1]
    found: Array = weights / weights.sum()
    return found


def draw(law: Law, uniform: Array) -> NDArray[np.int64]:
    """Places of shocks, of uniform numbers on (0, 1] of the same shape: ``shares`` of them.

    >>> law = Law(*[np.zeros(0)] * 4, ageing=np.array([0.5]), shocks=np.zeros((2, 1)))
    >>> draw(law, np.array([0.1, 0.6, 0.7, 0.9]))  # two thirds are the newest
    array([1, 1, 0, 0])
    """
    count, ageing = len(law.shocks), float(law.ageing[0])
    age = count * uniform if ageing == 1.0 else np.log1p(uniform * (ageing**count - 1.0)) / np.log(ageing)
    return count - 1 - np.minimum(age.astype(np.int64), count - 1)


def choose(law: Law, state: LawState, weeks: Sequence[Array] | Array, uniform: Array, free: Free) -> NDArray[np.int64]:
    """Places of shocks [n, step] that lead to surfaces without static arbitrage: the rejection method.

    In each step a path takes the first of its candidates that does, and the last one where none does.

    Args:
        law: of motion.
        state: at the start, without leading axes.
        weeks: days of the week that each step goes through, [step, 7].
        uniform: random numbers on (0, 1], [n, step, candidate].
        free: tells such surfaces.
    """
    state = LawState(*(np.broadcast_to(part, (len(uniform), *part.shape)) for part in state))
    places = np.empty(uniform.shape[:2], np.int64)
    for step, week in enumerate(weeks):
        rows = np.arange(len(uniform))
        for candidate in uniform[:, step].T:
            places[rows, step] = draw(law, candidate[rows])
            own = LawState(*(part[rows] for part in state))
            after = own.coordinates + _moved(law, own, week, places[rows, step])[:, : law.basis.shape[1]]
            rows = rows[~free(after)]
            if not len(rows):
                break
        state = advanced(law, state, week, _moved(law, state, week, places[:, step]))
    return places


def _moved(law: Law, state: LawState, week: Array, places: NDArray[np.int64]) -> Array:
    """Moves [n, C] of states with a leading axis, by the shocks at some places, [n]."""
    mean, spread = forecast(law, state, week)
    return mean + to_coordinates(law.basis, spread * law.shocks[places])


def scenarios(law: Law, state: LawState, weeks: Sequence[Array] | Array, places: NDArray[np.int64]) -> CoordinatePaths:
    """Paths from a state without leading axes.

    Args:
        law: of motion.
        state: at the start.
        weeks: days of the week that each step goes through, [step, 7]; see ``passed``.
        places: of the shocks, [n, step], see ``draw``. A path depends on its own only.
    """
    count, rank = len(places), law.basis.shape[1]
    state = LawState(*(np.broadcast_to(part, (count, *part.shape)) for part in state))
    total, coordinates, returns = np.zeros(count), [], []
    for step, week in enumerate(weeks):
        move = _moved(law, state, week, places[:, step])
        state = advanced(law, state, week, move)
        total = total + move[:, rank:].sum(axis=1)
        coordinates.append(state.coordinates)
        returns.append(total)
    return CoordinatePaths(np.stack(coordinates, axis=1), np.stack(returns, axis=1))
