"""Vols that a vendor writes where it has none: the same number on many strikes, or powers of 2.

A solver that fails leaves its start or a bound behind: 1e-5 and 0.0039, 0.0078, ..., 0.25, 0.5 in Yahoo's chains, or
one constant. Such rows look like quotes, and bend a surface by thousands of basis points.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.columns import Array
from pipeline.sources.groups import labels, medians
from pipeline.sources.quote_rows import EXPIRY, STRIKE, SURFACE, Index, QuoteTable

_RUNGS = np.array([1e-5, *2.0 ** -np.arange(10, -1, -1)])
_RUNG_WIDTH = 2e-5  # a bisection that starts at 1e-5 ends near a power of 2
_LOW = 0.2  # of the median vol of the surface: lower rungs are no quotes
_FEWEST_LOW = 2  # of them in a surface, which show that its rungs are placeholders
_FEWEST_STRIKES = 3  # that repeat a number
_FLAT = 0.5  # of the quotes of an expiry: a number of more of them is its whole smile
_LEAST_SMILE = 0.25  # quotes of other numbers for each that repeats one
_FEWEST_FLAT = 5  # strikes of an expiry that is flat where others smile
_SMILING = 3  # expiries for each that is flat: it and two others
_COARSE, _FINE = 200, 1000  # steps in 1 to which vols are rounded, so that they repeat each other
_JUMP = 0.2  # least mean of |ln(vol / vol of the next strike)| at the ends of a repeated number


def without_placeholders(table: QuoteTable) -> QuoteTable:
    """The table of vols without placeholders: powers of 2 where some are far too low, and repeated numbers that jump.

    A number that at least three strikes of an expiry repeat is a placeholder where the vols of the next strikes are far
    from it. A number of most quotes of an expiry is a flat smile, and a placeholder where the other expiries smile or a
    smile stands beside it. What is a placeholder at one expiry is one at all expiries of the surface.
    """
    row = table.kept_rows
    vol = table["value"][row]
    return table.reject("placeholder", row[_on_ladder(table, row, vol) | _repeated(table, row, vol)])


def _on_ladder(table: QuoteTable, row: Index, vol: Array) -> NDArray[np.bool_]:
    """Rows on a rung, in surfaces where several rungs are far below the median vol, [len(row)]."""
    nearest = _RUNGS[np.searchsorted(0.5 * (_RUNGS[1:] + _RUNGS[:-1]), vol)]
    rung = np.abs(vol - nearest) <= _RUNG_WIDTH
    surface = np.cumsum(table.starts(row, SURFACE)) - 1
    low = rung & (vol < _LOW * medians(surface, np.where(rung, np.nan, vol))[surface])
    return np.asarray(rung & (np.bincount(surface, low)[surface] >= _FEWEST_LOW))


def _repeated(table: QuoteTable, row: Index, vol: Array) -> NDArray[np.bool_]:
    """Rows whose number stands on many strikes of their expiry but is no smile, [len(row)]."""
    if _rounded(vol, _COARSE):
        return np.zeros(len(row), bool)
    expiry = np.cumsum(table.starts(row, EXPIRY)) - 1
    strike = np.cumsum(table.starts(row, STRIKE)) - 1
    # one group for each number of an expiry; a call and a put of one strike count once
    group = labels(expiry, vol)
    pair = labels(group, strike)
    first = np.unique(pair, return_index=True)[1]
    count = np.bincount(group[first], minlength=group.max(initial=-1) + 1)
    edge = np.flatnonzero((np.diff(expiry) == 0) & (np.diff(group) != 0) & (vol[1:] > 0.0) & (vol[:-1] > 0.0))
    jump = np.abs(np.log(vol[edge + 1] / vol[edge]))
    sides = np.concatenate((group[edge], group[edge + 1]))
    total, edges = (np.bincount(sides, part, len(count)) for part in (np.tile(jump, 2), np.ones(len(sides))))
    jumps = total > _JUMP * np.maximum(edges, 1.0)
    many = count[group] >= _FEWEST_STRIKES
    flat = many & (np.bincount(group)[group] >= _FLAT * np.bincount(expiry)[expiry])
    surface = np.cumsum(table.starts(row, SURFACE)) - 1
    odd = _few(flat, expiry, surface) & (count[group] >= _FEWEST_FLAT) & (not _rounded(vol, _FINE))
    own, others = np.bincount(group)[group], np.bincount(expiry)[expiry] - np.bincount(group)[group]
    beside = (others >= _FEWEST_STRIKES) & (others >= _LEAST_SMILE * own)
    found = many & np.where(flat, odd | (jumps[group] & beside), jumps[group])
    number = labels(surface, vol)
    return np.asarray(np.bincount(number, found)[number] > 0.0)


def _rounded(vol: Array, steps: int) -> bool:
    """Whether all vols are whole multiples of 1 / steps."""
    return bool(np.allclose(steps * vol, np.rint(steps * vol), rtol=0.0, atol=1e-6))


def _few(flat: NDArray[np.bool_], expiry: Index, surface: Index) -> NDArray[np.bool_]:
    """Whether at most a third of the expiries of each row's surface are flat, [len(flat)]."""
    first = np.flatnonzero(np.diff(expiry, prepend=-1))
    flat_expiry = np.bincount(expiry, flat) > 0.0
    flat_count, count = np.bincount(surface[first], flat_expiry), np.bincount(surface[first])
    few: NDArray[np.bool_] = (_SMILING * flat_count <= count)[surface]
    return few
