"""The shapes that a table of quotes may have.

A row holds a quote, a call and a put, vols at several strikes, or an at-the-money vol, risk reversals and butterflies.
Pure: columns and their canonical candidates in, blocks of ``prepare.quotes`` out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pipeline.cli.column_names import FIELD_NAMES, Column, can_be
from pipeline.tables.name_words import plain
from vae.surface.plausible import LARGEST_K

_COORDINATES = ("call_delta", "delta", "log_moneyness", "moneyness", "strike")
_DELTAS = ("call_delta", "delta")
_QUOTES = (("iv",), ("bid_iv", "ask_iv"), ("price",), ("bid", "ask"))
_PRICES = (("price",), ("bid", "ask"))
_CARRY = ("forward", "spot", "rate", "dividend_yield")
_SIDES = (("call", "put"), ("calls", "puts"), ("ce", "pe"), ("c", "p"))
_MOST_DELTAS = 60  # different values of deltas that are coordinates and not a vendor's greeks
_ATM = ("atm", "atmvol", "atmv", "dns", "atmdns", "atmf")
_WING_PARTS = {
    **dict.fromkeys(("rr", "riskreversal"), "risk_reversal"),
    **dict.fromkeys(("bf", "bfly", "fly", "butterfly", "strangle", "str", "strg"), "butterfly"),
}
_PART, _DELTA = f"({'|'.join(_WING_PARTS)})", "([0-9]{1,2})"
_WING = re.compile(f"{_DELTA}(?:d|delta)?{_PART}|{_PART}{_DELTA}(?:d|delta)?")
_OWN_DELTA = re.compile("([0-9]{1,2})(?:d|delta)?(c|p)(?:all|ut)?")
_HALVES = ("calls", "puts")  # columns that stand before those of calls and of puts
_FEWEST_NUMBERS = 3  # columns named by numbers that make a table of strikes
_NEAR_THE_MONEY = 0.4  # the least that the highest call delta of a table is: columns 1% to 5% are strikes of caps
_LARGEST_MONEYNESS = 3.0  # of columns named by it: from 1 to 5 are strikes of caps in percent
_PERCENT, _MONEYNESS = 100.0, (20.0, 400.0)  # of columns that may be percent of the spot, or of 1 as deltas are


class Shape(NamedTuple):
    """A shape, and the columns that it needs beside tenor, date and market.

    Attributes:
        needed: canonical columns that rows share and that the file must have.
        beside: those that it may have.
        layout: the block ``wide``, ``call_put`` or ``fx``; empty for a quote a row.
        vols: columns of the file that hold vols; none for prices.
    """

    needed: tuple[str, ...]
    beside: tuple[str, ...]
    layout: Mapping[str, Any]
    vols: tuple[str, ...]


def shapes(
    columns: Mapping[str, Column], named: Mapping[str, Sequence[str]], stated: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Shape]:
    """The shapes that a table may have, the most usual first.

    Args:
        columns: of the file by name.
        named: columns of the file by canonical name.
        stated: keys of ``prepare.quotes`` that the user states: without ``fx`` no table of butterflies can be read, and
            without ``wide`` none whose columns are named by deltas.
    """
    yield from _long(columns, named)
    yield from _call_put(columns, named)
    yield from _wide(columns)
    if isinstance(wide := stated.get("wide"), Mapping) and isinstance(vols := wide.get("columns"), Mapping):
        yield Shape((), ("rate", "dividend_yield"), {"wide": wide}, tuple(name for name in vols if name in columns))
    parts = fx_parts(columns)
    if parts is not None and isinstance(conventions := stated.get("fx"), Mapping):
        yield Shape((), _CARRY, {"fx": {**parts, **conventions}}, (parts["atm"],))


def fx_parts(names: Iterable[str]) -> dict[str, Any] | None:
    """The columns of a table of risk reversals and butterflies as keys of the block ``fx``; None where it is none.

    >>> fx_parts(["Tenor", "ATM", "25D RR(Mid)", "BF25"])
    {'atm': 'ATM', 'wings': [{'delta': 0.25, 'risk_reversal': '25D RR(Mid)', 'butterfly': 'BF25'}]}
    """
    names = list(names)
    atm = next((name for name in names if _of_mid(name) in _ATM), None)
    found: dict[int, dict[str, str]] = {}
    for name in names:
        if match := _WING.fullmatch(_of_mid(name)):
            found.setdefault(int(match[1] or match[4]), {})[_WING_PARTS[match[2] or match[3]]] = name
    wings = [{"delta": delta / 100, **own} for delta, own in sorted(found.items(), reverse=True) if len(own) == 2]
    return None if atm is None or not wings else {"atm": atm, "wings": wings}


def vols_by_delta(names: Iterable[str]) -> dict[str, float]:
    """The delta of each column that is named by one, puts below 0, as a block ``wide`` has it.

    >>> vols_by_delta(["Exp", "10D Put", "ATM", "25C"])
    {'10D Put': -0.1, '25C': 0.25}
    """
    found = {name: match for name in names if (match := _OWN_DELTA.fullmatch(_of_mid(name)))}
    return {name: (-0.01 if match[2] == "p" else 0.01) * int(match[1]) for name, match in found.items()}


def _of_mid(name: str) -> str:
    """The plain name of a column without the word mid."""
    return plain(name).removesuffix("mid")


def _long(columns: Mapping[str, Column], named: Mapping[str, Sequence[str]]) -> Iterator[Shape]:
    greeks = [place for place in _DELTAS if place in named and not _repeat(columns[named[place][0]])]
    places = (*(place for place in _COORDINATES if place not in greeks), *greeks)  # strikes before greeks beside them
    for place, quote in product(places, _QUOTES):
        if place not in named or not all(name in named for name in quote) or not _go_together(place, quote):
            continue
        if place in _DELTAS and _count(columns[named[place][0]]) > _MOST_DELTAS:
            continue
        vols = () if quote in _PRICES else (named[quote[0]][0],)
        yield Shape((place, *quote), (*_beside(place, quote), "type"), {}, vols)


def _call_put(columns: Mapping[str, Column], named: Mapping[str, Sequence[str]]) -> Iterator[Shape]:
    for place, quote in product(("log_moneyness", "moneyness", "strike"), _QUOTES):
        sides = [pair for name in quote if (pair := _sides(columns, name)) is not None]
        if place not in named or len(sides) < len(quote) or not _go_together(place, quote):
            continue
        call, put = ({name: pair[i] for name, pair in zip(quote, sides, strict=True)} for i in (0, 1))
        vols = () if quote in _PRICES else (call[quote[0]],)
        yield Shape((place,), _beside(place, quote), {"call_put": {"call": call, "put": put}}, vols)


def _wide(columns: Mapping[str, Column]) -> Iterator[Shape]:
    numbers = {name: number for name in columns if (number := number_of(name)) is not None}
    if len(numbers) < _FEWEST_NUMBERS:
        return
    values = np.array([*numbers.values()])
    in_percent = any(name.strip().endswith("%") for name in numbers)  # -1.00% is an offset, of a rate or a moneyness
    fits = {
        "call_delta": bool(((values > 0.0) & (values < 1.0)).all()) and bool(values.max() >= _NEAR_THE_MONEY),
        "log_moneyness": bool(values.min() < 0.0) and bool((np.abs(values) <= LARGEST_K).all()) and not in_percent,
        "moneyness": bool(values.min() > 0.0) and bool(values.min() < 1.0 <= values.max() <= _LARGEST_MONEYNESS),
        "strike": bool(values.min() > 5.0),
    }
    for place in (place for place, fit in fits.items() if fit):
        beside = (
            _beside(place, ("iv",)) if place == "strike" else ("rate", "dividend_yield")
        )  # spots are 1 of moneyness
        yield Shape((), beside, {"wide": {"coordinate": place, "columns": "numbers"}}, tuple(numbers))
    if not in_percent and (values > 0.0).all() and np.array_equal(np.sort(values), _PERCENT - np.sort(values)[::-1]):
        deltas = {name: number / _PERCENT for name, number in numbers.items()}
        yield Shape((), (), {"wide": {"coordinate": "call_delta", "columns": deltas}}, tuple(numbers))
    if fits["strike"] and _MONEYNESS[0] <= values.min() < _PERCENT < values.max() <= _MONEYNESS[1]:
        shares = {name: number / _PERCENT for name, number in numbers.items()}
        yield Shape(
            (), ("rate", "dividend_yield"), {"wide": {"coordinate": "moneyness", "columns": shares}}, tuple(numbers)
        )


def _go_together(place: str, quote: tuple[str, ...]) -> bool:
    return quote not in _PRICES or place in ("strike", "moneyness")


def _beside(place: str, quote: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that may belong to a coordinate and a quote, without the type of the option."""
    return (*_CARRY, "exercise") if quote in _PRICES or place in ("strike", "moneyness") else ("exercise",)


def _sides(columns: Mapping[str, Column], canonical: str) -> tuple[str, str] | None:
    """The columns of calls and of puts for a canonical one, such as C_BID and P_BID, or two of one name."""
    able = {plain(name): name for name, column in columns.items() if can_be(canonical, column)}
    if _calls_first(columns):
        for name in FIELD_NAMES[canonical]:
            if f"{name}1" in able and f"{name}2" in able:  # as the reader calls two columns of one name: Bid[1], Bid[2]
                return able[f"{name}1"], able[f"{name}2"]
    for (call, put), name in product(_SIDES, FIELD_NAMES[canonical]):
        for ends in (((call + name), (put + name)), ((name + call), (name + put))):
            if ends[0] in able and ends[1] in able:
                return able[ends[0]], able[ends[1]]
    return None


def _calls_first(columns: Mapping[str, Column]) -> bool:
    """Whether columns Calls and Puts head two halves of the table, the first of each name before Puts."""
    names = list(columns)
    place = {plain(name): i for i, name in enumerate(names)}
    if not all(half in place for half in _HALVES):
        return False
    calls, puts = (place[half] for half in _HALVES)
    first, second = ([i for i, name in enumerate(names) if name.endswith(f"[{n}]")] for n in (1, 2))
    return all(calls < i < puts for i in first) and all(i > puts for i in second)


def _repeat(column: Column) -> bool:
    """Whether deltas are those of several smiles, and not of each option, as a vendor's greeks are."""
    return column.numbers is not None and 2 * _count(column) <= np.isfinite(column.numbers).sum()


def _count(column: Column) -> int:
    """The number of different numbers."""
    numbers = np.zeros(0) if column.numbers is None else column.numbers
    return len(np.unique(numbers[np.isfinite(numbers)].round(6)))


def number_of(name: str) -> float | None:
    """The number that a column is named by; of 90% the share."""
    try:
        return float(name.strip().removesuffix("%")) / (100.0 if name.strip().endswith("%") else 1.0)
    except ValueError:
        return None
