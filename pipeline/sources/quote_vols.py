"""Log-moneyness and Black vol of each quote, with the forward that put-call parity gives."""

from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_exercise, quote_markets, quote_units
from pipeline.sources.columns import Array
from pipeline.sources.groups import medians
from pipeline.sources.quote_checks import LOWEST_VOL, check_vols
from pipeline.sources.quote_rows import EXPIRY, Index, Mask, QuoteTable, strikes
from vae.pricing import bachelier, quoted_surface
from vae.surface.grid import log_moneyness_of_delta

_STRAIGHT = 0.25  # median deviation of the slopes between neighbours on a parity line, relative to their median
_LARGEST_RATIO = 4.0  # of that median to the discount factor that is known
_TICK = 1e-4  # of the forward: a price nearer to its intrinsic value than this has lost its time value in rounding
_FORWARD_GAP = 0.005  # of a forward from that of parity, beside half of bid and ask of call and put
_ODD_FORWARDS = 0.1  # of the expiries
_UNSURE_RATE = 0.05  # a year, of a discount factor that pairs do not show
_EXPONENTS = (-50.0, 50.0)  # of growth factors: a senseless tenor must not overflow


class _Carry(NamedTuple):
    """Forward and discount factor of each row, NaN where unknown, and what they are made of, [row].

    Attributes:
        forward, discount: the numbers.
        of_spot: whether the forward is made of the spot, the rate and the dividend yield.
        of_rate: whether a price is discounted with the rate.
    """

    forward: Array
    discount: Array
    of_spot: Mask
    of_rate: Mask


def with_vols(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table with k = ln(K/F) and vol, without the rows that have none and without options in the money.

    Of a call and a put at one strike, the one out of the money is kept. The columns of_spot and of_rate (1 or 0) say
    which forwards are made of the spot, and which prices are discounted with the rate.
    """
    tenor = np.where(table.kept, table["tenor"], 1.0)
    pairs = table.pairs(table.kept_rows)
    if params.columns.priced and params.exercise == "american":
        table = quote_exercise.with_european_prices(table, params, strikes(table, params), pairs)
        pairs = table.pairs(table.kept_rows)
    carry = _carry(table, params, tenor, pairs)
    if params.columns.priced and params.exercise is None:
        quote_exercise.check_european(table, params, strikes(table, params), pairs)
    if params.columns.priced and params.columns.forward is not None and params.exercise != "american":
        table = _with_parity_gaps(table, params, pairs, carry)
    table = _with_origin(_with_log_moneyness(table, params, tenor, carry), params, carry)
    call, put = pairs.T
    table = table.reject("in_the_money", np.where(table["k"][call] >= 0.0, put, call))
    if params.columns.priced:
        return _with_implied_vols(table, params, tenor, carry)
    if params.vol_kind == "normal":
        return _with_black_vols(table, params, tenor, carry)
    return table.with_columns(vol=table["value"])


def _carry(table: QuoteTable, params: QuotesParams, tenor: Array, pairs: Index) -> _Carry:
    """Forward: quoted, else by put-call parity, else from spot, rate and dividend yield."""
    columns = params.columns
    discount = np.exp(np.clip(-table.get("rate", params.rate) * tenor, *_EXPONENTS))
    of_rate = np.full(len(table), columns.priced and not _shares_of_forward(params))
    if "forward" in table:
        carry = _Carry(table["forward"], discount, table.get("of_spot", 0.0) == 1.0, of_rate)
        _check_parity(table, params, pairs, carry)
        return carry
    dividend = table.get("dividend_yield", params.dividend_yield)
    forward = table.get("spot", np.nan) * np.exp(np.clip(-dividend * tenor, *_EXPONENTS)) / discount
    carry = _Carry(forward, discount, np.ones(len(table), bool), of_rate)
    return _with_parity(table, params, pairs, carry) if columns.priced else carry


def _with_parity(table: QuoteTable, params: QuotesParams, pairs: Index, carry: _Carry) -> _Carry:
    """Forward and discount factor of put-call parity where an expiry has calls and puts."""
    row, strike = table.kept_rows, strikes(table, params)
    expiry = np.full(len(strike), -1)
    expiry[row] = np.cumsum(table.starts(row, EXPIRY)) - 1
    _check_parity(table, params, pairs, carry)
    call, put = pairs.T
    known_discount = np.ones(expiry.max(initial=-1) + 1)
    known_discount[expiry[call[::-1]]] = carry.discount[call[::-1]]  # that of the first pair
    difference = table["value"][call] - table["value"][put]
    found = quoted_surface.parity(expiry[call], strike[call], difference, discount=known_discount)
    size = np.bincount(expiry[call], minlength=len(known_discount))
    known = row[~np.isnan(found.forward[expiry[row]])]
    sloped = known[size[expiry[known]] >= quoted_surface.FEWEST_PAIRS]
    forward, discount = carry.forward.copy(), carry.discount.copy()
    of_spot, of_rate = carry.of_spot.copy(), carry.of_rate.copy()
    forward[known], discount[known] = found.forward[expiry[known]], found.discount[expiry[known]]
    of_spot[known], of_rate[sloped] = False, False
    return _Carry(forward, discount, of_spot, of_rate)


def _with_parity_gaps(table: QuoteTable, params: QuotesParams, pairs: Index, carry: _Carry) -> QuoteTable:
    """The table with the column parity_gap: the share by which parity gives another forward than the file has.

    It is 0 within bid and ask, and NaN on rows that are no call of a pair. Expiries of few pairs show no discount
    factor, so that their forwards of parity are off by what its rate may be.

    Raises:
        InputError: many expiries with enough pairs have such gaps.
    """
    call, put = pairs.T
    first = table.starts(call, EXPIRY)
    group = np.cumsum(first) - 1
    many = np.bincount(group) >= quoted_surface.FEWEST_PAIRS
    unit = carry.discount[call] * carry.forward[call] if _shares_of_forward(params) else 1.0
    difference = (table["value"][call] - table["value"][put]) * unit
    strike, own = strikes(table, params)[call], carry.forward[call]
    of_parity = quoted_surface.parity(group, strike, difference, discount=carry.discount[call[first]]).forward
    forward = medians(group, own)
    spread = table.get("ask", 0.0) - table.get("bid", 0.0)
    error = medians(group, 0.5 * (spread[call] + spread[put]) * unit) / forward
    unsure = _UNSURE_RATE * medians(group, table["tenor"][call] * np.abs(strike / own - 1.0))
    gap = np.abs(of_parity / forward - 1.0)
    gap = gap * (gap > _FORWARD_GAP + error + np.where(many, 0.0, unsure))
    _check_forwards(params, of_parity[many], forward[many], gap[many])
    gaps = np.full(len(table), np.nan)
    gaps[call] = gap[group]
    return table.with_columns(parity_gap=gaps)


def _check_forwards(params: QuotesParams, of_parity: Array, forward: Array, gap: Array) -> None:
    """Raise InputError where the gaps between forwards of parity and of the column are not 0 in many expiries."""
    odd = gap > 0.0
    if odd.sum() > _ODD_FORWARDS * len(odd):
        worst = int(np.argmax(np.where(odd, gap, 0.0)))
        raise InputError(
            f"{params.path}: column {params.columns.forward}: put-call parity of {odd.sum():,} of {len(odd):,} "
            f"expiries gives other forwards, {of_parity[worst]:.6g} for {forward[worst]:.6g}; leave "
            "prepare.quotes.columns.forward out (--columns forward=), for forwards of parity, or name the column that "
            "has them"
        )


def _check_parity(table: QuoteTable, params: QuotesParams, pairs: Index, carry: _Carry) -> None:
    """Raise InputError where the pairs of an expiry lie on no one line, or on one of a slope that no discount has."""
    call, put = pairs.T
    strike, difference = strikes(table, params)[call], table["value"][call] - table["value"][put]
    if not params.columns.priced:
        return
    if _shares_of_forward(params):
        difference = difference * carry.discount[call] * carry.forward[call]
    group = np.cumsum(table.starts(call, EXPIRY)) - 1
    next_to = np.flatnonzero(np.diff(group) == 0)
    if not len(next_to):
        return
    slope = np.diff(difference)[next_to] / -np.diff(strike)[next_to]
    of_pair = _per_group(group[next_to], slope, group)
    bend = _per_group(group[next_to], np.abs(slope - of_pair[next_to]), group)
    straight = (bend < _STRAIGHT * np.abs(of_pair)) & (np.bincount(group)[group] >= quoted_surface.FEWEST_PAIRS)
    ratio = of_pair / carry.discount[call]
    off = straight & ((ratio > _LARGEST_RATIO) | (ratio < 1.0 / _LARGEST_RATIO))
    if off.mean() > 0.5:
        spot = float(np.median(table.get("spot" if "spot" in table else "forward", np.nan)[call]))
        quote_units.refuse_slope(params, float(np.median(ratio[off])), spot)
    if not _shares_of_forward(params):
        known = straight & ~off
        rate = -np.log(of_pair[known]) / table["tenor"][call[known]]
        known_pairs = quote_units.Pairs(call[known], strike[known], difference[known], rate)
        quote_units.check_discounts(table, params, known_pairs)
    discount = np.where(straight & ~off, of_pair, carry.discount[call])
    quote_markets.check_parity(table, params, call, group, strike + difference / discount)


def _per_group(group: Index, values: Array, of: Index) -> Array:
    """The median of ``values`` [value] in each of the groups ``of``, NaN where a group has none, [len(of)]."""
    found = np.full(of.max() + 1, np.nan)
    known = medians(group, values)
    found[: len(known)] = known
    return found[of]


def _with_origin(table: QuoteTable, params: QuotesParams, carry: _Carry) -> QuoteTable:
    """The table with the columns of_spot and of_rate."""
    of_spot = carry.of_spot & (params.columns.strike is not None or params.columns.moneyness is not None)
    return table.with_columns(of_spot=of_spot.astype(np.float64), of_rate=carry.of_rate.astype(np.float64))


def _with_log_moneyness(table: QuoteTable, params: QuotesParams, tenor: Array, carry: _Carry) -> QuoteTable:
    """The table with k, from the coordinate that the file has."""
    kept = table.kept
    if params.columns.log_moneyness is not None:
        return table.with_columns(k=table["coordinate"])
    if params.columns.by_delta:
        delta = np.where(kept, table["coordinate"], 0.5)
        return table.with_columns(k=log_moneyness_of_delta(delta, table["value"] * np.sqrt(tenor)))
    table = table.reject("no_forward", ~(carry.forward > 0.0))
    strike, forward = (np.where(table.kept, part, 1.0) for part in (strikes(table, params), carry.forward))
    return table.with_columns(k=np.log(strike / forward))


def _with_implied_vols(table: QuoteTable, params: QuotesParams, tenor: Array, carry: _Carry) -> QuoteTable:
    """The table with the vols of its prices."""
    row = table.kept_rows
    share, vol = np.full((2, len(table)), np.nan)
    unit = 1.0 if _shares_of_forward(params) else carry.discount[row] * carry.forward[row]
    share[row] = table["value"][row] / unit
    quote_units.check_prices(table, params, share)
    vol[row] = quoted_surface.implied_vols(table["k"][row], share[row], tenor[row], call=table["put"][row] == 0.0)
    intrinsic = np.maximum(
        np.where(table["put"] == 0.0, 1.0, -1.0) * -np.expm1(np.where(table.kept, table["k"], 0.0)), 0.0
    )
    worthless = ~(vol >= LOWEST_VOL) & (np.abs(share - intrinsic) <= _TICK)
    table = table.with_columns(vol=vol).reject("no_time_value", worthless)
    table = table.reject("price_outside_bounds", ~(vol >= LOWEST_VOL))
    return check_vols(table, vol, params)


def _shares_of_forward(params: QuotesParams) -> bool:
    """Whether prices are in units of the underlying at the forward, so that no rate discounts them."""
    return params.price_unit == "underlying" and params.columns.forward is not None


def _with_black_vols(table: QuoteTable, params: QuotesParams, tenor: Array, carry: _Carry) -> QuoteTable:
    """The table with the Black vols of the prices that its normal vols give."""
    row = table.kept_rows
    vol = np.full(len(table), np.nan)
    vol[row] = bachelier.black_vols(table["value"][row], carry.forward[row], strikes(table, params)[row], tenor[row])
    table = table.with_columns(vol=vol).reject("price_outside_bounds", np.isnan(vol))
    return check_vols(table, vol, params)
