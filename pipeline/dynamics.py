"""The history of surfaces that a law of motion is fitted to, and the law that ships."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from pipeline.errors import InputError
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.files.motion_file import FittedMotion
from pipeline.settings.train import DynamicsParams, TrainParams
from vae.dynamics.choice import chosen_walk
from vae.dynamics.fit import FEWEST_DATES, History
from vae.dynamics.law import FORMS, Array, advanced, passed
from vae.model.autoencoder import Vae
from vae.surface.days import weekdays_passed

Days = np.ndarray[tuple[int], np.dtype[np.int64]]  # since 1970-01-01

_FITTED = SPLITS[:-1]


class Dated(NamedTuple):
    """A history and the surfaces that it was read from.

    Attributes:
        history: in the coordinates of the model.
        points: log vols, NaN where missing, [date, D].
    """

    history: History
    points: Array


def check_dynamics(settings: TrainParams, data: Dataset) -> None:
    """Check before training, which may take hours, that a law of motion can be fitted.

    Raises:
        InputError: the data or the model do not suit one.
    """
    if settings.dynamics is None:
        return
    if data.of_vectors or data.date("train") is None:
        raise _refused("the data have no dates")
    if len(data.markets) > 1:
        raise _refused(f"the data have {len(data.markets)} markets, and a law of motion is of one")
    dates = np.concatenate(
        [_dates(data, split)[_priced(settings.dynamics.underlying, data, split)] for split in _FITTED]
    )
    if (np.diff(dates) == 0).any():
        raise _refused("some dates have several surfaces, and a law of motion needs one a date")
    if len(dates) < FEWEST_DATES:
        known = "" if settings.dynamics.underlying is None else f" with a number for {settings.dynamics.underlying}"
        raise _refused(f"train and validation have {len(dates)} dates{known}, fewer than {FEWEST_DATES}")
    apart = float(np.median(weekdays_passed(dates[:-1], dates[1:])))
    if apart > 1.0:
        raise _refused(f"half of the dates are {apart:g} or more working days apart, and a law of motion is daily")


def fit_motion(settings: DynamicsParams, model: Vae, data: Dataset) -> FittedMotion:
    """The law of the dates before the test split, and the state at the last of them."""
    history = dated(model, data, _FITTED, settings.underlying).history
    walked = chosen_walk(history, FORMS[settings.form])
    return FittedMotion(walked.law(), walked.state(), int(history.days[-1]), settings.form, settings.underlying)


def latest(motion: FittedMotion, model: Vae, data: Dataset) -> FittedMotion:
    """The law with its state at the last date of the test split, which it filters through but does not learn from."""
    if not tested_dates(data, motion.underlying):
        return motion
    history = dated(model, data, SPLITS, motion.underlying).history
    first = int(np.flatnonzero(history.days == motion.date)[0])
    state = motion.state
    for week, move in zip(passed(history.days)[first:], history.moves[first:], strict=True):
        state = advanced(motion.law, state, week, move)
    return motion._replace(state=state, date=int(history.days[-1]))


def dated(model: Vae, data: Dataset, splits: Sequence[str], underlying: str | None) -> Dated:
    """The surfaces of some splits, of dates where the price of the underlying is known if there is one."""
    kept = [_priced(underlying, data, split) for split in splits]
    x = torch.cat([torch.from_numpy(data.points(split)[own]) for split, own in zip(splits, kept, strict=True)]).double()
    days = np.concatenate([_dates(data, split)[own] for split, own in zip(splits, kept, strict=True)])
    with torch.no_grad():
        coordinates = model.observe(x).values.numpy()
    price = None
    if underlying is not None:
        parts = [data.conditions(split)[underlying][own] for split, own in zip(splits, kept, strict=True)]
        price = np.log(np.concatenate(parts))
    return Dated(History(coordinates, days, model.basis.numpy(), price), x.log().numpy())


def tested_dates(data: Dataset, underlying: str | None) -> int:
    """Number of test surfaces that ``dated`` takes."""
    return int(_priced(underlying, data, "test").sum())


def _dates(data: Dataset, split: str) -> Days:
    """Days since 1970-01-01 of the surfaces of a split of dated data, [surface]."""
    found = data.date(split)
    return np.zeros(0, np.int64) if found is None else found.astype(np.int64)


def _priced(underlying: str | None, data: Dataset, split: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether a law can use each surface of a split, [surface]: the price of the underlying is known, if there is one.

    Raises:
        InputError: the data have no such price.
    """
    if underlying is None:
        return np.ones(len(_dates(data, split)), bool)
    numbers = data.conditions(split)
    if underlying not in numbers:
        raise InputError(
            f"params.yaml: train.dynamics.underlying is {underlying}, which is not among the numbers of the data "
            f"({', '.join(sorted(numbers)) or 'none'}); name its column in prepare.quotes.conditions, or set null for "
            f"a law without a return"
        )
    return np.asarray(numbers[underlying] > 0.0, bool)  # NaN is not


def _refused(reason: str) -> InputError:
    return InputError(f"params.yaml: train.dynamics is set, but {reason}; allowed: null")
