"""The state that ``volvae complete --state`` keeps in a file from one completion to the next."""

import datetime as dt
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, shown
from pipeline.files import formats
from vae.runtime import State, SurfaceModel
from vae.surface.days import weekdays_passed


def read(path: Path, model: SurfaceModel) -> State:
    """The state of a file; where there is none yet, that of the bundle.

    Raises:
        InputError: the file holds no state of this model.
    """
    newest = model.state
    if not path.exists():
        return newest
    try:
        return read_kept(path, model)
    except InputError as error:
        raise InputError(f"{error}; without the file, completion starts at {newest.date}") from error


def read_kept(path: Path, model: SurfaceModel) -> State:
    """The state of a file.

    Raises:
        InputError: there is no file, it holds no state of this model, or the model has no law of motion.
    """
    try:
        return model.state_of_plain(formats.read_json(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def write(path: Path, model: SurfaceModel, state: State) -> None:
    """Write a state in one step."""
    formats.write_json(path, model.state_to_plain(state))


def keep(
    path: Path, model: SurfaceModel, previous: State, new: State | None, elapsed: float
) -> tuple[dict[str, Any], str]:
    """Write the state after a completion, if there is one; the figures of it, and the same in words.

    Args:
        path: of the file.
        model: that completed the surface.
        previous: the state before.
        new: the state after; None where none follows, so that the file stays.
        elapsed: working days between the two.
    """
    if new is not None:
        write(path, model, new)
    figures = {"state": str(path), "previous": previous.date.isoformat(), "elapsed": elapsed}
    words = (
        f"the new one is in {shown(path)}" if new is not None else f"no new one follows, and {shown(path)} is as it was"
    )
    text = f"{elapsed:g} working days after the state of {previous.date}, {words}"
    return figures | {"state_kept": new is not None}, text


def elapsed(state: State, when: str, given: float | None) -> float:
    """Working days from a state to quotes.

    Args:
        state: before.
        when: date or time of the quotes; empty where it is not known.
        given: the user's own number of days, which counts first.

    Raises:
        InputError: the quotes have a date that no working day parts from the state.
    """
    if given is not None:
        return given
    if not when:
        return 1.0
    date = dt.date.fromisoformat(when[:10])
    days = float(weekdays_passed(state.date, date)) - state.elapsed
    if days <= 0.0:
        raise InputError(
            f"the quotes are of {date}, the state of {state.date}; --elapsed says which part of a working day they are "
            "apart, or start from an older state"
        )
    return days
