"""How well the law of motion of a bundle foretells dates that it has not seen: the log score of each, one step ahead.

The score is the log density of the next date's level, the mean log vol of the surface, and of the return of the
underlying where the law has one, by kernels around many scenarios of that date. The mean score of scenarios themselves
is taken from it: what is left has the mean 0 under the law, on calm and on wild dates. The state is then filtered
through the date. Each date has scenarios of its own, by the seed of its day: the error of the mean of so few scores is
independent of the other dates', and averages out with them.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

import datetime as dt
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import progress
from pipeline.files.dataset import SPLITS, Dataset
from vae.dynamics.choice import log_density
from vae.motion import is_one_step
from vae.motion_state import State
from vae.runtime import SurfaceModel, VectorModel
from vae.surface.days import date_of, day_of

Array = NDArray[np.float64]

_PATHS, _OTHERS = 1000, 50  # scenarios of each date, and more, whose own score is what the law expects
_SETTLING, _JUDGED = 250, 250  # dates through which a state is filtered first, and dates of the test split, at most
_LONG_AGO = dt.timedelta(days=1000)
_LEFT_OUT = "scheduled runs leave it out, as they do not decide by it; `volvae drift` shows it"


class Dates(NamedTuple):
    """Surfaces of dates.

    Attributes:
        iv: decimal vols, NaN where missing, [date, tenor, node].
        days: since 1970-01-01, [date].
        price: of the underlying, NaN where it is not known, [date]; None where the file has none.
        markets: names of those that the surfaces are of.
    """

    iv: NDArray[np.floating]
    days: NDArray[np.integer]
    price: Array | None = None
    markets: tuple[str, ...] = ()


class LogScores(NamedTuple):
    """Log scores of dates, one step ahead, less what the law expects of them.

    Attributes:
        nats: NaN where a date is not scored, each with a standard error of 0.1 of what the law expects, [date].
        reasons: why dates are not, each once.
    """

    nats: Array
    reasons: tuple[str, ...] = ()

    @property
    def known(self) -> Array:
        """Those of the dates that are scored."""
        return self.nats[np.isfinite(self.nats)]


def underlying_of(model: SurfaceModel) -> str | None:
    """The condition that holds the price of the underlying; None for a law of surfaces alone, or none at all."""
    name = model.manifest.get("dynamics", {}).get("underlying")
    return None if name is None else str(name)


def of_incoming(model: SurfaceModel, dates: Dates | None) -> LogScores | None:
    """The scores of newer dates, from the last one of the bundle's data on; None of a model without a law of motion.

    Args:
        model: of surfaces.
        dates: rising; None where they are not known.
    """
    if "dynamics" not in model.manifest:
        return None
    if dates is None:
        return LogScores(np.zeros(0), ("the dates of the surfaces are not known",))
    if len(dates.markets) > 1:
        return LogScores(np.zeros(0), ("the surfaces are of several markets, and the law is of one",))
    return _walked(model, dates, model.state, named="incoming dates")


def left_out(model: SurfaceModel | VectorModel) -> LogScores | None:
    """The scores of no date, for a scheduled run, which does not decide by them; None where there is no law."""
    if "dynamics" not in model.manifest:
        return None
    return LogScores(np.zeros(0), (_LEFT_OUT,))


def of_test_split(model: SurfaceModel, data: Dataset) -> LogScores | None:
    """The scores of the last test dates, which the law of the bundle did not learn from; None where there is no law."""
    days = [part for split in SPLITS if (part := data.date(split)) is not None]
    if "dynamics" not in model.manifest or len(days) < len(SPLITS):
        return None
    judged = min(len(days[-1]), _JUDGED)
    last = slice(-judged - _SETTLING, None)
    name = underlying_of(model) or ""
    prices = [known[name] for split in SPLITS if name in (known := data.conditions(split))]
    dates = Dates(
        np.concatenate([data.arrays(split)["iv"] for split in SPLITS])[last],
        np.concatenate(days)[last],
        np.concatenate(prices)[last] if len(prices) == len(SPLITS) else None,
    )
    begun = model.state._replace(date=date_of(dates.days[0]) - _LONG_AGO)
    found = _walked(model, dates, begun, first=len(dates.days) - judged, named="test dates")
    return found._replace(nats=found.nats[-judged:])


def _walked(model: SurfaceModel, dates: Dates, state: State, *, first: int = 0, named: str = "dates") -> LogScores:
    """The scores of dates from the first one on, and the state filtered through those before it."""
    nats, reasons, before = np.full(len(dates.days), np.nan), [], np.nan
    priced = underlying_of(model) is not None
    prices = np.full(len(dates.days), np.nan) if dates.price is None else dates.price
    rows = zip(dates.iv, dates.days.tolist(), prices.tolist(), strict=True)
    shown = progress.track(
        rows, total=len(prices), label=f"law of motion, {named}", note=lambda row: str(date_of(row[1]))
    )
    for place, (iv, day, price) in enumerate(shown):
        step = day - day_of(state.date)
        if reason := _unfit(iv, step, priced=priced, price=price):
            reasons.append(reason)
            continue
        known = not priced or before > 0.0
        log_return = math.log(price / before) if priced and known else 0.0
        after = model.next_state(iv, date_of(day), log_return=log_return if priced else None, state=state)
        before = price
        if not is_one_step(state.date, after.date):
            reasons.append(_TOO_FAR)
            state = after
            continue
        if not known:
            reasons.append(_FIRST_PRICE)
            unmoved = np.zeros_like(state.recent)
            # ``filtered`` stays, so that variances follow the surface, of laws whose variances do
            state = state._replace(date=after.date, coordinates=after.coordinates, iv=after.iv, recent=unmoved)
            continue
        if place >= first:
            nats[place] = _log_score(model, state, after, log_return if priced else None)
        state = after
    return LogScores(nats, tuple(dict.fromkeys(reasons)))


_TOO_FAR = (
    "a date that follows over a gap of five working days or more is not foretold; the law starts anew there with its "
    "deviations of before, moved by the surface where those of the law are, and they settle within some twenty dates"
)
_FIRST_PRICE = "the first date with a price of the underlying has no return"


def _unfit(iv: NDArray[np.floating], step: int, *, priced: bool, price: float) -> str | None:
    """Why a date is left out; None where it is not."""
    if step <= 0:
        return "dates that are not after the last one of the model's data, or have several surfaces, are left out"
    if priced and not price > 0.0:
        return "dates without a price of the underlying are left out"
    if not np.isfinite(iv).all():
        return "dates with missing points are left out"
    return None


def _log_score(model: SurfaceModel, state: State, after: State, log_return: float | None) -> float:
    """Of the move from a state to the one after it, less the mean of scenarios that are scored likewise."""
    drawn = model.scenarios(state, [after.date], n=_PATHS + _OTHERS, seed=after.date.toordinal())
    moves = [np.log(drawn.iv[:, 0]).mean(axis=(1, 2), dtype=np.float64)]
    seen = [float(np.log(after.iv).mean(dtype=np.float64))]
    if log_return is not None:
        moves.append(drawn.log_return[:, 0].astype(np.float64))
        seen.append(log_return)
    whole, equal = np.stack(moves, axis=1), np.full(_PATHS, 1.0 / _PATHS)
    own, *others = (log_density(whole[:_PATHS], equal, move) for move in (np.array(seen), *whole[_PATHS:]))
    return own - sum(others) / _OTHERS
