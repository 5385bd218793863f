"""Smiles of currency options from at-the-money vols, risk reversals and butterflies.

Legend: as in ``deltas``. With a risk reversal rr and a butterfly bf of one delta, the call and the put of this delta
have the vols atm + bf + rr/2 and atm + bf - rr/2, where bf is that of the smile.

A market strangle is instead one vol, atm + bf, at which the call and the put of this delta, both by that vol, are
priced: the smile must give the two options the same total price. Its vols between the quotes are needed for this; the
logarithm of the vol is a cubic spline in N(k / (atm sqrt(tenor))), a parabola for quotes of one delta, and goes on in
straight lines beyond the quotes.

References: Reiswich, Wystup (2010), "A guide to FX options quoting conventions", J. of Derivatives 18(2); Clark (2011),
"Foreign exchange option pricing", chapter 3 (the parabola and the market strangle); Castagna (2010), "FX options and
smile risk", chapter 1.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from vae.pricing import newton
from vae.pricing.deltas import log_moneyness
from vae.surface.spline import Spline

Array = NDArray[np.float64]
Index = NDArray[np.int64]

DeltaKind = Literal["forward", "spot"]
AtTheMoney = Literal["delta_neutral", "forward", "spot"]
Strangle = Literal["smile", "market"]

_ROUNDING = 1e-13  # of a vol
_ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How a market quotes its smiles.

    Attributes:
        delta: whether deltas are spot or forward deltas.
        premium_adjusted: whether deltas are less the premium, as where it is paid in the foreign currency.
        atm: the strike of the at-the-money vol: the forward, spot, or where call and put have opposite deltas.
        strangle: whether butterflies are those of the smile, or market strangles.
    """

    delta: DeltaKind
    premium_adjusted: bool
    atm: AtTheMoney
    strangle: Strangle


class FxSmiles(NamedTuple):
    """Quotes of smiles by strike.

    Attributes:
        k: ln(K/F), [smile, 2 delta + 1]: the puts by rising delta, at the money, the calls by falling delta.
        vol: Black vols, of the same shape.
    """

    k: Array
    vol: Array


def smiles(
    atm: Array,
    risk_reversal: Array,
    butterfly: Array,
    deltas: Array,
    tenor: Array,
    conventions: Conventions,
    *,
    foreign_discount: Array,
    spot_moneyness: Array,
) -> FxSmiles:
    """Strikes and vols of smiles.

    Args:
        atm: at-the-money vols, decimal, [smile].
        risk_reversal: vol of the call less that of the put, decimal, NaN where not quoted, [smile, delta].
        butterfly: decimal, NaN where not quoted, [smile, delta].
        deltas: of the risk reversals and butterflies, inside (0, 0.5), such as 0.25 and 0.1, [delta].
        tenor: years, [smile].
        conventions: of all smiles.
        foreign_discount: e^(-foreign rate tenor), [smile]; forward deltas do not need it, 1 will do.
        spot_moneyness: spot over forward, [smile]; only ``atm="spot"`` needs it, else 1 will do.

    Returns:
        Strikes and vols; NaN for options that are not quoted, for those that no strike, no positive vol or no smile
        satisfies, and for all of a smile whose strikes do not rise.

    Raises:
        ValueError: a delta is not inside (0, 0.5), or is given twice.
    """
    deltas = np.asarray(deltas, np.float64)
    if not ((deltas > 0.0) & (deltas < 0.5)).all() or len(np.unique(deltas)) < len(deltas):
        raise ValueError(f"deltas must be distinct and inside (0, 0.5), not {deltas.tolist()}")
    order = np.argsort(deltas)
    quotes = _Quotes(atm, risk_reversal[:, order], butterfly[:, order])
    market = _Market(deltas[order], tenor, foreign_discount, np.log(spot_moneyness), conventions)
    if conventions.strangle == "market":
        quotes = _with_smile_butterflies(quotes, market)
    points = _by_strike(quotes, market)
    falling = points.k[:, 1:] <= np.fmax.accumulate(points.k, axis=1)[:, :-1]
    return FxSmiles(*(np.where(falling.any(axis=1, keepdims=True), np.nan, part) for part in points))


class _Quotes(NamedTuple):
    """At-the-money vols [smile], risk reversals and butterflies [smile, delta]."""

    atm: Array
    risk_reversal: Array
    butterfly: Array

    def of(self, row: Index, delta: Index | slice = _ALL) -> "_Quotes":
        """Some of the smiles, and of their deltas."""
        return _Quotes(self.atm[row], self.risk_reversal[row][:, delta], self.butterfly[row][:, delta])


class _Market(NamedTuple):
    """Strikes depend on this and the vols: deltas in rising order [delta], three numbers of each smile [smile]."""

    deltas: Array
    tenor: Array
    foreign_discount: Array
    spot_k: Array
    conventions: Conventions

    def of(self, row: Index, delta: Index | slice = _ALL) -> "_Market":
        """Some of the smiles, and of their deltas."""
        by_smile = (self.tenor[row], self.foreign_discount[row], self.spot_k[row])
        return _Market(self.deltas[delta], *by_smile, self.conventions)

    def strikes(self, total_vol: Array, *, call: bool) -> Array:
        """k of the options of ``deltas`` by total vols [smile, delta]."""
        spot = self.conventions.delta == "spot"
        discount = self.foreign_discount[:, None] if spot else np.ones((1, 1))
        adjusted = self.conventions.premium_adjusted
        return log_moneyness(self.deltas, total_vol, call=call, discount=discount, premium_adjusted=adjusted)

    def atm_strikes(self, total_vol: Array) -> Array:
        """k at the money by total vols, [smile]."""
        if self.conventions.atm == "delta_neutral":
            return 0.5 * total_vol**2 * (-1.0 if self.conventions.premium_adjusted else 1.0)
        return self.spot_k if self.conventions.atm == "spot" else np.zeros_like(total_vol)


def _by_strike(quotes: _Quotes, market: _Market) -> FxSmiles:
    """The points of smiles whose butterflies are those of the smile."""
    middle = quotes.atm[:, None] + quotes.butterfly
    put, call = middle - 0.5 * quotes.risk_reversal, middle + 0.5 * quotes.risk_reversal
    width = np.sqrt(market.tenor)
    put_k = market.strikes(put * width[:, None], call=False)
    call_k = market.strikes(call * width[:, None], call=True)
    atm_k = market.atm_strikes(quotes.atm * width)[:, None]
    k = np.concatenate((put_k, atm_k, call_k[:, ::-1]), axis=1)
    vol = np.concatenate((put, quotes.atm[:, None], call[:, ::-1]), axis=1)
    usable = np.isfinite(k) & (vol > 0.0)
    return FxSmiles(np.where(usable, k, np.nan), np.where(usable, vol, np.nan))


def _with_smile_butterflies(quotes: _Quotes, market: _Market) -> _Quotes:
    """The quotes with the butterflies of the smile for market strangles, grouped by quoted deltas."""
    quoted = np.isfinite(quotes.risk_reversal + quotes.butterfly)
    butterfly = np.full_like(quotes.butterfly, np.nan)
    for pattern in np.unique(quoted[quoted.any(axis=1)], axis=0):
        row, delta = np.flatnonzero((quoted == pattern).all(axis=1)), np.flatnonzero(pattern)
        butterfly[np.ix_(row, delta)] = _smile_butterflies(quotes.of(row, delta), market.of(row, delta))
    return quotes._replace(butterfly=butterfly)


def _smile_butterflies(quotes: _Quotes, market: _Market) -> Array:
    """Butterflies [smile, delta] of smiles that price the market strangles, NaN where none does."""
    width = np.sqrt(market.tenor)[:, None]
    total_vol = (quotes.atm[:, None] + quotes.butterfly) * width
    call_k, put_k = market.strikes(total_vol, call=True), market.strikes(total_vol, call=False)
    price = _strangle(call_k, put_k, total_vol, total_vol)
    vega = (_vega(call_k, total_vol) + _vega(put_k, total_vol)) * width

    def error_of(butterfly: Array, row: Index) -> Array:
        own = quotes.of(row)._replace(butterfly=butterfly)
        points, atm = _by_strike(own, market.of(row)), own.atm[:, None] * width[row]
        with np.errstate(all="ignore"):  # of a trial that is no smile
            call, put = (_between(points, atm, k[row]) * width[row] for k in (call_k, put_k))
            return (_strangle(call_k[row], put_k[row], call, put) - price[row]) / vega[row]

    return newton.roots(error_of, quotes.butterfly, tolerance=_ROUNDING)


def _strangle(call_k: Array, put_k: Array, call_vol: Array, put_vol: Array) -> Array:
    """Undiscounted price of a call and a put per unit of forward, by their strikes and total vols."""
    call = ndtr(0.5 * call_vol - call_k / call_vol) - np.exp(call_k) * ndtr(-0.5 * call_vol - call_k / call_vol)
    put = np.exp(put_k) * ndtr(0.5 * put_vol + put_k / put_vol) - ndtr(put_k / put_vol - 0.5 * put_vol)
    price: Array = call + put
    return price


def _vega(k: Array, total_vol: Array) -> Array:
    density: Array = np.exp(-0.5 * (0.5 * total_vol - k / total_vol) ** 2) / np.sqrt(2.0 * np.pi)
    return density


def _between(points: FxSmiles, atm: Array, k: Array) -> Array:
    """Vols at k [smile, strike] of smiles through points [smile, point]; ``atm`` is their total vol [smile, 1]."""
    x, nodes = ndtr(k / atm), ndtr(points.k / atm)
    rising = (np.diff(nodes) > 0.0).all(axis=1, keepdims=True)
    nodes = np.where(rising, nodes, np.nan)  # else its equations may be singular
    spline = Spline.through(nodes, np.log(points.vol))
    inside = np.clip(x, nodes[:, :1], nodes[:, -1:])
    value, slope, _ = spline.at(inside)
    vols: Array = np.exp(value + slope * (x - inside))
    return vols
