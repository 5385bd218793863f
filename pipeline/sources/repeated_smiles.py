"""Smiles whose quotes are all those of the time before: nobody has quoted since, as on a holiday."""

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.columns import Array
from pipeline.sources.groups import labels
from pipeline.sources.quote_rows import EXPIRY, Index, QuoteTable
from vae.surface.units import DAYS_PER_YEAR

_FEWEST = 3  # quotes of a smile: fewer, rounded, may be equal by chance
_DIGITS = 3  # decimals of the day of an expiry
_FACTORS = tuple(np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64))

Mask = NDArray[np.bool_]


def marked(table: QuoteTable) -> QuoteTable:
    """The table with the column repeated: 1 in smiles that repeat all quotes of the time before, else 0.

    The smile before is that of the same market and tenor, as in tables of constant maturities, or of the same expiry.
    """
    row = table.kept_rows
    start = np.flatnonzero(table.starts(row, EXPIRY))
    repeated = np.zeros(len(table))
    if len(start):
        size = np.diff(start, append=len(row))
        content = np.add.reduceat(_hash(table, row), start)
        first = row[start]
        surface = labels(table["market"][first], table["time"][first])  # the surfaces of a market count by 1
        tenor = table["tenor"][first]
        expiry = (table["time"][first] + DAYS_PER_YEAR * tenor).round(_DIGITS)
        market = table["market"][first]
        same = _as_before(market, tenor, surface, content, size) | _as_before(market, expiry, surface, content, size)
        repeated[row] = np.repeat(same & (size >= _FEWEST), size)
    return table.with_columns(repeated=repeated)


def counts(table: QuoteTable) -> tuple[int, int]:
    """The number of kept smiles that repeat those before, and of all kept smiles."""
    row = table.kept_rows
    first = row[table.starts(row, EXPIRY)]
    return int(table["repeated"][first].sum()), len(first)


def _as_before(market: Array, place: Array, surface: Index, content: NDArray[np.uint64], size: Index) -> Mask:
    """Whether a smile has the content of the one at the same place in the surface before, [smile]."""
    order = np.lexsort((surface, place, market))
    before, own = order[:-1], order[1:]
    same = (market[own] == market[before]) & (place[own] == place[before]) & (surface[own] == surface[before] + 1)
    found = np.zeros(len(order), bool)
    found[own] = same & (content[own] == content[before]) & (size[own] == size[before])
    return found


def _hash(table: QuoteTable, row: Index) -> NDArray[np.uint64]:
    """A number for the option and the value of each row, [len(row)]."""
    place, value = (table[name][row].view(np.uint64) for name in ("coordinate", "value"))
    put = table.get("put", 0.0)[row].astype(np.uint64)
    code: NDArray[np.uint64] = _FACTORS[0] * place + _FACTORS[1] * value + _FACTORS[2] * put
    mixed: NDArray[np.uint64] = (code ^ (code >> np.uint64(29))) * _FACTORS[0]
    return mixed
