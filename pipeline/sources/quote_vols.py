"""Log-moneyness and Black vol of each quote, with the forward that put-call parity gives."""

from typing import NamedTuple

import numpy as np

from pipeline.settings.prepare import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_checks import LOWEST_VOL
from pipeline.sources.quote_rows import OPTION, Index, QuoteTable
from vae.pricing import quoted_surface
from vae.surface.grid import log_moneyness_of_delta

_EXPONENTS = (-50.0, 50.0)  # of growth factors: a senseless tenor must not overflow


class _Carry(NamedTuple):
    """Forward and discount factor of each row, NaN where unknown, [row]."""

    forward: Array
    discount: Array


def with_vols(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table with k = ln(K/F) and vol, without the rows that have none and without options in the money.

    Of a call and a put at one strike, the one out of the money is kept.
    """
    tenor = np.where(table.kept, table["tenor"], 1.0)
    pairs = _pairs(table)
    carry = _carry(table, params, tenor, pairs)
    table = _with_log_moneyness(table, params, tenor, carry)
    call, put = pairs.T
    table = table.reject("in_the_money", np.where(table["k"][call] >= 0.0, put, call))
    if params.columns.priced:
        return _with_implied_vols(table, params, tenor, carry)
    return table.with_columns(vol=table["value"])


def _pairs(table: QuoteTable) -> Index:
    """Rows of a call and a put at one strike, [pair, 2]; rows are sorted by date, tenor, strike, call before put."""
    row = table.kept_rows
    if "put" not in table:
        return np.zeros((0, 2), np.int64)
    second = np.flatnonzero(~table.starts(row, OPTION[:3]))
    return np.stack((row[second - 1], row[second]), axis=1)


def _carry(table: QuoteTable, params: QuotesParams, tenor: Array, pairs: Index) -> _Carry:
    """Forward: quoted, else by put-call parity, else from spot, rate and dividend yield."""
    columns = params.columns
    discount = np.exp(np.clip(-table.get("rate", params.rate) * tenor, *_EXPONENTS))
    if "forward" in table:
        return _Carry(table["forward"], discount)
    dividend = table.get("dividend_yield", params.dividend_yield)
    forward = table.get("spot", np.nan) * np.exp(np.clip(-dividend * tenor, *_EXPONENTS)) / discount
    carry = _Carry(forward, discount)
    return _with_parity(table, _strike(table, params), pairs, carry) if columns.priced else carry


def _strike(table: QuoteTable, params: QuotesParams) -> Array:
    return table["coordinate"] * (table["spot"] if params.columns.moneyness is not None else 1.0)


def _with_parity(table: QuoteTable, strike: Array, pairs: Index, carry: _Carry) -> _Carry:
    """Forward and discount factor of put-call parity where an expiry has calls and puts."""
    row = table.kept_rows
    expiry = np.full(len(strike), -1)
    expiry[row] = np.cumsum(table.starts(row, OPTION[:2])) - 1
    first = np.flatnonzero(np.diff(expiry[pairs[:, 0]], prepend=-1))
    found = np.full((2, expiry.max(initial=-1) + 1), np.nan)
    for call, put in (own.T for own in np.split(pairs, first[1:]) if len(own)):
        difference = table["value"][call] - table["value"][put]
        known_discount = float(carry.discount[call[0]])
        found[:, expiry[call[0]]] = quoted_surface.parity(strike[call], difference, discount=known_discount)
    known = row[~np.isnan(found[0, expiry[row]])]
    forward, discount = carry.forward.copy(), carry.discount.copy()
    forward[known], discount[known] = found[:, expiry[known]]
    return _Carry(forward, discount)


def _with_log_moneyness(table: QuoteTable, params: QuotesParams, tenor: Array, carry: _Carry) -> QuoteTable:
    """The table with k, from the coordinate that the file has."""
    kept = table.kept
    if params.columns.log_moneyness is not None:
        return table.with_columns(k=table["coordinate"])
    if params.columns.call_delta is not None:
        delta = np.where(kept, table["coordinate"], 0.5)
        return table.with_columns(k=log_moneyness_of_delta(delta, table["value"] * np.sqrt(tenor)))
    table = table.reject("no_forward", ~(carry.forward > 0.0))
    strike, forward = (np.where(table.kept, part, 1.0) for part in (_strike(table, params), carry.forward))
    return table.with_columns(k=np.log(strike / forward))


def _with_implied_vols(table: QuoteTable, params: QuotesParams, tenor: Array, carry: _Carry) -> QuoteTable:
    """The table with the vols of its prices."""
    row = table.kept_rows
    price = table["value"][row] / carry.discount[row] / carry.forward[row]
    vol = np.full(len(table), np.nan)
    vol[row] = quoted_surface.implied_vols(table["k"][row], price, tenor[row], call=table["put"][row] == 0.0)
    table = table.with_columns(vol=vol).reject("price_outside_bounds", ~(vol >= LOWEST_VOL))
    return table.reject("vol_above_max", vol > params.max_vol)
