"""Backtests of the value at risk and the expected shortfall that a law of motion states for a standard set of books.

For five tenors the set has five options out of the money, a straddle, a risk reversal and a butterfly, and calendars
between neighbouring tenors; each bought and sold. Rates are 0, as the data have none. Strikes and values are in units
of the spot, so that the books of all dates compare.

Reference: Cohen, Reisinger, Wang (2023), "Estimating risks of European option books using neural stochastic
differential equation market models", Journal of Computational Finance 26(3), section 5, for sets of strategies.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.dynamics.fit import Walk
from vae.risk import backtests
from vae.risk.book import CALL, PUT, Book, Underlying, valued
from vae.risk.measures import risk
from vae.surface import interpolation
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

LEVELS = (0.95, 0.99)
_SHORTFALL = 0.975  # level of the expected shortfall, as Basel has it
_PATHS = 1000  # of a date
_TENORS = 5
_REACH = 0.8  # of a smile's ends: a move of the spot must not take strikes beyond them
_PLACES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of strikes, from one end of the reach to the other; 0 is at the money
_SIGNIFICANT = 0.05


class Losses(NamedTuple):
    """Losses of each book over each test date, in units of the spot before.

    Attributes:
        seen: [date, book].
        drawn: of each scenario, [date, path, book].
    """

    seen: Array
    drawn: NDArray[np.float32]


class _Standard(NamedTuple):
    """Options of one date, and how many of each a book holds, [option, book]."""

    options: Book
    held: Array


def losses(
    walked: Walk,
    iv: Array,
    center: Array,
    grid: Grid,
    log_price: Array,
    days: NDArray[np.integer],
    *,
    first: int,
) -> Losses:
    """Losses of the standard books over the dates from the place ``first`` on, bought and sold.

    Scenarios are spread evenly over the shocks of the law, so that chance moves no figure.

    Args:
        walked: through all dates, by a law with a return.
        iv: surfaces without gaps, [date, tenor, node].
        center: log vols of the surface with coordinates of 0, [D].
        grid: of the surfaces.
        log_price: of the underlying, [date].
        days: dates, days since 1970-01-01, [date].
        first: place of the first date.
    """
    seen, drawn = [], []
    for origin in range(first - 1, len(iv) - 1):
        found = walked.scenarios(origin, (np.arange(_PATHS)[:, None] + 0.5) / _PATHS)
        surfaces = np.exp(center + found.coordinates[:, 0] @ walked.basis.T).reshape(-1, *grid.shape)
        standard, years = _standard(iv[origin], grid), (days[origin + 1] - days[origin]) / DAYS_PER_YEAR
        before = valued(standard.options, Underlying(np.ones(1)), iv[origin][None], grid).value
        both = np.concatenate([iv[origin + 1][None], surfaces])
        spot = np.exp(np.append(log_price[origin + 1] - log_price[origin], found.log_return[:, 0]))
        pnl = (valued(standard.options.after(years), Underlying(spot), both, grid).value - before) @ standard.held
        seen.append(np.append(-pnl[0], pnl[0]))
        drawn.append(np.concatenate([-pnl[1:], pnl[1:]], axis=1).astype(np.float32))
    return Losses(np.stack(seen), np.stack(drawn))


def backtest_metrics(found: Losses, name: str, *, seed: int) -> dict[str, float]:
    """Flat figures, their names with the prefix ``name``: of how many books a test rejects the law at 5 %.

    Args:
        found: the losses.
        name: of the law, such as ``fhs_``; empty for the model's own.
        seed: of the test of expected shortfall.
    """
    figures: dict[str, float] = {f"{name}var_books": found.seen.shape[1]}
    for level in LEVELS:
        stated = _stated(found, level)[..., 0]
        over, key = (found.seen > stated).T, f"{name}var_{100 * level:.0f}"
        figures[f"{key}_exceedance_rate"] = float(over.mean())
        figures[f"{key}_kupiec_fails"] = sum(backtests.kupiec(each, level) < _SIGNIFICANT for each in over)
        figures[f"{key}_christoffersen_fails"] = sum(backtests.independence(each) < _SIGNIFICANT for each in over)
        figures[f"{key}_red"] = sum(backtests.traffic_light(each, level) == "red" for each in over)
    stated = _stated(found, _SHORTFALL)
    tests = (
        backtests.shortfall(
            found.seen[:, book], stated[:, book].T, found.drawn[..., book].astype(float), _SHORTFALL, seed=seed
        )
        for book in range(found.seen.shape[1])
    )
    figures[f"{name}es_97_5_acerbi_szekely_fails"] = sum(p_value < _SIGNIFICANT for _, p_value in tests)
    return figures


def _stated(found: Losses, level: float) -> Array:
    """Value at risk and expected shortfall of each date and book, [date, book, 2]."""
    return np.array([[risk(-path, level)[::2] for path in date.T.astype(float)] for date in found.drawn])


def _standard(iv: Array, grid: Grid) -> _Standard:
    """The standard books on a surface [tenor, node]."""
    chosen = np.unique(np.linspace(0, len(grid.tenors) - 1, _TENORS).round().astype(int))
    kinds, strikes, tenors, books = [], [], [], []
    for place, tenor in enumerate(grid.tenors[chosen].tolist()):
        k = interpolation.smile(iv, grid, tenor)[0]
        strikes += [np.exp(_REACH * each * (-k[0] if each < 0.0 else k[-1])) for each in (*_PLACES, 0.0)]
        kinds += [PUT, PUT, CALL, CALL, CALL, PUT]
        tenors += [tenor] * 6
        books += [{6 * place + i: 1.0} for i in range(5)]
        low, below, middle, above, high, other = range(6 * place, 6 * place + 6)
        books += [{middle: 1.0, other: 1.0}, {high: 1.0, low: -1.0}]
        books.append({below: 1.0, above: 1.0, middle: -1.0, other: -1.0})
        if place:
            books.append({middle: 1.0, middle - 6: -1.0})
    held = np.zeros((len(kinds), len(books)))
    for number, book in enumerate(books):
        held[list(book), number] = list(book.values())
    return _Standard(Book(np.array(kinds), np.array(strikes), np.array(tenors), np.ones(len(kinds))), held)
