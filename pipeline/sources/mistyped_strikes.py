"""Strikes with a digit too many or too few, far from all others of their expiry.

Such a row looks like a quote, and the smile is read up to it: a grid has vols where the market has none. A distance
alone shows nothing, as vendors quote 60 % of the spot at a week. What shows is an option that is worth more than one
nearer the money, or a strike which, with one digit less or more, is the one that the expiry lacks, with the vol there.
"""

from collections.abc import Iterator

import numpy as np

from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import EXPIRY, SURFACE, Index, QuoteTable
from vae.surface.arbitrage import call_price

_GAP = 0.7  # of ln K to the next strike: a digit moves it by more but in the widest chains
_FEWEST = 4  # strikes of an expiry beside such a one
_SAME_VOL = 0.05  # relative, of the vol and the smile at the strike that is meant
_OTHER_VOL = 0.02  # relative, from the nearest vol: on a flat smile each strike has the vol of each other
_WORTH = 2.0  # of the next option's price, which may be a tick
_DIGITS = 9  # decimals of a strike
_LEAST_PRICE = 1e-6  # of the forward: smaller ones are rounding


def without_mistyped(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table, with k and vol, without such rows."""
    if params.columns.by_delta:
        return table
    row = table.kept_rows
    expiries = np.cumsum(table.starts(row, EXPIRY)) - 1
    order = np.lexsort((table["k"][row], expiries))
    row, expiries = row[order], expiries[order]
    wide = np.flatnonzero((np.diff(table["k"][row]) > _GAP) & (np.diff(expiries) == 0))
    found = []
    for expiry in np.unique(expiries[wide]).tolist():
        own = row[slice(*np.searchsorted(expiries, (expiry, expiry + 1)))]
        found += [far for far, others in _far(table, own) if _is_mistyped(table, params, far, others)]
    return table.reject("outlier", np.array(found, np.int64))


def _far(table: QuoteTable, own: Index) -> Iterator[tuple[int, Index]]:
    """The lowest and the highest strike of an expiry where they stand alone, each with the other rows.

    Args:
        table: the quotes.
        own: rows of the expiry by increasing strike.
    """
    if len(own) <= _FEWEST:
        return
    gaps = np.diff(table["k"][own])
    if gaps[0] > _GAP:
        yield int(own[0]), own[1:]
    if gaps[-1] > _GAP:
        yield int(own[-1]), own[-2::-1]


def _is_mistyped(table: QuoteTable, params: QuotesParams, far: int, others: Index) -> bool:
    """Whether a strike is not that of its quote.

    Args:
        table: the quotes.
        params: settings.
        far: the row.
        others: the other rows of its expiry, the nearest strike first.
    """
    k, vol = table["k"], table["vol"]
    nearest = int(others[0])
    same_side = k[far] * k[nearest] > 0.0
    if same_side and _price(table, params, far, "bid") > max(
        _WORTH * _price(table, params, nearest, "ask"), _LEAST_PRICE
    ):
        return True
    if params.columns.log_moneyness is not None:
        return False
    strikes = np.log(table["coordinate"][others])
    order = np.argsort(strikes)
    smile = np.interp(np.log(_meant(table, far, others)), strikes[order], vol[others][order])
    off, from_nearest = np.abs(vol[far] / smile - 1.0), abs(vol[far] / vol[nearest] - 1.0)
    return bool(from_nearest > _OTHER_VOL and (off <= min(_SAME_VOL, 0.5 * from_nearest)).any())


def _price(table: QuoteTable, params: QuotesParams, row: int, side: str) -> float:
    """The bid or ask of a row out of the money, of the forward; its own price where only vols or mids are known."""
    k = table["k"][row]
    price = float(call_price(table["vol"][row] ** 2 * table["tenor"][row], np.abs(k)) * np.exp(min(k, 0.0)))
    share = table[side][row] / table["value"][row] if params.columns.priced and side in table else 1.0
    return price * share


def _meant(table: QuoteTable, far: int, others: Index) -> Array:
    """The strikes that a row may mean: a digit or a point off, inside of the others, and missing among them, [strike].

    They are quoted at another expiry, or on the other side, or stand in the file where the row does.
    """
    surface, expiry = _alike(table, far, SURFACE), _alike(table, far, EXPIRY)
    own = expiry if "put" not in table else expiry[table["put"][expiry] == table["put"][far]]
    strike, near = table["coordinate"], _one_digit_off(table["coordinate"][far])
    known, quoted = (strike[rows].round(_DIGITS) for rows in (surface, own))
    before, after = _neighbours(table, far, own)
    near = near[(near > strike[others].min()) & (near < strike[others].max()) & ~np.isin(near, quoted)]
    meant: Array = near[np.isin(near, known) | ((near > before) & (near < after))]
    return meant


def _alike(table: QuoteTable, row: int, names: tuple[str, ...]) -> Index:
    """The rows that are equal to one in the columns by which the table is sorted first."""
    first, last = 0, len(table)
    for name in names:
        values = table[name][first:last]
        start, stop = (int(np.searchsorted(values, table[name][row], side)) for side in ("left", "right"))
        first, last = first + start, first + stop
    return np.arange(first, last)


def _neighbours(table: QuoteTable, far: int, rows: Index) -> tuple[float, float]:
    """The strikes before and after a row in the file, increasing; of a file without their order two that are equal."""
    rows = rows[np.argsort(table.order[rows], kind="stable")]
    place = int(np.flatnonzero(rows == far)[0])
    strikes = np.delete(table["coordinate"][rows], place)
    steps = np.diff(strikes)
    if not 0 < place < len(strikes) or not (np.all(steps > 0.0) or np.all(steps < 0.0)):
        return 0.0, 0.0
    before, after = sorted(strikes[place - 1 : place + 1].tolist())
    return before, after


def _one_digit_off(strike: float) -> Array:
    """The numbers that a strike may have been before a digit was left out or added, or its point moved, [number]."""
    text = f"{strike:.{_DIGITS}f}".rstrip("0").rstrip(".")
    less = {text[:i] + text[i + 1 :] for i in range(len(text))} - {"", "."}
    more = {text[:i] + mark + text[i:] for i in range(len(text) + 1) for mark in "0123456789."}
    more = {one for one in more if one.count(".") <= 1}
    return np.array([0.1 * strike, 10.0 * strike, *map(float, less | more)]).round(_DIGITS)
