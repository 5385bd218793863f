"""From a file to quotes with k and vol: the checks of ``prepare``, in their order, in one place."""

from collections.abc import Callable
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import mistyped_strikes, quote_checks, quote_markets, quote_rows, quote_vols, repeated_smiles
from pipeline.sources.quote_rows import Mask, QuoteTable
from pipeline.tables.numbers import Mark

_SAME_SHARE = 0.95  # of the quotes of two readings that are one
_SAME_TENOR, _SAME_K, _SAME_VOL = 0.02, 0.01, 0.01  # relative, absolute, relative
_SAME_OTHER = 0.01  # of strikes, forwards, weights and conditions, relative


def read(params: QuotesParams, only: Callable[[QuoteTable], QuoteTable] = lambda table: table) -> QuoteTable:
    """The quotes of a file with k and vol; rows that are no quotes are rejected.

    Where no number shows whether its comma separates thousands or decimals, it is read as what makes quotes of the rows
    that have such numbers.

    Args:
        params: settings.
        only: takes some rows of the file, to which the checks apply.

    Raises:
        InputError: the file cannot be read, its numbers are in other units than the settings say, rows of one time are
            not one market, or both kinds of comma make quotes, which differ.
    """
    table = quote_rows.read(params)
    if not table.source.unclear:
        return usable(only(table), params)
    found, faults = [], []
    for mark in get_args(Mark):
        own = params.model_copy(update={"decimal_mark": mark})
        try:
            found.append(usable(only(quote_rows.read(own)), own))
        except InputError as fault:
            faults.append(fault)
    if not found:
        raise faults[0]
    unclear = table.source.unclear_rows
    found = [one for one in found if one.kept.any()] or found
    found = [one for one in found if (one.kept & unclear[one.order]).any()] or found
    if len(found) > 1 and not same_quotes(*found, among=unclear, share=1.0):
        raise InputError(f"{params.path}: {table.source.unclear[0]}")
    return found[0]


def usable(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table with k and vol; rows that are no quotes are rejected.

    Raises:
        InputError: its numbers are in other units than the settings say, or rows of one time are not one market.
    """
    table = repeated_smiles.marked(quote_checks.checked(table, params))
    if params.drop_repeated:
        table = table.reject("repeated", table["repeated"] == 1.0)
    table = quote_vols.with_vols(table, params)
    table = quote_checks.check_distances(table, params)
    table = quote_checks.check_outliers(table)
    table = mistyped_strikes.without_mistyped(table, params)
    quote_markets.check_smiles(table, params)
    return table


def same_quotes(one: QuoteTable, other: QuoteTable, *, among: Mask | None = None, share: float = _SAME_SHARE) -> bool:
    """Whether two readings of a file are of the same quotes, but for rounding.

    Args:
        one: a reading.
        other: another.
        among: rows of the file to compare, [row]; None for all.
        share: of their quotes that must be the same.
    """
    tables = one, other
    places = max(int(table.place.max()) for table in tables) + 1
    size = (max(int(table.order.max()) for table in tables) + 1) * places
    kept = [np.zeros(size, bool) for _ in tables]
    values = np.full((2, 6 + len(one.conditions), size), np.nan)
    for table, own, columns in zip(tables, kept, values, strict=True):
        row = np.flatnonzero(table.kept if among is None else table.kept & among[table.order])
        quote = table.order[row] * places + table.place[row]
        own[quote] = True
        found = (table["tenor"], table["k"], table["vol"], table["coordinate"], table.get("forward", np.nan))
        columns[:, quote] = [column[row] for column in (*found, table["weight"], *table.conditions.values())]
    both = kept[0] & kept[1]
    if both.sum() < share * max(own.sum() for own in kept):
        return False
    (tenor, k, vol, place, forward, *others), (tenor2, k2, vol2, place2, forward2, *others2) = values[:, :, both]
    close = np.abs(tenor - tenor2) <= _SAME_TENOR * tenor
    close &= (np.abs(k - k2) <= _SAME_K) & (np.abs(vol - vol2) <= _SAME_VOL * vol)
    close &= _close(forward, forward2) | ~_close(place, place2)  # strikes and their forwards may both be in other units
    close &= _close(others, others2).all(axis=0)
    return bool(close.sum() >= share * len(close))


def _close(one: ArrayLike, other: ArrayLike) -> Mask:
    return np.isclose(one, other, rtol=_SAME_OTHER, atol=0.0, equal_nan=True)
