"""Checks of quotes before they become vols: what a row shows by itself, and several quotes of one option."""

import numpy as np

from pipeline.errors import InputError, listed
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import placeholders, quote_markets, quote_units
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import CARRY, EXPIRY, OPTION, QUOTE, SURFACE, Index, QuoteTable
from vae.surface.plausible import FARTHEST_K, LONGEST_TENOR

_SPIKE = np.log(2.5)  # of a vol to both neighbours
LOWEST_VOL = 1e-6  # of a smile that reaches 1 its square would be rounding


def checked(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table with each unusable row rejected, and one quote left for each option and time of a market.

    Raises:
        InputError: all options are american, rows of one date cannot be one market, or numbers are in another unit
            than the settings say.
    """
    table = _check_markets(table, params)
    table = _check_contracts(table, params)
    table = _check_missing(table)
    quote_units.check_rates(table, params)
    table = _check_coordinates(table, params)
    table = _check_times(table, params)
    table = _check_spread(table, params)
    table = quote_markets.check_levels(table, params)
    quote_units.check_coordinates(table, params)
    table = table.reject("tenor_too_long", table["tenor"] > LONGEST_TENOR)
    if not params.columns.priced:
        if params.drop_placeholders:
            table = placeholders.without_placeholders(table)
        quote_units.check_vols(table, params)
        table = table.reject("vol_not_positive", _lowest(table, params) < LOWEST_VOL)
        if params.vol_kind == "black":
            table = check_vols(table, table["value"], params)
            table = quote_units.check_one_unit(table, params)
    table = _check_duplicates(table, params)
    if not params.columns.priced:
        quote_units.check_sides(table, params)
    return table


def check_vols(table: QuoteTable, vol: Array, params: QuotesParams) -> QuoteTable:
    """The table without Black vols [row] that no market shows."""
    table = table.reject("vol_below_min", vol < params.min_vol)
    return table.reject("vol_above_max", vol > params.max_vol)


def check_distances(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table, with k, without strikes that stand for a missing one, as -999: a smile would be read up to them."""
    return table if params.columns.by_delta else table.reject("strike_too_far", np.abs(table["k"]) > FARTHEST_K)


def check_outliers(table: QuoteTable) -> QuoteTable:
    """The table, with k and vol, without vols far from those at both neighbouring strikes, which agree."""
    row = table.kept_rows
    expiry = np.cumsum(table.starts(row, EXPIRY)) - 1
    order = np.lexsort((table["k"][row], expiry))
    row, expiry, log_vol = row[order], expiry[order], np.log(table["vol"][row[order]])
    before, own, after = log_vol[:-2], log_vol[1:-1], log_vol[2:]
    off = np.minimum(np.abs(own - before), np.abs(own - after)) > _SPIKE
    agree = np.abs(before - after) < _SPIKE
    (spike,) = np.nonzero(off & agree & (expiry[:-2] == expiry[2:]))
    return table.reject("outlier", row[spike + 1])


def check_counts(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table without the surfaces that have too few quotes."""
    row = table.kept_rows
    surface = np.cumsum(table.starts(row, SURFACE)) - 1
    return table.reject("too_few_points", row[np.bincount(surface)[surface] < params.min_points])


def _check_markets(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject rows of markets that the settings do not choose."""
    if params.markets is None:
        return table
    unknown = [name for name in params.markets if name not in table.markets]
    if unknown:
        raise InputError(
            f"params.yaml: prepare.quotes.markets: {', '.join(unknown)} not in column {params.columns.market} of "
            f"{params.path}, which has {listed(table.markets)}"
        )
    chosen = [table.markets.index(name) for name in params.markets]
    return table.reject("other_market", np.isfinite(table["market"]) & ~np.isin(table["market"], chosen))


def _check_contracts(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject rows that the user drops or the file itself marks, american options, and options that are not traded."""
    table = table.reject("flagged", table.get("flagged", 0.0) == 1.0)
    american = table.get("american", 0.0) == 1.0
    if params.exercise != "american":
        if american.all():
            raise InputError(
                f"{params.path}: all {len(american)} options are american; set prepare.quotes.exercise: american to "
                "read them"
            )
        table = table.reject("american", american)
    for name, least in (("volume", params.min_volume), ("open_interest", params.min_open_interest)):
        if least is not None:
            table = table.reject(f"low_{name}", ~(table[name] >= least))
    return table


def _check_missing(table: QuoteTable) -> QuoteTable:
    """Reject rows that lack a number."""
    for name in (*OPTION, "date", *CARRY, "weight", "american", "quoted_at"):
        table = table.reject("missing_value", ~np.isfinite(table.get(name, 0.0)))
    if "bid" in table:
        for side in ("bid", "ask"):
            table = table.reject(f"missing_{side}", ~np.isfinite(table[side]) | (table[side] <= 0.0))  # -1 is none
    return table.reject("missing_value", ~np.isfinite(table["value"]))


def _check_coordinates(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject tenors, strikes, deltas, forwards, rates and weights that cannot be."""
    table = table.reject("expired", table["tenor"] <= 0.0)
    if params.columns.strike is not None or params.columns.moneyness is not None:
        table = table.reject("strike_not_positive", table["coordinate"] <= 0.0)
    if params.columns.by_delta:
        table = table.reject("delta_not_inside_0_1", (table["coordinate"] <= 0.0) | (table["coordinate"] >= 1.0))
    for name in ("forward", "spot"):
        table = table.reject("forward_not_positive", table.get(name, 1.0) <= 0.0)
    for name in ("rate", "dividend_yield"):
        table = table.reject("rate_above_1", np.abs(table.get(name, 0.0)) > 1.0)
    return table.reject("weight_not_positive", table["weight"] <= 0.0)


def _check_times(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject quotes made after their date, or too long before it, and snapshots of another date."""
    table = table.reject("snapshot_of_other_date", np.floor(table["time"]) != table["date"])
    age = table["date"] - np.floor(table.get("quoted_at", 0.0))
    if "quoted_at" in table:
        table = table.reject("quoted_after_date", age < 0.0)
    if params.max_age_days is not None:
        table = table.reject("stale", age > params.max_age_days)
    return table


def _check_spread(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Reject bids above the ask or too far below it, and prices that are not positive."""
    bid, ask = table.get("bid", np.nan), table.get("ask", np.nan)
    table = table.reject("crossed", bid > ask)
    if params.max_relative_spread is not None:
        table = table.reject("wide", ask - bid > params.max_relative_spread * 0.5 * (bid + ask))
    if params.columns.priced:
        table = table.reject("no_time_value", _lowest(table, params) == 0.0)
        return table.reject("price_outside_bounds", _lowest(table, params) < 0.0)
    return table


def _lowest(table: QuoteTable, params: QuotesParams) -> Array:
    """The bid where the quote is made of it, else the quote, [row]."""
    return table["value"] if params.columns.filtered_by_bid else np.fmin(table.get("bid", np.nan), table["value"])


def _check_duplicates(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """Of several quotes of an option at a time keep the latest; where these disagree their weighted mean, or none.

    Raises:
        InputError: too many options are quoted at different levels, without weights.
    """
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
        quote_markets.check_conflicts(table, params, row, option, disagree)
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
