"""Scenarios of the next dates from ``scenarios.onnx``. Imports numpy and onnxruntime only."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae import bundle
from vae.dynamics.law import passed
from vae.sessions import Graph, Options

Array = NDArray[np.float32]

_ROWS = 2**50  # random rows of a step; those of the next step follow
_MOST_STEPS = 2**13
_BLOCK = 4096  # paths at a time
_SATURDAY = 5
_EPOCH = dt.date(1970, 1, 1)
_STATE = ("coordinates", "recent", "variances")
_NEXT = tuple(f"next_{name}" for name in _STATE)


class State(NamedTuple):
    """What is known at the close of a date.

    Attributes:
        date: the date.
        coordinates: of the surface in the model, [R].
        recent: decayed sum of moves so far, of the coordinates and of the return if there is one, [C].
        variances: decayed means of squared innovations, of log vols and the return, [decay, P].
        iv: the surface as the model has it, decimal vols, [tenor, node].
    """

    date: dt.date
    coordinates: Array
    recent: Array
    variances: Array
    iv: Array


class Scenarios(NamedTuple):
    """Paths of surfaces and of the underlying.

    Attributes:
        iv: decimal vols, [n, date, tenor, node].
        log_return: of the underlying since the date of the state, [n, date]; 0 where the law has no return.
        dates: of the surfaces.
        shocks: places, in the history of the law, of the dates whose innovations made each step, [n, date].
    """

    iv: Array
    log_return: Array
    dates: tuple[dt.date, ...]
    shocks: NDArray[np.int64]


class Motion:
    """The law of motion of a bundle.

    Attributes:
        state: at the last date of the data that the bundle was made of.
        has_return: whether the return of the underlying moves with the surface.
    """

    def __init__(self, content: bytes, manifest: Mapping[str, Any], options: Options, shape: tuple[int, ...]) -> None:
        facts, self._shape = manifest["dynamics"], shape
        arrays = [np.array(facts[name], np.float32) for name in (*_STATE, "iv")]
        self.state = State(dt.date.fromisoformat(facts["date"]), *arrays)
        self.has_return = len(self.state.recent) > len(self.state.coordinates)
        sizes = {name: array.shape for name, array in zip(_STATE, arrays, strict=False)}
        rows = dict.fromkeys(("key", "offset", "count", "week", "surface_return", "observed"), ())
        self._graph = Graph(
            bundle.SCENARIOS,
            content,
            options,
            inputs={**rows, **sizes, "surface": shape[1:]},
            outputs={
                "iv": shape,
                "log_return": (),
                **dict(zip(_NEXT, sizes.values(), strict=True)),
                "shocks": (),
            },
        )

    def after(self, state: State, iv: Array, date: dt.date, log_return: float) -> State:
        """The state after a date with the surface iv [tenor, node].

        Raises:
            ValueError: the date is not after that of the state.
        """
        if date <= state.date:
            raise ValueError(f"date is {date}; allowed: after {state.date}, the date of the state")
        feeds = self._feeds([part[None] for part in _parts(state)], _week(state.date, date))
        feeds |= {
            "surface": iv,
            "surface_return": np.array([log_return], np.float32),
            "observed": np.array([True]),
        }
        return State(date, *(part[0] for part in self._graph.run(feeds, (*_NEXT, "iv"))))

    def scenarios(self, state: State, dates: Sequence[dt.date], n: int, *, seed: int, offset: int) -> Scenarios:
        """Paths through some dates; path i depends only on the seed and on offset + i.

        Raises:
            ValueError: the dates do not rise, or are too many.
        """
        days = [state.date, *dates]
        if not dates or len(dates) > _MOST_STEPS or any(one >= two for one, two in zip(days, dates, strict=False)):
            raise ValueError(
                f"days must be 1 to {_MOST_STEPS} dates that rise from {state.date}, the date of the state"
            )
        iv = np.empty((n, len(dates), *self._shape), np.float32)
        log_return = np.empty((n, len(dates)), np.float32)
        shocks = np.empty((n, len(dates)), np.int64)
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            count = rows.stop - start
            parts = [np.repeat(part[None], count, axis=0) for part in _parts(state)]
            for step, (before, date) in enumerate(zip(days, dates, strict=False)):
                feeds = self._feeds(parts, _week(before, date), seed=seed, offset=step * _ROWS + offset + start)
                found = self._graph.run(feeds, ("iv", "log_return", "shocks", *_NEXT))
                (iv[rows, step], log_return[rows, step], shocks[rows, step]), parts = found[:3], found[3:]
        return Scenarios(iv, np.cumsum(log_return, axis=1), tuple(dates), shocks)

    def _feeds(self, parts: Sequence[Array], week: Array, *, seed: int = 0, offset: int = 0) -> dict[str, NDArray[Any]]:
        """A state for each row, [row, ...], and no surface to go to."""
        return {
            **dict(zip(_STATE, parts, strict=True)),
            "week": week,
            "key": np.array([seed], np.uint64),
            "offset": np.array([offset]),
            "count": np.array([len(parts[0])]),
            "surface": np.ones(self._shape, np.float32),
            "surface_return": np.zeros(1, np.float32),
            "observed": np.array([False]),
        }


def working_days(after: dt.date, count: int) -> tuple[dt.date, ...]:
    """The next days from Monday to Friday.

    >>> [str(day) for day in working_days(dt.date(2026, 1, 1), 2)]
    ['2026-01-02', '2026-01-05']
    """
    found: list[dt.date] = []
    while len(found) < count:
        after += dt.timedelta(1)
        if after.weekday() < _SATURDAY:
            found.append(after)
    return tuple(found)


def _week(before: dt.date, date: dt.date) -> Array:
    """How many of each day of the week a step goes through, [7]."""
    week: Array = passed(np.array([(day - _EPOCH).days for day in (before, date)]))[0].astype(np.float32)
    return week


def _parts(state: State) -> list[Array]:
    return [state.coordinates, state.recent, state.variances]
