"""American option prices: recognised where the settings say nothing, and made European where they say so."""

from collections.abc import Iterator

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.prepare import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import EXPIRY, Index, QuoteTable
from vae.pricing import american, early_exercise
from vae.pricing.american import Options

_MOST_EXPIRIES = 200  # that are looked at, evenly over the file
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
    expiries = [own for own, _ in _expiries(table, pairs) if len(own) >= early_exercise.FEWEST_PAIRS]
    chosen = expiries[:: -(-len(expiries) // _MOST_EXPIRIES)] if expiries else []
    half_spread = 0.5 * (table.get("ask", 0.0) - table.get("bid", 0.0))
    spot, value = table.get("spot", np.nan), table["value"]
    shown = []
    for own in chosen:
        call, put = value[own].T
        spread, level = half_spread[own].sum(axis=1), float(spot[own[0, 0]])
        shown.append(early_exercise.shows(strike[own[:, 0]], call, put, spread, spot=level))
    if sum(shown) > _LEAST_SHARE * len(shown):
        raise InputError(
            f"{params.path}: calls and puts of {sum(shown)} of {len(shown)} expiries are priced as only american "
            "options are: C - P is no straight line in the strike; set prepare.quotes.exercise: american to take early "
            "exercise out (it needs columns.spot and a rate), or european to read the prices as they are"
        )


def with_european_prices(table: QuoteTable, params: QuotesParams, strike: Array, pairs: Index) -> QuoteTable:
    """The table with European prices as its values, and the forwards and rates that these were found with.

    Its column early_exercise is the vol of a price that is read as European, less the vol with early exercise. Options
    in the money beside one out of the money keep their prices, as they are not needed any more.

    Args:
        table: prices of one option a row.
        params: settings.
        strike: of each row.
        pairs: rows of a call and a put at one strike, [pair, 2].

    Raises:
        ModuleNotFoundError: QuantLib is not installed.
    """
    options = _options(table, params, strike, pairs)
    early = table.kept & (table.get("american", 1.0) == 1.0)
    out_of_the_money = options.call == (strike >= options.forward)
    early[pairs[~out_of_the_money[pairs]]] = False
    row = np.flatnonzero(early)
    own, price = options.of(row), table["value"][row]
    vol = american.vols(own, price)
    value, difference = table["value"].copy(), np.full(len(table), np.nan)
    value[row] = american.european_prices(own, vol)
    difference[row] = american.european_vols(own, price) - vol
    table = table.with_columns(value=value, forward=options.forward, rate=options.rate, early_exercise=difference)
    return table.reject("price_outside_bounds", row[np.isnan(vol)])


def differences(table: QuoteTable) -> Array:
    """The column early_exercise of the american quotes that are used, [american quote]."""
    early = table.get("early_exercise", np.nan)
    return early[table.kept & np.isfinite(early)]


def _options(table: QuoteTable, params: QuotesParams, strike: Array, pairs: Index) -> Options:
    """The contract of each row; rows that are not kept have senseless ones, so that nothing overflows."""

    def kept(name: str, default: float) -> Array:
        return np.where(table.kept, table.get(name, default), 1.0)

    spot, tenor = kept("spot", np.nan), kept("tenor", np.nan)
    rate, dividend_yield = kept("rate", params.rate), kept("dividend_yield", params.dividend_yield)
    call = table["put"] == 0.0
    options = Options(np.where(table.kept, strike, 1.0), spot, tenor, rate, dividend_yield, call)
    if "forward" in table:
        return options._replace(dividend_yield=rate - np.log(kept("forward", np.nan) / spot) / tenor)
    for own, expiry in _expiries(table, pairs):
        implied = _implied_dividend_yield(table, options, own)
        if not np.isnan(implied):
            dividend_yield[expiry] = implied
    return options


def _implied_dividend_yield(table: QuoteTable, options: Options, pairs: Index) -> float:
    """The yield of an expiry by parity of its pairs, or of their European parts."""
    call, put = pairs.T
    first, price = options.of(call[:1]), table["value"]
    spot, tenor, rate = (float(x[0]) for x in (first.spot, first.tenor, first.rate))
    find = american.implied_dividend_yield if table.get("american", 1.0)[call[0]] == 1.0 else american.european_yield
    return find(options.strike[call], price[call], price[put], spot=spot, tenor=tenor, rate=rate)


def _expiries(table: QuoteTable, pairs: Index) -> Iterator[tuple[Index, Index]]:
    """The pairs and the rows of each expiry that has pairs."""
    if not len(pairs):
        return
    row = table.kept_rows
    rows = np.split(row, np.flatnonzero(table.starts(row, EXPIRY))[1:])
    last = np.array([own[-1] for own in rows])
    of_pair = np.searchsorted(last, pairs[:, 0])
    starts = np.flatnonzero(np.diff(of_pair, prepend=-1))
    for own in np.split(pairs, starts[1:]):
        if len(own):
            yield own, rows[np.searchsorted(last, own[0, 0])]
