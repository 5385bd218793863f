"""The sources of a P&L, and the hedges that leave least of it.

The P&L of a scenario is split by the Taylor series of Black's formula about today: the move of the spot to second
order, the time that passes, the vol of the expiry at the money, and what the vol of the strike does beside it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.risk.book import Book, Underlying, Valued, greeks, valued
from vae.surface.grid import Grid

Array = NDArray[np.float64]

_STILL = 1e-9  # share of its P&L by which an instrument must move to hedge


class Explained(NamedTuple):
    """Parts of the P&L of a book, each [scenario].

    Attributes:
        time: the passing of time with spot and vols as they are.
        delta, gamma: the move of the spot, to first and second order.
        vega: the change of the vol at the money of each expiry.
        skew: the change of the vol of each strike beyond that.
        rest: what is left of the P&L.
    """

    time: Array
    delta: Array
    gamma: Array
    vega: Array
    skew: Array
    rest: Array

    @property
    def pnl(self) -> Array:
        """The whole, [scenario]."""
        return np.asarray(np.sum(self, axis=0))


def explained(
    book: Book,
    underlying: Underlying,
    log_return: Array,
    today: NDArray[np.floating],
    after: Valued,
    grid: Grid,
    years: float,
) -> Explained:
    """The P&L of a book over scenarios, by its parts.

    Args:
        book: the positions.
        underlying: today, with one spot.
        log_return: of the spot, [scenario].
        today: the surface today, [tenor, node].
        after: the positions in the scenarios, ``years`` later.
        grid: of the surface.
        years: that pass until then.
    """
    before = valued(book, underlying, today[None], grid)
    later = book.after(years)
    unmoved = valued(later, underlying, today[None], grid)
    slopes = greeks(later, underlying, unmoved.vol[0])
    move = underlying.spot * np.expm1(log_return)
    level = _change(after.atm, unmoved.atm)
    known = {
        "time": np.broadcast_to((unmoved.value - before.value) @ book.quantity, move.shape),
        "delta": move * (slopes.delta @ book.quantity),
        "gamma": 0.5 * move**2 * (slopes.gamma @ book.quantity),
        "vega": level @ (slopes.vega * book.quantity),
        "skew": (_change(after.vol, unmoved.vol) - level) @ (slopes.vega * book.quantity),
    }
    pnl = (after.value - before.value) @ book.quantity
    return Explained(**known, rest=pnl - np.sum(list(known.values()), axis=0))


def _change(after: Array, before: Array) -> Array:
    """The change of a vol; 0 where there is none."""
    return np.nan_to_num(after - before)


class Hedge(NamedTuple):
    """The hedge that leaves least variance.

    Attributes:
        quantity: of each instrument to hold, [instrument].
        left: standard deviation of the hedged P&L, as a share of that of the P&L.
    """

    quantity: Array
    left: float


def least_variance_hedge(pnl: Array, instruments: Array) -> Hedge:
    """Quantities of instruments, P&L of a unit [scenario, instrument], that hedge a P&L [scenario] best.

    Of an instrument that does not move, as the underlying whose return is given, it takes none.

    Reference: Hull, White (2017), "Optimal delta hedging for options".
    """
    centred, units = pnl - pnl.mean(), instruments - instruments.mean(0)
    units = np.where(units.std(0) > _STILL * np.abs(instruments).max(0), units, 0.0)
    quantity = 0.0 - np.linalg.lstsq(units, centred, rcond=None)[0]
    deviation = float(centred.std())
    left = float((centred + units @ quantity).std()) / deviation if deviation else 0.0
    return Hedge(quantity, left)
