"""Static arbitrage of quotes at their own strikes, before any surface is made of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.quote_rows import EXPIRY, SURFACE, QuoteTable
from vae.surface.normal import normal_cdf

Array = NDArray[np.float64]

TOLERANCE = 1e-3  # of the forward: more than bid and ask explain
_SAME_STRIKE = 1e-9
_FEWEST = 3  # quotes of a smile that may have a butterfly


class Rates(NamedTuple):
    """Shares of quotes with static arbitrage.

    Attributes:
        butterfly: share of the smiles of three quotes and more in which a call costs more than its neighbours allow,
            beyond ``TOLERANCE``; None where there is no such smile.
        calendar: share of neighbouring expiries of a surface between which the at-the-money total variance falls; None
            where no two are quoted on both sides of the money.
    """

    butterfly: float | None
    calendar: float | None


def rates(table: QuoteTable) -> Rates:
    """The rates of quotes with k and vol, of which at least one is usable."""
    row = table.kept_rows
    starts = np.flatnonzero(table.starts(row, EXPIRY))
    smiles = [own[np.argsort(table["k"][own], kind="stable")] for own in np.split(row, starts[1:])]
    butterfly, at_money = [], []
    for own in smiles:
        k, variance = table["k"][own], table["vol"][own] ** 2 * table["tenor"][own]
        if len(own) >= _FEWEST:
            butterfly.append(has_butterfly(k, np.sqrt(variance)))
        at_money.append(np.interp(0.0, k, variance) if k[0] <= 0.0 <= k[-1] else np.nan)
    rises = np.diff(at_money)[~table.starts(row[starts], SURFACE)[1:]]
    rises = rises[np.isfinite(rises)]
    return Rates(float(np.mean(butterfly)) if butterfly else None, float((rises < 0.0).mean()) if len(rises) else None)


def has_butterfly(k: Array, total_vol: Array) -> bool:
    """Whether a call costs more than the line between its neighbours at its strike, beyond ``TOLERANCE``.

    Args:
        k: ln(K/F), not decreasing, [quote].
        total_vol: vol sqrt(tenor), [quote].
    """
    distinct = np.diff(k, prepend=-np.inf) > _SAME_STRIKE
    k, total_vol = k[distinct], total_vol[distinct]
    if len(k) < _FEWEST:
        return False
    d1 = 0.5 * total_vol - k / total_vol
    strike, call = np.exp(k), normal_cdf(d1) - np.exp(k) * normal_cdf(d1 - total_vol)
    weight = (strike[2:] - strike[1:-1]) / (strike[2:] - strike[:-2])
    return bool((call[1:-1] - weight * call[:-2] - (1.0 - weight) * call[2:] > TOLERANCE).any())
