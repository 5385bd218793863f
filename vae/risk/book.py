"""The value of a book of European options and the underlying, today and in scenarios of the surface and the spot.

Rate and dividend yield are constant, so that a return of the spot moves the forwards of all expiries alike. A scenario
may move a strike beyond the nodes of the surface; there the smile keeps the vol of its end.

Reference: Black (1976), "The pricing of commodity contracts".
"""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vae.surface.arbitrage import call_price
from vae.surface.grid import Grid
from vae.surface.interpolation import Interpolation
from vae.surface.normal import normal_cdf

Array = NDArray[np.float64]

CALL, PUT, UNDERLYING = 1, -1, 0
_SAME_TIME = 1e-9  # years
_LEAST_VARIANCE = 1e-12  # of a total variance; an option a moment before its expiry has less


class Book(NamedTuple):
    """Positions, each field [position].

    Attributes:
        kind: ``CALL``, ``PUT`` or ``UNDERLYING``.
        strike: any number for the underlying.
        tenor: years to expiry; any number for the underlying.
        quantity: units held, negative if sold.
    """

    kind: NDArray[np.int64]
    strike: Array
    tenor: Array
    quantity: Array

    @property
    def is_option(self) -> NDArray[np.bool_]:
        """Whether a position is an option, [position]."""
        found: NDArray[np.bool_] = self.kind != UNDERLYING
        return found

    def at(self, places: NDArray[np.intp]) -> Self:
        """The positions at these places, [place]."""
        return type(self)(self.kind[places], self.strike[places], self.tenor[places], self.quantity[places])

    def after(self, years: float) -> Self:
        """The book when so many years have passed; past expiry an option has a tenor of 0 and is worth its payoff."""
        return self._replace(tenor=np.maximum(self.tenor - years, 0.0))


class Underlying(NamedTuple):
    """The spot in each scenario, and what carries it to its forwards.

    Attributes:
        spot: [scenario].
        rate: continuous, 1/year.
        dividend_yield: continuous, 1/year.
    """

    spot: Array
    rate: float = 0.0
    dividend_yield: float = 0.0

    def after(self, log_return: Array) -> Self:
        """The spot moved by log returns [scenario]."""
        return self._replace(spot=self.spot * np.exp(log_return))

    def forward(self, tenor: Array) -> Array:
        """Forwards at tenors [position] in years, [scenario, position]."""
        return self.spot[:, None] * np.exp((self.rate - self.dividend_yield) * tenor)


class Valued(NamedTuple):
    """One unit of each position in each scenario, all [scenario, position].

    Attributes:
        value: in units of the spot.
        vol: of the option; NaN for the underlying and at expiry.
        atm: the vol at the forward of its tenor, likewise.
        beyond: whether the strike lies beyond the nodes of the surface.
    """

    value: Array
    vol: Array
    atm: Array
    beyond: NDArray[np.bool_]


class Greeks(NamedTuple):
    """Derivatives of the value of one unit of each position, all [position].

    Attributes:
        delta, gamma: first and second derivative by the spot at fixed vol.
        vega: by the vol.
    """

    delta: Array
    gamma: Array
    vega: Array


def valued(book: Book, underlying: Underlying, iv: NDArray[np.floating], grid: Grid) -> Valued:
    """One unit of each position by Black's formula.

    Args:
        book: the positions.
        underlying: the spot of each scenario, [scenario].
        iv: surfaces, [scenario, tenor, node].
        grid: of the surfaces.
    """
    expiry = np.where(book.is_option, book.tenor, -1.0)
    order = np.lexsort((book.strike, expiry))  # to find sorted strikes between nodes is quick
    surfaces = Interpolation(iv, grid)
    shape = (len(order), len(underlying.spot))  # rows are quicker to write than columns
    found = [np.empty(shape, kind) for kind in (float, float, float, bool)]
    for places in np.split(order, np.flatnonzero(np.diff(expiry[order])) + 1):
        for whole, part in zip(found, _of_one_expiry(book.at(places), underlying, surfaces, grid), strict=True):
            whole[places] = part.T
    return Valued(*(whole.T for whole in found))


def valued_at_end(
    book: Book, underlying: Underlying, log_return: Array, years: Array, iv: NDArray[np.floating], grid: Grid
) -> Valued:
    """One unit of each position at the end of paths.

    An option that expires on the way is worth its payoff at the spot of the path's last date up to its expiry, with
    interest from then on.

    Args:
        book: the positions at the start.
        underlying: at the start, with one spot.
        log_return: of the underlying since the start, [scenario, date].
        years: from the start to the dates of the path, rising, [date].
        iv: surfaces at the end, [scenario, tenor, node].
        grid: of the surfaces.
    """
    end, total = valued(book.after(years[-1]), underlying.after(log_return[:, -1]), iv, grid), float(years[-1])
    for row in np.flatnonzero(expiring(book, total)):
        option, passed = book.at(np.array([row])), int((years <= book.tenor[row] + _SAME_TIME).sum())
        spot = underlying.after(log_return[:, passed - 1] if passed else np.zeros(len(log_return))).spot
        payoff = np.maximum(_exercised(option, spot[:, None])[:, 0], 0.0)
        end.value[:, row] = payoff * math.exp(underlying.rate * max(total - float(book.tenor[row]), 0.0))
    return end


def expiring(book: Book, years: float) -> NDArray[np.bool_]:
    """Whether a position is an option that expires within so many years, [position]."""
    found: NDArray[np.bool_] = book.is_option & (book.tenor <= years + _SAME_TIME)
    return found


def _of_one_expiry(book: Book, underlying: Underlying, surfaces: Interpolation, grid: Grid) -> Valued:
    """``valued`` of options that expire together, or of positions in the underlying."""
    shape = (len(underlying.spot), len(book.kind))
    unknown, within = np.full(shape, np.nan), np.zeros(shape, bool)
    if not book.is_option.any():
        return Valued(np.repeat(underlying.spot[:, None], shape[1], axis=1), unknown, unknown, within)
    tenor = float(book.tenor[0])
    forward = underlying.forward(book.tenor[:1])
    if tenor == 0.0:
        return Valued(np.maximum(_exercised(book, forward), 0.0), unknown, unknown, within)
    k = _log_moneyness(book, forward)
    variance, at_forward, beyond = _variances(surfaces, grid, tenor, k)
    value = math.exp(-underlying.rate * tenor) * _at_expiry(book, forward, k, variance)
    atm = np.broadcast_to(np.sqrt(at_forward / tenor), shape)
    return Valued(value, np.sqrt(variance / tenor), atm, beyond)


def worth(options: Book, underlying: Underlying, variance: Array) -> Array:
    """One unit of each option of these total variances by Black's formula, [scenario, option].

    Args:
        options: a book without the underlying.
        underlying: the spot of each scenario, [scenario].
        variance: vol^2 tenor, above 0, [scenario, option] or [option].
    """
    forward = underlying.forward(options.tenor)
    value = _at_expiry(options, forward, _log_moneyness(options, forward), variance)
    found: Array = np.exp(-underlying.rate * options.tenor) * value
    return found


def _exercised(options: Book, forward: Array) -> Array:
    """Payoff of exercise at the forward, which may be negative."""
    return np.where(options.kind == PUT, -1.0, 1.0) * (forward - options.strike)


def _log_moneyness(options: Book, forward: Array) -> Array:
    with np.errstate(divide="ignore"):
        k: Array = np.log(options.strike) - np.log(forward)
    return k


def _at_expiry(options: Book, forward: Array, k: Array, variance: Array) -> Array:
    """Black's formula without the discount to today."""
    call = forward * call_price(np.maximum(variance, _LEAST_VARIANCE), k)
    found: Array = call + np.where(options.kind == PUT, _exercised(options, forward), 0.0)
    return found


def enclosed(book: Book, underlying: Underlying, iv: NDArray[np.floating], grid: Grid) -> NDArray[np.bool_]:
    """Whether a surface [tenor, node] encloses a position at one spot, [1]; the underlying always is, [position]."""
    tenors = (book.tenor >= grid.tenors[0]) & (book.tenor <= grid.tenors[-1])
    found: NDArray[np.bool_] = ~book.is_option | (tenors & ~valued(book, underlying, iv[None], grid).beyond[0])
    return found


def greeks(book: Book, underlying: Underlying, vol: Array) -> Greeks:
    """Derivatives of Black's formula at one spot, [1], and the vols of the options, [position]."""
    forward, root = underlying.forward(book.tenor)[0], np.sqrt(book.tenor)
    alive = book.is_option & (book.tenor > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = vol * root
        d1 = np.log(forward / book.strike) / deviation + 0.5 * deviation
        carried = np.exp(-underlying.dividend_yield * book.tenor)
        density = np.exp(-0.5 * d1**2) / math.sqrt(2.0 * math.pi)
        delta = carried * (normal_cdf(d1) - (book.kind == PUT))
        gamma = carried * density / (underlying.spot * deviation)
        vega = carried * underlying.spot * density * root
    return Greeks(
        np.where(alive, delta, np.where(book.is_option, 0.0, 1.0)),
        np.where(alive, gamma, 0.0),
        np.where(alive, vega, 0.0),
    )


def _variances(surfaces: Interpolation, grid: Grid, tenor: float, k: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Total variance at log-moneyness k [scenario, position] and at the forward, and whether k lies beyond the nodes.

    A tenor below the first of the grid has the vols of that at equal k over the root of the tenor.
    """
    read = min(max(tenor, float(grid.tenors[0])), float(grid.tenors[-1]))
    nodes, _ = surfaces.smile(read)
    low, high = nodes[..., :1], nodes[..., -1:]
    scaled = k * math.sqrt(read / tenor)
    points = np.concatenate([np.zeros((len(k), 1)), np.clip(scaled, low, high)], axis=1)
    variance = surfaces.total_variance(read, points) * (tenor / read)
    return variance[:, 1:], variance[:, :1], (scaled < low) | (scaled > high)
