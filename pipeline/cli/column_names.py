"""Which canonical column a column of a user's file may be, by its name in the field and by its values.

A guess needs both: a name that the field uses for the column, and values that the column can have. Pure: names and
arrays in, names out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.tables.name_words import plain
from vae.surface.plausible import EACH_VOL, LONGEST_TENOR, vol_readings
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

# Names without case, blanks and signs, the most usual first.
FIELD_NAMES: Mapping[str, tuple[str, ...]] = {
    "date": (
        *("date", "quotedate", "tradedate", "tradingdate", "asofdate", "asof", "valuationdate", "datadate", "obsdate"),
        *("businessdate", "reportdate", "tdate", "observationdate", "pricingdate", "businessday", "day"),
        *("datum", "handelstag", "stichtag"),
    ),
    "snapshot": ("snapshot", "snapshottime", "timestamp", "datetime", "quotedatetime", "quotereadtime", "ts", "time"),
    "quoted_at": ("quotedat", "quotetime", "lastquotetime", "lasttradedate", "lasttradetime", "lasttrade"),
    "market": (
        *("market", "symbol", "ticker", "pair", "ccypair", "currencypair", "underlyingsymbol", "root", "rootsymbol"),
        *("actsymbol", "underlying", "asset", "secid", "currency", "optionroot", "class", "name"),
        *("swaptenor", "swapterm", "swapmaturity", "produkt"),
    ),
    "tenor_years": (
        *("tenoryears", "texp", "tte", "ttm", "tau", "t", "yearfraction", "yearstoexpiry", "timetomaturity"),
        *("timetoexpiry", "maturityyears", "yte", "years", "tenor", "maturity"),
    ),
    "tenor": (
        *("tenor", "maturity", "term", "expiry", "expiration", "exp", "laufzeit", "optiontenor", "optionexpiry"),
        *("optionmaturity",),
    ),
    "days": ("days", "dte", "daystoexpiry", "daystomaturity", "daystoexpiration", "dtm", "tenordays", "daystoexp"),
    "expiry": (
        *("expiry", "expiration", "expirationdate", "expirydate", "expdate", "exdate", "expiredate", "maturitydate"),
        *("expirdate", "maturity", "exp", "expire", "verfall", "verfallstag", "verfalldatum", "laufzeit"),
        *("expirationtimestamp", "expirytimestamp", "expirationtime", "expirytime", "expirationdatetime"),
        *("optionexpiry", "optionexpiration", "lasttradedateorcontractmonth", "fälligkeit"),
    ),
    "log_moneyness": ("logmoneyness", "logforwardmoneyness", "lnkf", "logkf", "logm", "k", "moneyness"),
    "call_delta": ("calldelta", "delta", "forwarddelta"),
    "delta": ("delta", "forwarddelta", "optiondelta"),
    "strike": ("strike", "strikeprice", "strk", "k", "x", "basispreis", "ausübungspreis"),
    "moneyness": ("moneyness", "moneynesskovers", "kovers", "ks", "strikeoverspot", "strikespot", "mny"),
    "forward": (
        "forward",
        "fwd",
        "forwardprice",
        "fwdprice",
        "f",
        "impliedforward",
        "underlyingforward",
        "fut",
        "future",
        "futuresprice",
        "futureprice",
        "futuressettlement",
        "futuressettle",
        "swaprate",
        "forwardswaprate",
        "forwardrate",
    ),
    "spot": (
        *("spot", "spotprice", "underlyingprice", "underlyinglast", "underlyingvalue", "stockprice", "undprice"),
        *("indexprice", "stkpx", "s", "s0", "underlying", "underlyingclose", "close", "kurs"),
    ),
    "rate": ("rate", "interestrate", "riskfreerate", "rf", "r", "irate", "domesticrate", "discountrate"),
    "dividend_yield": ("dividendyield", "divyield", "q", "divrate", "foreignrate"),
    "iv": (
        *(
            "iv",
            "impliedvol",
            "impliedvolatility",
            "implvol",
            "impvol",
            "vol",
            "volatility",
            "sigma",
            "markiv",
            "midiv",
        ),
        *("ivmid", "midvol", "implvolatility", "smoothiv", "blackvol", "vola", "implvola", "implizitevola"),
        *("implizitevolatilität", "volatilität", "lognormalvol", "lognormalvolatility"),
        *("normalvol", "normalvolatility", "normalvolbp", "normalvolbps", "normvol", "bpvol", "bachelier"),
        *("bacheliervol", "volbp", "volbps", "ivbp"),
    ),
    "bid_iv": ("bidiv", "ivbid", "bidvol", "bidimpliedvol", "impliedvolbid", "bestbidiv", "bid"),
    "ask_iv": ("askiv", "ivask", "askvol", "askimpliedvol", "impliedvolask", "bestaskiv", "offeriv", "ask", "offer"),
    "price": (
        *(
            "price",
            "mid",
            "midprice",
            "markprice",
            "mark",
            "optionprice",
            "premium",
            "settle",
            "settlement",
            "settleprice",
        ),
        *("settlementprice", "optionsettlement", "optionsettle", "last", "lastprice", "ltp", "close"),
        *("abrechnungspreis", "preis"),
    ),
    "bid": ("bid", "bidprice", "bidpx", "bestbid", "bestbidprice", "bid1545", "bideod"),
    "ask": (
        "ask",
        "askprice",
        "askpx",
        "bestask",
        "bestaskprice",
        "offer",
        "bestoffer",
        "offerprice",
        "ask1545",
        "askeod",
    ),
    "type": (
        "type",
        "optiontype",
        "cpflag",
        "callput",
        "putcall",
        "right",
        "cp",
        "callputflag",
        "pc",
        "pcflag",
        "flag",
        "typ",
        "optionstyp",
    ),
    "weight": ("weight",),
    "exercise": ("exercise", "exercisestyle", "style", "optionstyle"),
    "volume": ("volume", "tradevolume", "vol", "totalvolume"),
    "open_interest": ("openinterest", "oi"),
}
MOMENTS = ("date", "snapshot", "quoted_at", "expiry")
TEXTS = ("market", "type", "exercise")
_FEW_WORDS = 4  # different words in a column of types
_CODES = (-1.0, -9.0, -99.0, -99.99, -999.0, -999.99, -9999.0)  # that vendors write where they have no number
_SIGNED = ("log_moneyness", "delta", "rate", "dividend_yield")  # columns that may have such numbers
_REPEATED = 0.5  # of its known cells: the most different ones of a spot, which all quotes of a time share
_MOST_STRANGE = 0.05  # share of the cells that may be no value of the column, as files have bad rows


class Column(NamedTuple):
    """The cells of a column, read in each way; a way that fails is None.

    Attributes:
        numbers: NaN where empty, [row].
        moments: days since 1970-01-01, NaN where empty, [row].
        words: its different texts; empty for numbers.
        labels: whether its texts are labels of tenors, such as 3M.
        unclear: whether its moments are one reading of several.
    """

    numbers: Array | None
    moments: Array | None
    words: Sequence[str]
    labels: bool = False
    unclear: bool = False


def says_normal(name: str) -> bool:
    """Whether a column's name says that its vols are normal ones.

    >>> [says_normal(name) for name in ("Normal Vol (bp)", "bpvol", "LogNormal Vol", "vol")]
    [True, True, False, False]
    """
    return re.search(r"(?<!log)(?<!log[ _-])normal|normvol|bachelier|bp_?vol", name, re.IGNORECASE) is not None


def says_basis_points(name: str) -> bool:
    """Whether a column's name says that its numbers are basis points.

    >>> [says_basis_points(name) for name in ("Normal Vol (bp)", "vol_bps", "bpvol", "vol")]
    [True, True, True, False]
    """
    return re.search(r"[\s_(]bps?\)?$|^bp_?vol|volbps?$", name.strip(), re.IGNORECASE) is not None


def candidates(columns: Mapping[str, Column]) -> dict[str, list[str]]:
    """Columns of a file by canonical name, best first: those that have a name and values of it.

    A column may be a candidate for several canonical names.

    >>> years, vols = np.array([0.1, 0.5]), np.array([0.2, 0.3])
    >>> candidates({"TTM": Column(years, None, ()), "Impl. Vol": Column(vols, None, ())})
    {'tenor_years': ['TTM'], 'iv': ['Impl. Vol']}
    """
    found: dict[str, list[str]] = {}
    for canonical, names in FIELD_NAMES.items():
        named = sorted((names.index(plain(name)), name) for name in columns if plain(name) in names)
        able = [name for _, name in named if can_be(canonical, columns[name])]
        if canonical == "spot":
            able = [name for name in able if plain(name) not in FIELD_NAMES["price"] or _is_shared(columns[name])]
        if able:
            found[canonical] = able
    return found


def can_be(canonical: str, column: Column) -> bool:
    """Whether the values of a column can be those of a canonical one, whatever its name."""
    if canonical in MOMENTS:
        return column.moments is not None and bool(np.isfinite(column.moments).any())
    if canonical == "tenor":
        return column.labels
    if canonical in TEXTS:
        few = canonical == "market" or len(column.words) <= _FEW_WORDS
        return bool(column.words) and few
    if column.numbers is None:
        return False
    known = _known(canonical, column.numbers)
    return bool(len(known)) and _fits(canonical, known)


def _known(canonical: str, numbers: Array) -> Array:
    """The numbers that are there, without those that say that there is none."""
    missing = np.isnan(numbers) | (np.isin(numbers, _CODES) if canonical not in _SIGNED else False)
    return numbers[~missing]


def _is_shared(column: Column) -> bool:
    """Whether numbers repeat, as those of the underlying do beside many quotes, and an option's own do not."""
    known = np.zeros(0) if column.numbers is None else column.numbers[np.isfinite(column.numbers)]
    return len(np.unique(known)) <= _REPEATED * len(known)


def _fits(canonical: str, values: Array) -> bool:
    """Whether numbers, finite and at least one, can be the values of a canonical column."""
    return _FITS.get(canonical, _not_negative)(values)


def _mostly(right: NDArray[np.bool_]) -> bool:
    return bool(right.mean() >= 1.0 - _MOST_STRANGE)


def _not_negative(values: Array) -> bool:
    return _mostly(values >= 0.0)


def _are_levels(values: Array) -> bool:
    """Whether numbers may be strikes, spots or forwards, and not zeros in their place."""
    return _not_negative(values) and float(np.median(values)) > 0.0


def _are_vols(values: Array) -> bool:
    median = float(np.median(values))
    return _not_negative(values) and (bool(vol_readings(median)) or EACH_VOL.low <= median <= EACH_VOL.high)


def _are_rates(values: Array) -> bool:
    return _mostly(np.abs(values) < 100.0)


_FITS: Mapping[str, Callable[[Array], bool]] = {
    "tenor_years": lambda x: _mostly((x >= 0.0) & (x <= LONGEST_TENOR)),
    "days": lambda x: _mostly((x >= 0.0) & (x <= DAYS_PER_YEAR * LONGEST_TENOR)),
    "log_moneyness": lambda x: _mostly(np.abs(x) < 5.0) and float(x.min()) < 0.2,
    "call_delta": lambda x: _mostly((x > 0.0) & (x < 1.0)),
    "delta": lambda x: _mostly(np.abs(x) <= 100.0),
    "moneyness": lambda x: _mostly(x > 0.0) and any(0.2 < float(np.median(x)) / unit < 5.0 for unit in (1.0, 100.0)),
    "strike": _are_levels,
    "forward": _are_levels,
    "spot": _are_levels,
    "iv": _are_vols,
    "bid_iv": _are_vols,
    "ask_iv": _are_vols,
    "rate": _are_rates,
    "dividend_yield": _are_rates,
}
