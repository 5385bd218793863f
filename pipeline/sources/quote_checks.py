"""Checks of quotes before they become vols: what a row shows by itself, and several quotes of one option."""

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.prepare import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import MARKET, OPTION, PERCENT, QUOTE, Index, QuoteTable

LOWEST_VOL = 1e-6  # of a smile that reaches 1 its square would be rounding
_HIGHEST_MEDIAN = 2.0  # vol: above it, decimals are percent


def checked(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table with each unusable row rejected, and one quote left for each option and date.

    Raises:
        InputError: all options are american, or vols are in another unit than the settings say.
    """
    table = _check_contracts(table, params)
    table = _check_missing(table)
    table = _check_coordinates(table, params)
    table = _check_times(table, params)
    table = _check_levels(table, params)
    return _check_duplicates(table)


def check_counts(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table without the dates that have too few quotes."""
    row = table.kept_rows
    _, date, count = np.unique(table["date"][row], return_inverse=True, return_counts=True)
    return table.reject("too_few_points", row[count[date] < params.min_points])


def _check_contracts(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject rows that the file itself marks, and american options."""
    table = table.reject("flagged", table.get("flagged", 0.0) == 1.0)
    american = table.get("american", 0.0) == 1.0
    if american.all():
        raise InputError(f"{params.path}: all {len(american)} options are american; allowed: european ones")
    return table.reject("american", american)


def _check_missing(table: QuoteTable) -> QuoteTable:
    """Reject rows that lack a number."""
    for name in (*OPTION, *MARKET, "weight", "american", "quoted_at"):
        table = table.reject("missing_value", ~np.isfinite(table.get(name, 0.0)))
    if "bid" in table:
        for side in ("bid", "ask"):
            table = table.reject(f"missing_{side}", ~np.isfinite(table[side]) | (table[side] == 0.0))
    return table.reject("missing_value", ~np.isfinite(table["value"]))


def _check_coordinates(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject tenors, strikes, deltas, forwards, rates and weights that cannot be."""
    table = table.reject("expired", table["tenor"] <= 0.0)
    if params.columns.strike is not None or params.columns.moneyness is not None:
        table = table.reject("strike_not_positive", table["coordinate"] <= 0.0)
    if params.columns.call_delta is not None:
        table = table.reject("delta_not_inside_0_1", (table["coordinate"] <= 0.0) | (table["coordinate"] >= 1.0))
    for name in ("forward", "spot"):
        table = table.reject("forward_not_positive", table.get(name, 1.0) <= 0.0)
    for name in ("rate", "dividend_yield"):
        table = table.reject("rate_above_1", np.abs(table.get(name, getattr(params, name))) > 1.0)
    return table.reject("weight_not_positive", table["weight"] <= 0.0)


def _check_times(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject quotes made after their date, or too long before it."""
    age = table["date"] - np.floor(table.get("quoted_at", 0.0))
    if "quoted_at" in table:
        table = table.reject("quoted_after_date", age < 0.0)
    if params.max_age_days is not None:
        table = table.reject("stale", age > params.max_age_days)
    return table


def _check_levels(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject prices or vols that no market shows, as far as a row alone tells."""
    bid, ask = table.get("bid", np.nan), table.get("ask", np.nan)
    table = table.reject("crossed", bid > ask)
    if params.max_relative_spread is not None:
        table = table.reject("wide", ask - bid > params.max_relative_spread * table["value"])
    lowest = np.fmin(bid, table["value"])
    if params.columns.priced:
        return table.reject("price_outside_bounds", lowest <= 0.0)
    _check_unit(table["value"][table.kept], params)
    table = table.reject("vol_not_positive", lowest < LOWEST_VOL)
    return table.reject("vol_above_max", table["value"] > params.max_vol)


def _check_unit(vols: Array, params: QuotesParams) -> None:
    """Raise InputError for vols in percent where the settings say decimal."""
    median = float(np.median(vols)) if len(vols) else 0.0
    if params.vol_unit == "decimal" and median > _HIGHEST_MEDIAN:
        raise InputError(
            f"{params.path}: the median vol {median:g} is {median / PERCENT:g} percent; "
            "for vols in percent set prepare.quotes.vol_unit: percent"
        )


def _check_duplicates(table: QuoteTable) -> QuoteTable:
    """Of several quotes of an option on a date keep the latest; where these disagree their weighted mean, or none."""
    row = table.kept_rows
    start = table.starts(row, OPTION)
    option = np.cumsum(start) - 1
    last = np.append(np.flatnonzero(start)[1:], len(row)) - 1
    final = row[last[option]]
    latest = np.ones(len(row), bool)
    if "quoted_at" in table:
        latest = table["quoted_at"][row] == table["quoted_at"][final]
    same = np.all([table[name][row] == table[name][final] for name in QUOTE if name in table], axis=0)
    disagree = np.bincount(option, latest & ~same)[option] > 0
    table = table.reject("duplicate", row[~(latest & disagree) & (row != final)])
    if not table.weighted:
        return table.reject("conflicting", row[disagree])
    table = _with_means(table, row[latest & disagree], final[latest & disagree])
    return table.reject("merged", row[disagree & (row != final)])


def _with_means(table: QuoteTable, row: Index, final: Index) -> QuoteTable:
    """The table whose rows ``final`` have the weighted mean of the rows ``row`` that they stand for, [len(row)]."""
    keep, option = np.unique(final, return_inverse=True)
    weight = table["weight"][row]
    total = np.bincount(option, weight)
    means = {name: np.bincount(option, weight * table[name][row]) / total for name in QUOTE if name in table}
    changed = {name: table[name].copy() for name in (*means, "weight")}
    for name, values in (means | {"weight": total}).items():
        changed[name][keep] = values
    return table.with_columns(**changed)
