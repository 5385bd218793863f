"""The state of a law of motion, and the same as plain values, which a file or a client keeps."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PARTS = ("coordinates", "recent", "variances")  # of a state that scenarios move
_ARRAYS = (*PARTS, "iv", "spread", "filtered", "covariance", "moved")
_ROUNDING = 1e-12  # share of all variance by which a covariance may miss being positive
_KEYS = ("model", "date", "elapsed", *_ARRAYS)
WANTED = (
    f"the state must have {', '.join(_KEYS)} and nothing else, as complete returns it; one of an earlier version of "
    "volvae cannot be read: start anew from the bundle's, which is model.state, newest over HTTP, and in the shell "
    "what counts without --state or its file"
)


class State(NamedTuple):
    """The state of a surface at a time.

    Attributes:
        date: whose close was the last one.
        coordinates: of the surface in the model, [R].
        recent: decayed sum of moves up to that close, of the coordinates and of the return if there is one, [C].
        variances: decayed means of squared innovations, of log vols and the return, [decay, P].
        iv: the surface as the model has it, decimal vols, [tenor, node].
        spread: symmetric root of the covariance of the coordinates, without the noise of quotes, [R, R]; scenarios
            start at draws from that law. It is 0 where the whole surface was seen.
        filtered: the coordinates by the law of motion and all quotes so far, [R].
        covariance: of these, [R, R].
        moved: by the law of motion and all quotes so far, the move since that close, [C].
        elapsed: part of the next working day that has passed since that close, 0 or more and below 1.
    """

    date: dt.date
    coordinates: Array
    recent: Array
    variances: Array
    iv: Array
    spread: NDArray[np.float64]
    filtered: NDArray[np.float64]
    covariance: NDArray[np.float64]
    moved: Array
    elapsed: float = 0.0


def to_plain(state: State, model: str) -> dict[str, Any]:
    """A state as plain values, with the hash of the weights of its model."""
    arrays = {name: getattr(state, name).tolist() for name in _ARRAYS}
    return {"model": model, "date": state.date.isoformat(), "elapsed": state.elapsed, **arrays}


def of_plain(found: object, like: State, model: str) -> State:
    """The state of plain values.

    Args:
        found: what ``to_plain`` made, as it came back.
        like: a state of the model, which has the right shapes.
        model: hash of the weights of the model.

    Raises:
        ValueError: it is no state, one of another model, or its numbers cannot be.
    """
    if not isinstance(found, Mapping) or set(found) != set(_KEYS):
        raise ValueError(WANTED)
    if found["model"] != model:
        raise ValueError("the state is of another model; start from a state of this one")
    try:
        date = dt.date.fromisoformat(found["date"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"date of the state is {str(found['date'])[:40]!r}; it must be as 2026-01-31") from error
    elapsed = found["elapsed"]
    if isinstance(elapsed, bool) or not isinstance(elapsed, float | int) or not 0.0 <= elapsed < 1.0:
        raise ValueError(f"elapsed of the state is {str(elapsed)[:40]}; it must be from 0 to below 1")
    arrays = {name: _array(name, found[name], getattr(like, name)) for name in _ARRAYS}
    if (arrays["variances"] < 0.0).any() or (arrays["iv"] <= 0.0).any():
        raise ValueError("variances of the state must not be below 0, and its iv must be above 0")
    covariance = arrays["covariance"]
    if (covariance != covariance.T).any() or np.linalg.eigvalsh(covariance)[0] < -_ROUNDING * covariance.trace():
        raise ValueError("covariance of the state is no covariance: it must be symmetric and positive")
    return State(date, elapsed=float(elapsed), **arrays)


def _array(name: str, values: object, like: NDArray[Any]) -> NDArray[Any]:
    """Numbers of the shape and type of ``like``.

    Raises:
        ValueError: they have another shape or are not finite.
    """
    wanted = f"{name} of the state must be finite numbers {list(like.shape)}"
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(wanted) from error
    with np.errstate(over="ignore"):
        array = array.astype(like.dtype)
    if array.shape != like.shape:
        raise ValueError(f"{wanted}, not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{wanted}, all of them")
    return array
