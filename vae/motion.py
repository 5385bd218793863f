"""The law of motion of a bundle: scenarios of the next dates from ``scenarios.onnx``, and what quotes so far say.

Imports numpy and onnxruntime only.
"""

import copy
import datetime as dt
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vae import bundle
from vae.dynamics import kalman_filter
from vae.dynamics import law as dynamics
from vae.dynamics.given_return import LEAST, Paths, given_return
from vae.dynamics.kalman_filter import Belief, Known, LogQuotes, TimeStep
from vae.dynamics.law import Law, followed, passed
from vae.dynamics.random_rows import uniform_rows
from vae.motion_state import PARTS, State
from vae.sessions import Graph, SessionOptions
from vae.surface import arbitrage
from vae.surface.days import day_of, weekdays_passed
from vae.surface.grid import Grid
from vae.surface.normal import normal_quantile

Array = NDArray[np.float32]

_ROWS = 2**40  # random rows of a step; those of the next follow, up to 2^53, from which on onnxruntime miscounts them
MOST_STEPS = 2**13
MOST_GIVEN_STEPS = 64  # of paths whose return is given, which are all drawn before one is chosen
_BLOCK = 4096  # paths at a time
_CANDIDATES = 8192  # paths that those with a given return are chosen among
_JUDGED = 256  # draws of them by which is known how many have no static arbitrage
_STARTS, _CHOICES = 1, 2  # streams of random numbers beside the graph's
_SATURDAY = 5
_MOST_PASSED = 4  # of the days from Monday to Friday in a step; weekly dates have five
_SAME_VOL = 1e-3  # share of a vol, for the rounding of coordinates
_SHORTEST, _LONGEST = 1e-6, 1000.0  # working days from a state to the next quotes
_ROUNDING = 1e-9  # of sums of parts of a day
_FreePaths = Callable[[NDArray[np.intp]], NDArray[np.bool_]]  # of places of paths [n]: each surface, [n, step]
_looking_at_overflow = np.errstate(over="ignore", invalid="ignore")  # by ``_check_finite``
_NEXT = tuple(f"next_{name}" for name in PARTS)


class Seen(NamedTuple):
    """The completer's outputs for quotes.

    Attributes:
        belief: of the coordinates of the surface by these quotes alone.
        quotes: how they depend on the surface.
    """

    belief: Belief
    quotes: LogQuotes


class Recalled(NamedTuple):
    """A surface given quotes and the past.

    Attributes:
        state: after the quotes.
        std: standard deviations of quotes at the points, decimal vols, [tenor, node].
        fitted: vols of the surface at the quotes, [quote].
        fitted_std: their standard deviations without any noise, [quote].
        misfit: chi-square of the quotes that are used, under the forecast.
    """

    state: State
    std: Array
    fitted: Array
    fitted_std: Array
    misfit: float


class Scenarios(NamedTuple):
    """Paths of surfaces and of the underlying.

    Attributes:
        iv: decimal vols, [n, date, tenor, node].
        log_return: of the underlying since the state, [n, date]; 0 where the law has no return.
        dates: of the surfaces.
        shocks: places, in the history of the law, of the dates whose innovations made each step, [n, date].
        effective_size: of paths with a given return, how many equally probable ones, drawn without static arbitrage,
            say as much; None of others.
        known_free: whether each surface is free of static arbitrage, where drawing looks at that, [n, date]; else None.
    """

    iv: Array
    log_return: Array
    dates: tuple[dt.date, ...]
    shocks: NDArray[np.int64]
    effective_size: float | None = None
    known_free: NDArray[np.bool_] | None = None

    def arbitrage_free(
        self, grid: Grid, dates: slice = slice(None), check: Callable[[], object] = lambda: None
    ) -> NDArray[np.bool_]:
        """Whether each surface is free of static arbitrage, [n, date].

        Paths are drawn given that it is, but none of a few candidates may have been, and nothing is given on a grid in
        deltas or of a bundle that does not tell. There it is measured now, which takes 0.1 ms a surface.

        Args:
            grid: of the model.
            dates: that are asked for.
            check: called after each few hundred surfaces that are measured; what it raises ends a long request.
        """
        if self.known_free is not None:
            return self.known_free[:, dates]
        return _are_free(self.iv[:, dates], grid, check)


class Motion:
    """The law of motion of a bundle.

    Attributes:
        state: at the last date of the data that the bundle was made of.
        has_return: whether the return of the underlying moves with the surface.
    """

    def __init__(self, content: bytes, manifest: Mapping[str, Any], options: SessionOptions, grid: Grid) -> None:
        facts, self._grid, self._shape = manifest["dynamics"], grid, grid.shape
        # bundles of earlier versions have no such output
        self._free_output = ("arbitrage_free",) if facts.get("tells_arbitrage") else ()
        coordinates, recent, variances, iv = (np.array(facts[name], np.float32) for name in (*PARTS, "iv"))
        self._check: Callable[[], object] = lambda: None
        self._law = Law(**{name: np.array(part, np.float64) for name, part in facts["law"].items()})
        self._center = np.array(facts["center"], np.float64)
        self._noise = float(facts["noise"]) ** 2  # variance of log vols
        self._noise_covariance = self._noise * np.eye(len(coordinates))
        self.state = self._seen(dt.date.fromisoformat(facts["date"]), coordinates, recent, variances, iv)
        self.has_return = len(self.state.recent) > len(self.state.coordinates)
        sizes = {name: getattr(self.state, name).shape for name in PARTS}
        rows = dict.fromkeys(("key", "offset", "count", "week", "surface_return", "observed"), ())
        self._graph = Graph(
            bundle.SCENARIOS,
            content,
            options,
            inputs={**rows, **sizes, "surface": grid.shape[1:]},
            outputs={
                "iv": grid.shape,
                "log_return": (),
                **dict(zip(_NEXT, sizes.values(), strict=True)),
                **dict.fromkeys(("shocks", *self._free_output), ()),
            },
        )

    def checked(self, check: Callable[[], object]) -> Self:
        """The same law, which calls ``check`` before each call of its graph, and after each piece of a measurement."""
        twin = copy.copy(self)
        vars(twin).update(_graph=self._graph.checked(check), _check=check)
        return twin

    def after(self, state: State, iv: Array, date: dt.date, log_return: float) -> State:
        """The state after a date with the surface iv [tenor, node].

        The law learned no step over a gap between dates (``is_one_step``). There it starts anew at the surface: recent
        moves are 0, and deviations stay as they were, but for laws in which they follow the surface.

        Raises:
            ValueError: the date is not after that of the state.
        """
        if date <= state.date:
            raise ValueError(f"date is {date}; allowed: after {state.date}, the date of the state")
        parts = self._begun(state, state.coordinates[None])
        feeds = self._feeds(parts, _week(state.date, date))
        feeds |= {
            "surface": iv,
            "surface_return": np.array([log_return], np.float32),
            "observed": np.array([True]),
        }
        coordinates, recent, variances, surface = (part[0] for part in self._finite_outputs(feeds, (*_NEXT, "iv")))
        if not is_one_step(state.date, date):
            recent = np.zeros_like(recent)
            variances = (state.variances * self._followed(coordinates - state.filtered)).astype(np.float32)
        return self._seen(date, coordinates, recent, variances, surface)

    def _seen(self, date: dt.date, coordinates: Array, recent: Array, variances: Array, iv: Array) -> State:
        """The state after a date whose whole surface was seen, so that its coordinates are known but for noise."""
        return State(
            date,
            coordinates,
            recent,
            variances,
            iv,
            spread=np.zeros_like(self._noise_covariance),
            filtered=coordinates.astype(np.float64),
            covariance=self._noise_covariance,
            moved=np.zeros_like(recent),
        )

    @_looking_at_overflow
    def recalled(self, previous: State, seen: Seen, trusted: LogQuotes, elapsed: float, log_return: float) -> Recalled:
        """A surface given quotes and the past.

        Args:
            previous: the state before.
            seen: what the quotes say alone.
            trusted: the quotes, with the precisions that they have beside the forecast.
            elapsed: working days since ``previous``.
            log_return: of the underlying on the last working day of these; NaN where it is not known.

        Raises:
            ValueError: elapsed is out of range, or the state leads to numbers beyond single precision.
        """
        date, part, steps = _steps_to(previous, elapsed)
        past = (part.astype(np.float64) for part in (previous.recent, previous.variances))
        before = Known(
            dynamics.LawState(previous.filtered, *past), previous.covariance, previous.moved.astype(np.float64)
        )
        waited = kalman_filter.waited(self._law, before, steps[:-1])
        known, misfit = kalman_filter.filtered(self._law, waited, steps[-1], trusted, self._center, log_return)
        own = Belief(known.state.coordinates, known.covariance)
        _check_finite(*own)
        mean, covariance = kalman_filter.intersection(own, seen.belief, self._noise)
        vols = np.exp(self._center + self._law.basis @ mean)
        variance = np.square(self._law.basis @ np.linalg.cholesky(covariance + self._noise_covariance)).sum(axis=1)
        fitted, deviation = kalman_filter.at_quotes(self._law, mean, covariance, seen.quotes, self._center)
        start, recent, variances, moved = (part.astype(np.float32) for part in (mean, *known.state[1:], known.moved))
        iv = vols.astype(np.float32).reshape(self._shape)
        _check_finite(iv, start, recent, variances, moved)
        state = State(date, start, recent, variances, iv, kalman_filter.root(covariance), *own, moved, part)
        std = (vols * np.sqrt(variance)).astype(np.float32).reshape(self._shape)
        return Recalled(state, std, fitted.astype(np.float32), (fitted * deviation).astype(np.float32), misfit)

    def doubted(self, previous: State, state: State, error: float) -> State | None:
        """The state after quotes that its surface misses by ``error``, decimal, beyond their noise: less sure.

        None where they lie so far outside of what the model learned that no state follows.
        """
        parts = self._begun(previous, previous.coordinates[None])
        before = dynamics.LawState(*(part[0].astype(np.float64) for part in parts))
        known = state.covariance, state.spread @ state.spread
        found = kalman_filter.doubted(self._law, before, known, error / state.iv.ravel().astype(np.float64))
        return None if found is None else state._replace(covariance=found[0], spread=kalman_filter.root(found[1]))

    @_looking_at_overflow
    def check(self, state: State) -> None:
        """Raise ValueError where the surface of a state is not that of its coordinates, as after a change by hand."""
        made = self._surfaces(state.coordinates.astype(np.float64))
        if not np.allclose(made, state.iv, rtol=_SAME_VOL, atol=0.0):
            raise ValueError("iv of the state is not the surface of its coordinates; send back what was returned")

    @_looking_at_overflow
    def scenarios(
        self, state: State, dates: Sequence[dt.date], n: int, *, seed: int, offset: int, log_return: float | None = None
    ) -> Scenarios:
        """Paths through some dates; path i depends only on the seed and on offset + i.

        Args:
            state: where they start; each path draws its surface from the state's law of it.
            dates: of the surfaces.
            n: number of paths.
            seed: of all random numbers.
            offset: number of paths to skip.
            log_return: of the underlying over all dates, where it is given.

        Raises:
            ValueError: the dates do not rise, have a gap or are too many, paths too many are skipped, or the law cannot
                say what follows from the return.
        """
        most = MOST_STEPS if log_return is None else MOST_GIVEN_STEPS
        if not 1 <= len(dates) <= most or any(one >= two for one, two in itertools.pairwise([state.date, *dates])):
            given = "" if log_return is None else ", as log_return is given"
            raise ValueError(
                f"days must be 1 to {most} dates that rise from {state.date}, the date of the state{given}"
            )
        gap = next((pair for pair in itertools.pairwise([state.date, *dates]) if not is_one_step(*pair)), None)
        if gap is not None:
            raise ValueError(
                f"{gap[1]} follows {gap[0]} over a gap, but a step leads from a trading day to the next: name all of "
                "them, and take the surfaces that you want; or start from the state of a later surface"
            )
        if offset > _ROWS - n:
            raise ValueError(f"offset is {offset}; allowed: 0 to 2^40 less the number of paths")
        if log_return is not None:
            return self._given_return(state, dates, n, seed, offset, log_return)
        iv = np.empty((n, len(dates), *self._shape), np.float32)
        returns, shocks = np.empty((n, len(dates)), np.float32), np.empty((n, len(dates)), np.int64)
        free = np.empty((n, len(dates)), np.bool_) if self._free_output else None
        names = ("iv", "log_return", "shocks", *self._free_output)
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            for step, found in enumerate(self._steps(state, dates, rows.stop - start, seed, offset + start, names)):
                iv[rows, step], returns[rows, step], shocks[rows, step] = found[:3]
                if free is not None:
                    free[rows, step] = found[3]
        return Scenarios(iv, np.cumsum(returns, axis=1), tuple(dates), shocks, known_free=free)

    def _given_return(
        self, state: State, dates: Sequence[dt.date], n: int, seed: int, offset: int, log_return: float
    ) -> Scenarios:
        """Paths with a return over all dates, chosen among candidates that depend on the seed only.

        Raises:
            ValueError: the law has no return, or too few candidates have one near this and no static arbitrage.
        """
        if not (self.has_return and math.isfinite(log_return)):
            allowed = "a finite number" if self.has_return else "None, as the law has no return of the underlying"
            raise ValueError(f"log_return is {log_return}; allowed: {allowed}")
        steps = list(self._steps(state, dates, _CANDIDATES, seed, 0, ("log_return", "shocks")))
        returns, shocks, coordinates = (np.stack([found[part] for found in steps], axis=1) for part in range(3))
        drawn = Paths(coordinates.astype(np.float64), np.cumsum(returns, axis=1, dtype=np.float64), shocks)
        found = given_return(drawn, log_return)
        cumulated = np.cumsum(found.weights)
        uniform = uniform_rows(seed, _CHOICES, offset, n, dynamics.TRIES)
        places = np.searchsorted(cumulated, uniform * cumulated[-1])
        free = self._free_paths(found.paths.coordinates)
        judged = np.searchsorted(cumulated, (np.arange(_JUDGED) + 0.5) / _JUDGED * cumulated[-1])
        size = found.size_of_kept(judged, np.asarray(free(judged).all(axis=1)), dynamics.TRIES)
        if size < LEAST:
            raise ValueError(
                f"log_return is {log_return:g}, and of the paths near it those without static arbitrage are worth "
                f"{size:.1f}; allowed: a return near which they are worth {LEAST:g}; the median return of all paths is "
                f"{np.median(drawn.log_return[:, -1]):.4f}"
            )
        chosen = _first_free(places, free)
        moved = found.paths.log_return[chosen].astype(np.float32)
        surfaces = self._surfaces(found.paths.coordinates[chosen])
        return Scenarios(surfaces, moved, tuple(dates), shocks[chosen], size, free(chosen))

    def _free_paths(self, coordinates: NDArray[np.float64]) -> _FreePaths:
        """Whether the surfaces of paths are free of static arbitrage; each path is measured once, when it is asked for.

        Args:
            coordinates: of the surfaces of all paths, [all, step, R].
        """
        free, measured = np.zeros(coordinates.shape[:2], np.bool_), np.zeros(len(coordinates), np.bool_)

        def found(places: NDArray[np.intp]) -> NDArray[np.bool_]:
            new = np.unique(places)
            new = new[~measured[new]]
            if len(new):
                free[new], measured[new] = _are_free(self._surfaces(coordinates[new]), self._grid, self._check), True
            return free[places]

        return found

    def _surfaces(self, coordinates: NDArray[np.float64]) -> Array:
        """Vols [*batch, tenor, node] of coordinates [*batch, R]."""
        vols = np.exp(self._center + coordinates @ self._law.basis.T)
        return vols.astype(np.float32).reshape(*vols.shape[:-1], *self._shape)

    def _steps(
        self, state: State, dates: Sequence[dt.date], count: int, seed: int, first: int, names: tuple[str, ...]
    ) -> Iterator[list[NDArray[Any]]]:
        """Some outputs and the next states of the paths from number ``first`` on, a date after the other."""
        starts = np.repeat(state.coordinates[None], count, axis=0)
        if state.spread.any():
            normal = normal_quantile(uniform_rows(seed, _STARTS, first, count, len(state.spread)))
            starts = (state.coordinates + normal @ state.spread).astype(np.float32)
        parts = self._begun(state, starts)
        for step, (before, date) in enumerate(itertools.pairwise([state.date, *dates])):
            left = 1.0 - state.elapsed * (step == 0)  # of the step
            feeds = self._feeds(
                _shortened(parts, left), left * _week(before, date), seed=seed, offset=step * _ROWS + first
            )
            found = self._finite_outputs(feeds, (*names, *_NEXT))
            drawn, after = found[: len(names)], found[len(names) :]
            parts = self._ended(state, parts, after, left) if left < 1.0 else after
            yield [*drawn, *parts]

    def _finite_outputs(self, feeds: dict[str, NDArray[Any]], names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Outputs of the graph.

        Raises:
            ValueError: a number of them is beyond single precision, as after a state that no quotes imply.
        """
        found = self._graph.run(feeds, names)
        _check_finite(*found)
        return found

    def _begun(self, state: State, starts: NDArray[np.floating]) -> list[NDArray[Any]]:
        """The parts of a state for paths that start at coordinates [n, R]."""
        variances = state.variances * self._followed(starts - state.filtered)
        return [starts, np.repeat(state.recent[None], len(starts), axis=0), variances.astype(np.float32)]

    def _followed(self, moves: NDArray[np.floating]) -> NDArray[np.float64]:
        """Factors of variances after moves of coordinates, [n, R]."""
        return followed(self._law.elasticity, moves.astype(np.float64))

    def _ended(
        self, state: State, begun: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]], left: float
    ) -> list[NDArray[Any]]:
        """The states at the end of a step of which a part was left, as the filter would have them.

        Args:
            state: in which all paths started.
            begun: the parts at the start.
            after: those that the graph has after a step of shortened states.
            left: part of the step.
        """
        coordinates, recent, variances = after
        before = dynamics.MOVE_DECAY * ((1.0 - left) * state.recent + state.moved)
        kept = self._law.decays[:, None]
        share = (1.0 - kept**left) / np.maximum(1.0 - kept, np.finfo(float).tiny)  # of a whole step's learning
        risen = self._followed(coordinates - begun[0])
        learned = begun[2] * risen + share * (variances / left - begun[2] * risen)
        learned *= self._followed(state.moved)
        return [coordinates, (recent + before).astype(np.float32), learned.astype(np.float32)]

    def _feeds(self, parts: Sequence[Array], week: Array, *, seed: int = 0, offset: int = 0) -> dict[str, NDArray[Any]]:
        """A state for each row, [row, ...], and no surface to go to."""
        return {
            **dict(zip(PARTS, parts, strict=True)),
            "week": week,
            "key": np.array([seed], np.uint64),
            "offset": np.array([offset]),
            "count": np.array([len(parts[0])]),
            "surface": np.ones(self._shape, np.float32),
            "surface_return": np.zeros(1, np.float32),
            "observed": np.array([False]),
        }


def _first_free(candidates: NDArray[np.intp], free: _FreePaths) -> NDArray[np.intp]:
    """The place of the first candidate of each path, or the last, whose surfaces are all free of static arbitrage, [n].

    Args:
        candidates: places of paths, [n, candidate].
        free: tells such surfaces.
    """
    chosen, rows = candidates[:, 0].copy(), np.arange(len(candidates))
    for places in candidates.T:
        chosen[rows] = places[rows]
        rows = rows[~free(chosen[rows]).all(axis=1)]
        if not len(rows):
            break
    return chosen


def _are_free(iv: Array, grid: Grid, check: Callable[[], object]) -> NDArray[np.bool_]:
    """Whether surfaces iv [n, date, tenor, node] are free of static arbitrage, [n, date]."""
    found: list[NDArray[np.bool_]] = []
    for block in arbitrage.violation_blocks(iv.reshape(-1, *grid.shape), grid):
        found.append(block.profit <= arbitrage.PRICE_TOLERANCE)
        check()
    return np.concatenate(found).reshape(iv.shape[:2])


def working_days(after: dt.date, count: int) -> tuple[dt.date, ...]:
    """The next days from Monday to Friday.

    >>> [str(day) for day in working_days(dt.date(2026, 1, 1), 2)]
    ['2026-01-02', '2026-01-05']

    Raises:
        ValueError: the calendar of Python's dates ends before.
    """
    found: list[dt.date] = []
    day = after
    while len(found) < count:
        if day == dt.date.max:
            raise ValueError(f"the calendar ends before {count} working days after {after}; it ends at {dt.date.max}")
        day += dt.timedelta(1)
        if day.weekday() < _SATURDAY:
            found.append(day)
    return tuple(found)


def is_one_step(before: dt.date, date: dt.date) -> bool:
    """Whether a step leads from a trading day to the next, with weekends and holidays of less than a week between.

    >>> is_one_step(dt.date(2001, 9, 7), dt.date(2001, 9, 10)), is_one_step(dt.date(2001, 9, 7), dt.date(2001, 9, 14))
    (True, False)
    """
    return int(weekdays_passed(before, date)) <= _MOST_PASSED


def _week(before: dt.date, date: dt.date) -> Array:
    """How many of each day of the week a step goes through, [7]."""
    week: Array = passed(np.array([day_of(day) for day in (before, date)]))[0].astype(np.float32)
    return week


def _steps_to(state: State, elapsed: float) -> tuple[dt.date, float, list[TimeStep]]:
    """The date of the last close, the part of a day since, and the steps that lead there from a state.

    Raises:
        ValueError: elapsed is out of range.
    """
    if not _SHORTEST <= elapsed <= _LONGEST:
        raise ValueError(
            f"elapsed is {elapsed}; allowed: {_SHORTEST:g} to {_LONGEST:g} working days since the state of {state.date}"
        )
    total = state.elapsed + elapsed
    count = math.floor(total + _ROUNDING)
    dates = [state.date, *working_days(state.date, count + 1)]
    ends = [*range(1, count + 1), *([total] if total - count > _ROUNDING else [])]
    weeks = [_week(*pair) for pair in itertools.pairwise(dates)]
    steps = [
        TimeStep((end - start) * weeks[math.ceil(end) - 1].astype(np.float64), end - start, ends=end <= count)
        for start, end in zip([state.elapsed, *ends], ends, strict=False)
    ]
    return dates[count], max(total - count, 0.0), steps


def _shortened(parts: Sequence[Array], left: float) -> list[Array]:
    """States whose next step, as the graph has it, is the part that is left of one.

    The mean of a move is linear in recent moves, and grows with the part; so do the variances.
    """
    coordinates, recent, variances = parts
    return [coordinates, np.float32(left) * recent, np.float32(left) * variances]


def _check_finite(*found: NDArray[Any]) -> None:
    """Raise ValueError where a number that follows from a state is beyond single precision."""
    if not all(np.isfinite(numbers).all() for numbers in found):
        raise ValueError(
            "the state leads to numbers beyond single precision; start from one that the model returned, unchanged"
        )
