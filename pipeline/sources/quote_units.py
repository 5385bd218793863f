"""Units of a file by what its numbers would mean: a unit that is implausible is refused with the setting that mends it.

Where several settings would make the numbers plausible all are listed, as only the user knows which is true.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quotes import HIGHEST_RATE, QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.groups import medians
from pipeline.sources.quote_rows import EXPIRY, RATES, REASONS, STRIKE, SURFACE, Index, Mask, QuoteTable
from vae.pricing import quoted_surface
from vae.surface import plausible
from vae.surface.plausible import VOL_UNITS, Interval

_NEAR = 0.1  # |ln(K/F)| of quotes that are at the money
_LEAST_VOL = 1e-6  # lower ones stand for a missing vol
_CONTRACT = 100.0  # units of the underlying in a contract
_TENORS = ("tenor_years", "days", "tenor", "expiry")
_PARITY_TENOR = 0.1  # years, from which on prices show a discount rate
_RATE_GAP, _NEARER = 0.015, 0.25  # of the rate from that of parity, a year; of this gap, what the other unit leaves
_FEWEST_PAIRS = 10  # from which on the median of their rates counts
_NO_RATE = 0.003  # a year: prices with a smaller one may be undiscounted
_TWO_UNITS = 50.0  # between medians of smiles, of which no market shows so much; units differ by 100
_FEWEST_QUOTES = 3  # of a smile or date whose median counts
_MANY_ROWS = 0.05  # of a market: fewer in another unit are single faults
_NEARLY = 10.0  # a vol is just outside of its range within this factor
_SURE = 6.0  # standard errors of the rate of parity
_LOWEST_MEDIAN = 1e-3  # decimal vol that a market may have which is calmer than others
_LEAST_REACH = 0.05  # standard deviations from the forward, of the widest smile: no market quotes less
_FAR, _FAR_K = 4.0, 1.0  # standard deviations of half of the quotes of each smile, beside one of such a |ln(K/F)|
_FARTHEST = 12.0  # the same of smiles that reach less far: a week of a table to 60 % of a calm spot has less
_AWAY, _AWAY_K = 4.0, 0.5  # standard deviations and |ln(K/F)| of the quote nearest the money
_SAME_SIDES = 0.3  # median |ln(call / put)| of the vols at a strike
_SET = "prepare.quotes."
IN_ONE_UNIT = "write both in one unit"  # of two columns, where only the user knows which unit is wrong


class Pairs(NamedTuple):
    """Calls and puts at one strike of expiries whose parity lines are straight, [pair] each.

    Attributes:
        row: of the call.
        strike: of both.
        difference: C - P, discounted.
        rate: at which the parity line of the expiry discounts, decimal a year.
    """

    row: Index
    strike: Array
    difference: Array
    rate: Array


def check_rates(table: QuoteTable, params: QuotesParams) -> None:
    """Raise InputError for rates that are percent, or may be, where neither settings nor columns say it."""
    sizes = {name: _median_size(table, name) for name in RATES if name in table and table.rate_units[name] != "percent"}
    if params.rate_unit is None:
        _check_one_rate_unit(params, sizes)
    for name, median in sizes.items():
        if median <= (1.0 if table.rate_units[name] == "decimal" else HIGHEST_RATE):
            continue
        column = getattr(params.columns, name)
        remedy = f"where {median:g} is {median:g} %, set {_SET}rate_unit: percent"
        if median <= 1.0:
            remedy += f"; where it is {100.0 * median:g} %, set {_SET}rate_unit: decimal"
        raise InputError(
            f"{params.path}: column {column}: the median {name} {median:g} is {100.0 * median:g} % a year; {remedy}"
        )


def _median_size(table: QuoteTable, name: str) -> float:
    """The median size of a column; 0 where none is known."""
    known = np.abs(table[name][table.kept])
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else 0.0


def _check_one_rate_unit(params: QuotesParams, sizes: Mapping[str, float]) -> None:
    """Raise InputError where one column of rates looks like percent and the other like decimals.

    One setting is the unit of both, so that the one which mends the first would silently change the second.
    """
    large = next((name for name, size in sizes.items() if size > HIGHEST_RATE), None)
    small = next((name for name, size in sizes.items() if 0.0 < size <= HIGHEST_RATE), None)
    if large is None or small is None:
        return
    high, low = sizes[large], sizes[small]
    decimal = f", and where {high:g} is {100.0 * high:g} %, {_SET}rate_unit: decimal" if high <= 1.0 else ""
    raise InputError(
        f"{params.path}: column {getattr(params.columns, large)} with a median of {high:g} looks like percent, and "
        f"column {getattr(params.columns, small)} with {low:g} like decimals: {IN_ONE_UNIT}; where {low:g} is {low:g} "
        f"%, set {_SET}rate_unit: percent{decimal}"
    )


def check_discounts(table: QuoteTable, params: QuotesParams, pairs: Pairs) -> None:
    """Raise InputError for rates that are missing or in another unit, as discount factors of put-call parity show."""
    long = table["tenor"][pairs.row] >= _PARITY_TENOR
    if long.sum() < _FEWEST_PAIRS:
        return
    pairs = Pairs(pairs.row[long], pairs.strike[long], pairs.difference[long], pairs.rate[long])
    if "rate" in table:
        _check_rate_unit(table, params, pairs)
    elif "forward" in table:
        _check_discounted(table, params, pairs)


def _check_rate_unit(table: QuoteTable, params: QuotesParams, pairs: Pairs) -> None:
    """Raise InputError where parity has the rates of the column in another unit."""
    used, implied = table["rate"][pairs.row], pairs.rate
    unit, factor = ("decimal", 100.0) if table.rate_units["rate"] == "percent" else ("percent", 0.01)
    gap, other = (abs(float(np.median(implied - scale * used))) for scale in (1.0, factor))
    read, shown = (f"{100.0 * float(np.median(rates)) + 0.0:.3g} %" for rates in (used, implied))
    undiscounted = abs(float(np.median(implied))) < _NO_RATE
    more = "; for prices that are not discounted leave columns.rate out (--columns rate=)" if undiscounted else ""
    if gap > _RATE_GAP and other < _NEARER * gap:
        raise InputError(
            f"{params.path}: column {params.columns.rate}: the median rate {read} a year is not that of put-call "
            f"parity, {shown}; set {_SET}rate_unit: {unit}{more}"
        )


def _check_discounted(table: QuoteTable, params: QuotesParams, pairs: Pairs) -> None:
    """Raise InputError where prices beside forwards are surely discounted at another rate than the settings have."""
    implied, error = _rate_of_parity(table, pairs)
    if abs(implied - params.rate) > max(_RATE_GAP, _SURE * error):
        raise InputError(
            f"{params.path}: put-call parity discounts the prices at {100.0 * implied:.3g} % a year, but {_SET}rate is "
            f"{params.rate:g}; set {_SET}rate: {implied:.3g}, or name a column of rates in {_SET}columns.rate, or "
            f"leave {_SET}columns.forward out (--columns forward=), for forwards and discount factors of parity"
        )


def _rate_of_parity(table: QuoteTable, pairs: Pairs) -> tuple[float, float]:
    """The one rate at which parity discounts all pairs, by least squares, and its standard error.

    C - P = e^(-r tenor) (F - K); about the median rate q, K + (C - P) e^(q tenor) is nearly a number of the expiry plus
    (r - q) tenor K. All are taken per unit of forward, as markets are on different levels.
    """
    rate, tenor = float(np.median(pairs.rate)), table["tenor"][pairs.row]
    expiry = np.cumsum(table.starts(pairs.row, EXPIRY)) - 1
    size = np.bincount(expiry)
    forward = pairs.strike + pairs.difference * np.exp(rate * tenor)
    level = (np.bincount(expiry, forward) / size)[expiry]
    x, y = tenor * pairs.strike / level, forward / level
    x, y = (part - (np.bincount(expiry, part) / size)[expiry] for part in (x, y))
    more = float(x @ y / (x @ x))
    variance = float(np.sum((y - more * x) ** 2)) / (len(x) - len(size) - 1)
    return rate + more, float(np.sqrt(variance / (x @ x)))


def check_coordinates(table: QuoteTable, params: QuotesParams) -> None:
    """Raise InputError for strikes, moneyness or tenors in another unit than the settings say, by market."""
    for row in _by_market(table):
        _check_tenors(table["tenor"][row], params)
        k = _log_moneyness(table, params, row)
        if params.columns.log_moneyness is not None:
            _check_log_moneyness(k, params)
        elif not params.columns.by_delta:
            _check_strikes(k, params)


def check_vols(table: QuoteTable, params: QuotesParams) -> None:
    """Raise InputError for vols, at the money, in another unit than the settings say, by market."""
    for own in _by_market(table):
        positive = own[table["value"][own] > _LEAST_VOL]
        row = positive[_at_the_money(table, positive, _distance(table, params, positive))]
        if not len(row):
            continue
        vol = float(np.median(table["value"][row]))
        level = float(np.median(_forward(table, row))) if params.columns.strike is not None else np.nan
        black = vol / level if params.vol_kind == "normal" else vol
        _check_vol(params, raw=vol / VOL_UNITS[params.vol_unit], black=black, level=level)
        if params.vol_kind == "black" and not params.columns.by_delta:
            _check_reach(table, params, positive)


def _check_reach(table: QuoteTable, params: QuotesParams, row: Index) -> None:
    """Raise InputError where vols and strikes of a market do not go together, by distances in standard deviations.

    Args:
        table: Black vols.
        params: settings.
        row: of the market, with positive vols.
    """
    distance = _distance(table, params, row)
    deviations = distance / (table["value"][row] * np.sqrt(table["tenor"][row]))
    smile = np.cumsum(table.starts(row, EXPIRY)) - 1
    strikes = np.bincount(smile, table.starts(row, STRIKE))[smile]
    many = np.isfinite(deviations) & (strikes >= _FEWEST_QUOTES)
    if not many.any():
        return
    distance, deviations, smile = distance[many], deviations[many], smile[many]
    column = params.columns.iv or params.columns.bid_iv
    if deviations.max() < _LEAST_REACH and "expected_vol" not in params.model_fields_set:
        raw = float(np.median(table["value"][row])) / VOL_UNITS[params.vol_unit]
        smaller = [
            f"vol_unit: {unit} where {raw:.3g} is {100.0 * size * raw:.3g} %"
            for unit, size in VOL_UNITS.items()
            if _LOWEST_MEDIAN <= size * raw < VOL_UNITS[params.vol_unit] * raw
        ]
        raise InputError(
            f"{params.path}: column {column}: all strikes lie within {deviations.max():.2g} standard deviations of the "
            f"forward, as where vols are in another unit: set {_SET}{', or '.join(smaller) or 'vol_unit'}, and "
            f"{_SET}expected_vol: {{low: 0.0001, high: 2}}, which takes so small or so large vols as they are"
        )
    middle = float(np.nanmin(medians(smile, deviations)))
    if params.columns.log_moneyness is not None and distance.max() > _FAR_K and middle > _FAR:
        raise InputError(
            f"{params.path}: column {params.columns.log_moneyness}: half of the quotes of each expiry lie {middle:.3g} "
            "or more standard deviations from the money, where options are worth nothing: it is no ln(K/F); one that "
            "was divided by vol sqrt(tenor) must be multiplied by it in the file"
        )
    if middle > _FARTHEST and "expected_vol" not in params.model_fields_set:
        raise InputError(
            f"{params.path}: column {column}: half of the quotes of each expiry lie {middle:.3g} or more standard "
            "deviations from the money, where options are worth nothing: the vols are no annual ones in this unit; "
            f"where they are, state {_SET}expected_vol"
        )
    if deviations.min() > _AWAY and distance.min() > _AWAY_K:
        market = f" of market {table.markets[int(table['market'][row[0]])]}" if table.markets else ""
        raise InputError(
            f"{params.path}: the strike{market} nearest the forward or spot is a factor of "
            f"{np.exp(distance.min()):.3g} off, where options are worth nothing: strikes and forwards are in different "
            f"units, of different underlyings, or from before a split; {_SET}markets or drop_where leave such rows out"
        )


def check_one_unit(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table without the few expiries, or times, of a market whose vols look like those of another unit.

    Raises:
        InputError: they are many.
    """
    for own in _by_market(table):
        for keys in (EXPIRY, SURFACE):
            row = own[table.kept[own]]
            table = table.reject("outlier", row[_of_another_unit(table, params, row, keys)])
    return table


def _of_another_unit(table: QuoteTable, params: QuotesParams, row: Index, keys: tuple[str, ...]) -> Mask:
    """Of rows of a market those of the fewer smiles, where the median vols of two parts differ as units do."""
    vol, smile = table["value"][row], np.cumsum(table.starts(row, keys)) - 1
    many: Mask = np.bincount(smile)[smile] >= _FEWEST_QUOTES
    if not many.any():
        return many
    level = medians(smile, vol)[smile]
    above = many & (level > np.sqrt(level[many].min() * level[many].max()))
    below = many & ~above
    low, high = (float(np.median(vol[part])) if part.any() else np.nan for part in (below, above))
    odd: Mask = above if above.sum() < below.sum() else below
    if not high > _TWO_UNITS * low:
        return np.zeros_like(odd)
    if odd.mean() < _MANY_ROWS:
        return odd
    raise InputError(
        f"{params.path}: column {params.columns.iv or params.columns.bid_iv}: the median vol is {100.0 * low:.3g} % on "
        f"some of its expiries or dates and {100.0 * high:.3g} % on others, as of two units: write all vols in one, or "
        f"leave rows out by {_SET}drop_where"
    )


def check_sides(table: QuoteTable, params: QuotesParams) -> None:
    """Raise InputError where vols of calls and puts at one strike differ far more than vols do."""
    if gap_of_sides(table) > _SAME_SIDES:
        raise InputError(
            f"{params.path}: column {params.columns.iv or params.columns.bid_iv}: calls and puts of one strike differ, "
            "so they are no vols"
        )


def gap_of_sides(table: QuoteTable) -> float:
    """The median |ln(call / put)| of the quotes at a strike, which parity makes 0 for vols; 0 without pairs."""
    first, second = table.pairs(np.flatnonzero(table.kept | (table.reason == REASONS.index("in_the_money")))).T
    return float(np.median(np.abs(np.log(table["value"][first] / table["value"][second])))) if len(first) else 0.0


def check_prices(table: QuoteTable, params: QuotesParams, share: Array) -> None:
    """Raise InputError for prices, at the money, in another unit than the settings say, by market.

    Args:
        table: the quotes, with k.
        params: settings.
        share: undiscounted price per unit of forward, [row].
    """
    allowed = _allowed(params)
    for own in _by_market(table):
        near = own[np.abs(table["k"][own]) <= _NEAR]
        row = near[_at_the_money(table, near, np.abs(table["k"][near]))]
        vol = _vol_of_prices(table, row, share[row])
        if not len(row) or vol in allowed:
            continue
        raise InputError(
            f"{params.path}: at the money prices are {np.median(share[row]):.3g} of the forward, "
            f"{'which no vol gives' if np.isinf(vol) else f'a vol of {100.0 * vol:.3g} %'}, but {_SET}expected_vol "
            f"allows {_range(allowed)}{_price_remedy(table, params, row, share[row], vol)}"
        )


def refuse_slope(params: QuotesParams, ratio: float, spot: float) -> None:
    """Raise InputError for prices and strikes in different units, as straight parity lines of a wrong slope show.

    Args:
        params: settings.
        ratio: median of the slope of C - P over K to the discount factor.
        spot: median of spot or forward, NaN where unknown.
    """
    message = f"{params.path}: C - P changes by {ratio:.3g} for 1 of strike instead of by nearly 1"
    scale = next((scale for scale in (100.0, 1000.0) if _one(ratio * scale)), None)
    if _one(-ratio):
        remedy = f"calls are puts and puts are calls: look at column {params.columns.type or 'of types'}"
    elif params.price_unit == "underlying":
        remedy = f"for prices in currency leave {_SET}price_unit out"
    elif _one(ratio * spot):
        remedy = f"for prices in units of the underlying set {_SET}price_unit: underlying"
    elif params.strike_scale != 1.0:
        remedy = f"{_SET}strike_scale is {params.strike_scale:g}; leave it out for strikes in the unit of the prices"
    elif scale is not None:
        remedy = f"for strikes times {scale:g} set {_SET}strike_scale: {scale:g}"
    elif _one(ratio / _CONTRACT):
        remedy = f"prices of {_CONTRACT:g} units must be divided by {_CONTRACT:g} in the file"
    else:
        remedy = (
            f"strikes and prices are in different units: for prices in units of the underlying name columns.forward or "
            f"columns.spot and set {_SET}price_unit: underlying; for strikes times a number set {_SET}strike_scale"
        )
    raise InputError(f"{message}: {remedy}")


def _one(ratio: float) -> bool:
    """Whether a ratio is about 1, but for a discount factor."""
    return 0.5 < ratio < 2.0


def _by_market(table: QuoteTable) -> list[Index]:
    """Kept rows of each market."""
    row = table.kept_rows
    order = np.argsort(table["market"][row], kind="stable")
    return np.split(row[order], np.flatnonzero(np.diff(table["market"][row[order]])) + 1) if len(row) else []


def _forward(table: QuoteTable, row: Index) -> Array:
    """The forward, or else the spot, of rows [len(row)]; NaN where neither is known."""
    name = "forward" if "forward" in table else "spot"
    return table.get(name, np.nan)[row]


def _log_moneyness(table: QuoteTable, params: QuotesParams, row: Index) -> Array:
    """About ln(K/F), from the spot where there is no forward, [len(row)]; NaN where unknown."""
    coordinate = table["coordinate"][row]
    if params.columns.log_moneyness is not None:
        return coordinate
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(coordinate if params.columns.moneyness is not None else coordinate / _forward(table, row))


def _distance(table: QuoteTable, params: QuotesParams, row: Index) -> Array:
    """How far quotes are from the money, in any unit, [len(row)]."""
    if params.columns.by_delta:
        return np.abs(table["coordinate"][row] - 0.5)
    return np.abs(_log_moneyness(table, params, row))


def _at_the_money(table: QuoteTable, row: Index, distance: Array) -> Index:
    """Of each expiry, the place in ``row`` of the quote nearest the money, [expiry]."""
    expiry = np.cumsum(table.starts(row, EXPIRY)) - 1
    order = np.lexsort((distance, expiry))
    return order[np.flatnonzero(np.diff(expiry[order], prepend=-1))]


def _check_tenors(tenor: Array, params: QuotesParams) -> None:
    """Raise InputError where most tenors are too long for years, or for days."""
    median = float(np.median(tenor))
    name = next(key for key in _TENORS if getattr(params.columns, key) is not None)
    remedy = "; for days name it prepare.quotes.columns.days" if name == "tenor_years" else ""
    if median > plausible.LONGEST_TENOR:
        raise InputError(
            f"{params.path}: column {getattr(params.columns, name)}: the median tenor is {median:g} years, but must be "
            f"at most {plausible.LONGEST_TENOR:g}{remedy}"
        )


def _check_log_moneyness(k: Array, params: QuotesParams) -> None:
    """Raise InputError for coordinates that are no ln(K/F)."""
    try:
        plausible.check_log_moneyness(k)
    except ValueError as error:
        raise InputError(f"{params.path}: column {params.columns.log_moneyness}: {error}") from error


def _check_strikes(k: Array, params: QuotesParams) -> None:
    """Raise InputError for strikes that are not in the unit of the forward."""
    k = k[np.isfinite(k)]
    median = float(np.median(k)) if len(k) else 0.0
    if abs(median) <= plausible.LARGEST_K:
        return
    scale, column = plausible.strike_scale(median), params.columns.strike or params.columns.moneyness
    inverse = plausible.strike_scale(-median)
    remedy = f": for strikes times {scale:g} set {_SET}strike_scale: {scale:g}" if scale is not None else ""
    if inverse is not None and not params.columns.priced:
        remedy = f": for strikes divided by {inverse:g} set {_SET}strike_scale: {1.0 / inverse:g}"
    if params.strike_scale != 1.0:
        remedy = f": {_SET}strike_scale is {params.strike_scale:g}; leave it out for strikes in the forward's unit"
    raise InputError(
        f"{params.path}: column {column}: the median of ln(K/F) is {median:.3g}, a strike of {np.exp(median):.3g} "
        f"times the forward or spot{remedy or ', which are in different units or of different underlyings'}"
    )


def _check_vol(params: QuotesParams, *, raw: float, black: float, level: float) -> None:
    """Raise InputError where the at-the-money vol is implausible, with all settings that make it plausible.

    Args:
        params: settings.
        raw: the median number of the file.
        black: the Black vol that it is by the settings, about.
        level: the forward, NaN where unknown.
    """
    allowed = _allowed(params)
    if black in allowed:
        return
    readings = _vol_readings(raw, level, allowed)
    if not readings:
        readings = ["no unit makes it plausible: look at the column"]
    if params.columns.strike is None and raw >= VOL_UNITS["decimal"]:
        readings.append("normal (Bachelier) vols are read by strike, with vol_kind: normal")
    if allowed.low / _NEARLY <= black <= allowed.high * _NEARLY:
        readings.append(f"for a market that is {100.0 * black:.3g} % widen {_SET}expected_vol")
    column = params.columns.iv or params.columns.bid_iv
    raise InputError(
        f"{params.path}: column {column}: at the money the median vol {raw:.6g} is {100.0 * black:.3g} % with "
        f"vol_unit: {params.vol_unit}, but {_SET}expected_vol allows {_range(allowed)}; {'; '.join(readings)}"
    )


def _vol_readings(raw: float, level: float, allowed: Interval) -> list[str]:
    """The settings that make a vol plausible, each with the vol that it then is."""
    black = [
        f"set {_SET}vol_unit: {unit} where it is {100.0 * vol:.3g} %"
        for unit, vol in plausible.vol_readings(raw, allowed).items()
    ]
    normal = [
        f"set vol_kind: normal and vol_unit: {unit} where it is a normal (Bachelier) vol of {raw * size:.3g}, which is "
        f"{100.0 * raw * size / level:.3g} %"
        for unit, size in VOL_UNITS.items()
        if raw * size / level in allowed
    ]
    return black + normal


def _vol_of_prices(table: QuoteTable, row: Index, share: Array) -> float:
    """The median vol of prices per unit of forward; infinite of a price that is too high for any, 0 if too low."""
    k, call = table["k"][row], table["put"][row] == 0.0
    vols = quoted_surface.implied_vols(k, share, table["tenor"][row], call=call)
    too_high = share >= np.where(call, 1.0, np.exp(k))
    return float(np.median(np.where(np.isnan(vols), np.where(too_high, np.inf, 0.0), vols))) if len(row) else np.nan


def _price_remedy(table: QuoteTable, params: QuotesParams, row: Index, share: Array, vol: float) -> str:
    """The settings that make at-the-money prices plausible."""
    allowed, level = _allowed(params), _forward(table, row)
    if params.price_unit == "currency" and _vol_of_prices(table, row, share * level) in allowed:
        return f"; for prices in units of the underlying set {_SET}price_unit: underlying"
    if params.price_unit == "underlying" and _vol_of_prices(table, row, share / level) in allowed:
        return f"; for prices in currency leave {_SET}price_unit out"
    if _vol_of_prices(table, row, share / _CONTRACT) in allowed:
        return f"; prices of {_CONTRACT:g} units must be divided by {_CONTRACT:g} in the file"
    if allowed.low / _NEARLY <= vol <= allowed.high * _NEARLY:
        return f"; for a market that is so calm or wild widen {_SET}expected_vol"
    return ""


def _allowed(params: QuotesParams) -> Interval:
    return Interval(params.expected_vol.low, params.expected_vol.high)


def _range(allowed: Interval) -> str:
    return f"{100.0 * allowed.low:g} % to {100.0 * allowed.high:g} %"
