"""From a file to quotes with k and vol: the checks of ``prepare``, in their order, in one place."""

from collections.abc import Callable
from typing import get_args

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_checks, quote_markets, quote_rows, quote_vols, repeated_smiles
from pipeline.sources.quote_rows import QuoteTable
from pipeline.tables.numbers import Mark

_SAME_SHARE = 0.95  # of the quotes of two readings that are one
_SAME_TENOR, _SAME_K, _SAME_VOL = 0.02, 0.01, 0.01  # relative, absolute, relative
_SAME_OTHER = 0.01  # of weights and conditions, relative


def read(params: QuotesParams, only: Callable[[QuoteTable], QuoteTable] = lambda table: table) -> QuoteTable:
    """The quotes of a file with k and vol; rows that are no quotes are rejected.

    Where no number shows whether its comma separates thousands or decimals, it is read as what makes quotes.

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
    found = [one for one in found if one.kept.any()] or found
    if not found:
        raise faults[0]
    if len(found) > 1 and not same_quotes(*found):
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
    table = quote_checks.check_outliers(table)
    quote_markets.check_smiles(table, params)
    return table


def same_quotes(one: QuoteTable, other: QuoteTable) -> bool:
    """Whether two readings of a file are of the same quotes, but for rounding."""
    tables = one, other
    rows = max(int(table.order.max()) for table in tables) + 1
    kept = [np.zeros(rows, bool) for _ in tables]
    values = np.full((2, 4 + len(one.conditions), rows), np.nan)
    for table, own, columns in zip(tables, kept, values, strict=True):
        row = table.kept_rows
        own[table.order[row]] = True
        found = (*(table[name] for name in ("tenor", "k", "vol", "weight")), *table.conditions.values())
        columns[:, table.order[row]] = [column[row] for column in found]
    both = kept[0] & kept[1]
    if both.sum() < _SAME_SHARE * max(own.sum() for own in kept):
        return False
    (tenor, k, vol, *others), (tenor2, k2, vol2, *others2) = values[:, :, both]
    close = np.abs(tenor - tenor2) <= _SAME_TENOR * tenor
    close &= (np.abs(k - k2) <= _SAME_K) & (np.abs(vol - vol2) <= _SAME_VOL * vol)
    close &= np.isclose(others, others2, rtol=_SAME_OTHER, atol=0.0, equal_nan=True).all(axis=0)
    return bool(close.mean() >= _SAME_SHARE)
