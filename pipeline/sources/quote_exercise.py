"""American option prices: recognised where the settings say nothing, and made European where they say so."""

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.progress import track
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import EXPIRY, REASONS, Index, QuoteTable, strikes
from vae.pricing import american, early_exercise
from vae.pricing.american import AmericanOptions

_MOST_EXPIRIES = 200  # that are looked at, evenly over the file
_NEAREST_PAIRS = 10
_EXPIRIES, _CHUNK = 100, 1000  # that are one step of the progress: expiries, and options
_LEAST_SHARE = 0.2  # of them show early exercise: those of few days or low rates cannot


def check_european(table: QuoteTable, params: QuotesParams, strike: Array, pairs: Index) -> None:
    """Raise InputError where many expiries show early exercise, and no column says what the options are.

    Args:
        table: prices of one option a row.
        params: settings.
        strike: of each row.
        pairs: rows of a call and a put at one strike, [pair, 2].
    """
    if "american" in table:
        return
    shown = [early_exercise.shows(*own[:-1], spot=own.spot) for own in _expiries(table, strike, pairs)]
    if sum(shown) > _LEAST_SHARE * len(shown):
        raise InputError(
            f"{params.path}: calls and puts of {sum(shown)} of {len(shown)} expiries are priced as only american "
            "options are: C - P is no straight line in the strike; set prepare.quotes.exercise: american to take early "
            "exercise out (it needs columns.spot and a rate), or european to read the prices as they are"
        )


def is_assumed(table: QuoteTable, params: QuotesParams) -> bool:
    """Whether prices are read as those of European options, although they may as well be of American ones.

    Neither settings nor file say what they are, and no expiry has prices below what exercise at once would pay.

    Args:
        table: the quotes, with k.
        params: the settings that read them.
    """
    if not params.columns.priced or params.exercise is not None or "american" in table:
        return False
    left_out = [REASONS.index(reason) for reason in ("in_the_money", "no_time_value")]
    row = np.flatnonzero(table.kept | np.isin(table.reason, left_out))
    found = _expiries(table, strikes(table, params), table.pairs(row))
    return not any(early_exercise.is_excluded(*own[:-1], spot=own.spot) for own in found)


class _Expiry(NamedTuple):
    """Prices of an expiry, as ``early_exercise`` takes them, [pair] each."""

    strikes: Array
    call: Array
    put: Array
    half_spread: Array
    spot: float


def _expiries(table: QuoteTable, strike: Array, pairs: Index) -> list[_Expiry]:
    """Expiries with enough pairs, evenly over the file."""
    new = np.flatnonzero(table.starts(pairs[:, 0], EXPIRY))
    expiries = [own for own in np.split(pairs, new[1:]) if len(own) >= early_exercise.FEWEST_PAIRS]
    half_spread = 0.5 * (table.get("ask", 0.0) - table.get("bid", 0.0))
    spot, value = table.get("spot", np.nan), table["value"]
    return [
        _Expiry(strike[own[:, 0]], value[own[:, 0]], value[own[:, 1]], half_spread[own].sum(1), float(spot[own[0, 0]]))
        for own in expiries[:: len(expiries) // _MOST_EXPIRIES + 1]
    ]


def with_european_prices(table: QuoteTable, params: QuotesParams, strike: Array, pairs: Index) -> QuoteTable:
    """The table with European prices as its values, and the forwards and rates that these were found with.

    Its column early_exercise is the vol of a price that is read as European, less the vol with early exercise. Of a
    call and a put, the one in the money is needed only where the other is worth its exercise, at strikes between spot
    and forward; elsewhere it keeps its price. Its column of_spot (1 or 0) says which forwards are made of the spot, as
    no parity gives them.

    Args:
        table: prices of one option a row.
        params: settings.
        strike: of each row.
        pairs: rows of a call and a put at one strike, [pair, 2].

    Raises:
        InputError: QuantLib is not installed.
    """
    if find_spec("QuantLib") is None:
        raise InputError("prepare.quotes.exercise: american needs QuantLib: pip install 'volvae[american]'")
    options = _options(table, params, strike, pairs)
    early = table.kept & (table.get("american", 1.0) == 1.0)
    out_of_the_money = options.call == (strike >= options.forward)
    early[pairs[~out_of_the_money[pairs]]] = False
    row = np.flatnonzero(early)
    vol = _vols(table, options, row)
    other = _other_side(pairs, row[np.isnan(vol)])
    row, vol = np.append(row, other), np.append(vol, _vols(table, options, other))
    own, price = options.of(row), table["value"][row]
    value, difference = table["value"].copy(), np.full(len(table), np.nan)
    value[row] = american.european_prices(own, vol)
    european = american.european_vols(own, price)
    difference[row] = european - vol
    of_spot = ("forward" not in table) & (options.dividend_yield == table.get("dividend_yield", params.dividend_yield))
    table = table.with_columns(
        value=value,
        forward=options.forward,
        rate=options.rate,
        early_exercise=difference,
        of_spot=of_spot.astype(np.float64),
    )
    table = table.reject("no_time_value", row[np.isnan(vol) & np.isfinite(european)])  # worth its exercise
    return table.reject("price_outside_bounds", row[np.isnan(vol)])


def _vols(table: QuoteTable, options: AmericanOptions, row: Index) -> Array:
    """The vols of rows, [len(row)], with progress."""
    vol = np.full(len(row), np.nan)
    chunks = np.array_split(np.arange(len(row)), len(row) // _CHUNK + 1)
    for chunk in track(chunks, total=len(chunks), label="prepare: early exercise", note=lambda _: ""):
        vol[chunk] = american.vols(options.of(row[chunk]), table["value"][row[chunk]])
    return vol


def _other_side(pairs: Index, row: Index) -> Index:
    """The rows that form pairs with some of the rows."""
    return np.concatenate((pairs[np.isin(pairs[:, 0], row), 1], pairs[np.isin(pairs[:, 1], row), 0]))


def differences(table: QuoteTable) -> Array:
    """The column early_exercise of the american quotes that are used, [american quote]."""
    early = table.get("early_exercise", np.nan)
    return early[table.kept & np.isfinite(early)]


def _options(table: QuoteTable, params: QuotesParams, strike: Array, pairs: Index) -> AmericanOptions:
    """The contract of each row; rows that are not kept have senseless ones, so that nothing overflows."""

    def kept(name: str, default: float) -> Array:
        return np.where(table.kept, table.get(name, default), 1.0)

    spot, tenor = kept("spot", np.nan), kept("tenor", np.nan)
    rate, dividend_yield = kept("rate", params.rate), kept("dividend_yield", params.dividend_yield)
    call = table["put"] == 0.0
    options = AmericanOptions(np.where(table.kept, strike, 1.0), spot, tenor, rate, dividend_yield, call)
    if "forward" in table:
        return options._replace(dividend_yield=rate - np.log(kept("forward", np.nan) / spot) / tenor)
    if not len(pairs):
        return options
    expiry = np.full(len(table), -1)
    expiry[table.kept] = np.cumsum(table.starts(table.kept_rows, EXPIRY)) - 1
    implied = _implied_dividend_yields(table, options, pairs, expiry)[expiry]
    return options._replace(dividend_yield=np.where(np.isnan(implied), dividend_yield, implied))


def _implied_dividend_yields(table: QuoteTable, options: AmericanOptions, pairs: Index, expiry: Index) -> Array:
    """The yield of each expiry by parity of its pairs, or of their European parts; NaN without pairs."""
    row = table.kept_rows[table.starts(table.kept_rows, EXPIRY)]
    near = _nearest(table, pairs, expiry)
    call, put = (np.where(near >= 0, table["value"][pairs[near, side]], np.nan) for side in (0, 1))
    strike = np.where(near >= 0, options.strike[pairs[near, 0]], np.nan)
    is_american = table.get("american", 1.0)[row] == 1.0
    result = np.full(len(row), np.nan)
    chunks = np.array_split(np.arange(len(row)), len(row) // _EXPIRIES + 1)
    for chunk in track(chunks, total=len(chunks), label="prepare: forwards", note=lambda _: ""):
        for find, own in (
            (american.implied_dividend_yields, chunk[is_american[chunk]]),
            (american.european_yields, chunk[~is_american[chunk]]),
        ):
            contract = options.of(row[own])
            market = {"spot": contract.spot, "tenor": contract.tenor, "rate": contract.rate}
            result[own] = find(strike[own], call[own], put[own], **market)
    return result


def _nearest(table: QuoteTable, pairs: Index, expiry: Index) -> Index:
    """The pairs of each expiry that are nearest the money, [expiry, pair]; -1 where an expiry has fewer."""
    call, put = pairs.T
    of_pair = expiry[call]
    order = np.lexsort((np.abs(table["value"][call] - table["value"][put]), of_pair))
    place = np.arange(len(order)) - np.searchsorted(of_pair[order], of_pair[order])
    near = np.full((expiry.max(initial=-1) + 1, _NEAREST_PAIRS), -1)
    chosen = place < _NEAREST_PAIRS
    near[of_pair[order][chosen], place[chosen]] = order[chosen]
    return near
