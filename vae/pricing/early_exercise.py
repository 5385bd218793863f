"""Whether the prices of calls and puts show that these can be exercised early.

European prices of one expiry satisfy C - P = D (F - K): a straight line in the strike. The right to exercise is worth
most in the money, of calls at low strikes and of puts at high ones, and bends this line. It leaves C >= S - K and
P >= K - S, where deep European options are worth less.

Reference: Merton (1973), "Theory of rational option pricing", Bell J. of Economics 4(1), sections 2 and 4.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST_PAIRS = 8
_SMALLEST = 1e-4  # deviation from the line, of the forward: below it, vols hardly change
_BEYOND_SPREADS = 0.3  # least share of pairs off the line by more than bid and ask explain; rounding gives a quarter
_BLOCKS = 4  # of neighbouring strikes, whose medians show a bend through noise
_LEAST_BEND = 8.0  # of the medians' range over their noise
_ROUNDED = 1.001  # of the tick: rounding moves the medians apart by one, as half of it each moves C and P
_MOST_BELOW_EXERCISE = 0.02  # of the options, as single faults
_MOST_PAIRS = 100
_TICKS = np.outer(10.0 ** np.arange(3, -5, -1), (6.25, 5.0, 3.125, 2.5, 2.0, 1.25, 1.0)).ravel()  # falling
_ON_TICK = 0.95  # least share of the prices, as some are typed or averaged


def shows(strikes: Array, call: Array, put: Array, half_spread: Array, *, spot: float) -> bool:
    """Whether C - P of one expiry is bent as by early exercise, by more than bid and ask or the tick explain.

    Args:
        strikes: of pairs of call and put, increasing, [pair].
        call: mid prices of the calls, [pair].
        put: mid prices of the puts, [pair].
        half_spread: half of ask less bid of the call and the put together, 0 where not known, [pair].
        spot: of the underlying; NaN where not known, and then exercise values are not looked at.
    """
    if len(strikes) < FEWEST_PAIRS or is_excluded(strikes, call, put, half_spread, spot=spot):
        return False
    tick = _tick(np.maximum(call, put))
    chosen = np.unique(np.linspace(0, len(strikes) - 1, _MOST_PAIRS).round().astype(int))
    x, y, spread = strikes[chosen], (call - put)[chosen], np.maximum(half_spread, 0.5 * tick)[chosen]
    off = _deviation(x, y)
    beyond = np.abs(off) > np.maximum(spread, _SMALLEST * np.median(x))
    if beyond.mean() <= _BEYOND_SPREADS:
        return False
    noise = np.median(np.abs(off[1:-1] - _neighbours_line(x, off)))
    blocks = np.array_split(off, _BLOCKS)
    levels = [np.median(block) for block in blocks]
    least = max(_LEAST_BEND * noise / np.sqrt(len(blocks[-1])), _ROUNDED * tick)
    return bool(np.ptp(levels) > least)


def is_excluded(strikes: Array, call: Array, put: Array, half_spread: Array, *, spot: float) -> bool:
    """Whether prices of one expiry lie below what exercise at once would pay, as no American ones do.

    Args:
        strikes: as of ``shows``, and so are the others; any number of pairs.
        call: likewise.
        put: likewise.
        half_spread: likewise.
        spot: likewise; NaN excludes nothing.
    """
    exercise = np.maximum(np.concatenate((spot - strikes, strikes - spot)), 0.0)
    allowed = np.maximum(half_spread, _tick(np.maximum(call, put))) + _SMALLEST * strikes
    below = np.concatenate((call, put)) < exercise - np.tile(allowed, 2)
    return bool(below.mean() > _MOST_BELOW_EXERCISE)


def _tick(prices: Array) -> float:
    """The largest usual step of which nearly all prices are multiples, 0 for prices that show none.

    Prices in the money have the coarsest steps, where these grow with the price.
    """
    steps = prices / _TICKS[:, None]
    on_tick = (np.abs(steps - np.rint(steps)) < 1e-6 * np.maximum(steps, 1.0)).mean(axis=1) >= _ON_TICK
    return float(_TICKS[on_tick][0]) if on_tick.any() else 0.0


def _deviation(x: Array, y: Array) -> Array:
    """y less its straight line by medians, [pair]."""
    i, j = np.triu_indices(len(x), 1)
    sloped: Array = y - np.median((y[j] - y[i]) / (x[j] - x[i])) * x
    return sloped - np.median(sloped)


def _neighbours_line(x: Array, y: Array) -> Array:
    """The line through the points before and after each inner one, read there, [pair - 2]."""
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    line: Array = (1.0 - share) * y[:-2] + share * y[2:]
    return line
