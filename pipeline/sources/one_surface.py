"""Quotes of one surface, of a market at a time, for its completion; they are checked as ``prepare`` checks them."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError, listed
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_assumptions, usable_quotes
from pipeline.sources.columns import Array
from pipeline.sources.quote_assumptions import Assumption
from pipeline.sources.quote_rows import EXPECTED_REASONS, REASONS, Index, Mask, QuoteTable, iso
from pipeline.sources.quoted_surfaces import QuotedSurfaces
from vae.surface.days import EPOCH
from vae.surface.normal import normal_cdf

_SECOND = 1.0 / 86_400.0  # of a day
_MOST_LISTED = 12  # dates or markets that a message names


class Choice(NamedTuple):
    """The surface of a file that is wanted; None where the file has but one.

    Attributes:
        date: of its quotes.
        time: of its snapshot, in local time.
        market: its name in the column of markets.
    """

    date: dt.date | None = None
    time: dt.datetime | None = None
    market: str | None = None


class Place(NamedTuple):
    """Where the rows of one surface are, [row], its date or time, and its market."""

    rows: Mask
    when: str
    market: str | None


class Rejected(NamedTuple):
    """A row that is no usable quote: its number in the file, counted from 1, its quote and the reason."""

    row: int
    reason: str
    value: float

    def __str__(self) -> str:
        shown = self.reason.startswith("vol_") or self.reason == "placeholder"
        return f"row {self.row:,}: {self.value:g}" if shown else f"row {self.row:,}"


class OneSurface(NamedTuple):
    """Usable quotes of one surface, each array [quote].

    Attributes:
        iv: Black vols.
        tenor: years.
        k: ln(K/F).
        weight: as the file has it; None without such a column.
        noise: half the spread of bid and ask in vol; NaN where there is no bid and ask.
        row: of the file, counted from 1.
        rows: number of rows of the file that are of this surface.
        rejected: the rows of the surface that are not usable, in order.
        when: date, or time of the snapshot; empty where the file has no dates.
        market: its name; None where the file does not tell markets apart.
        assumed: of the quotes, as neither file nor settings say it.
    """

    iv: Array
    tenor: Array
    k: Array
    weight: Array | None
    noise: Array
    row: Index
    rows: int
    rejected: list[Rejected]
    when: str
    market: str | None
    assumed: tuple[Assumption, ...] = ()

    @property
    def title(self) -> str:
        """Date or time, and market, as far as the file has them."""
        return " ".join(part for part in (self.when, self.market) if part)


def read(params: QuotesParams, choice: Choice) -> OneSurface:
    """The usable quotes of one surface of a file.

    Raises:
        InputError: the file cannot be read, has several surfaces of which none is chosen, or no usable quote; or its
            numbers are in another unit than the settings say.
    """
    own = usable_quotes.read(params, only=lambda table: _only(table, _place(table, params, choice).rows))
    place = _place(own, params, choice)
    rejected = sorted(
        Rejected(int(own.order[i]) + 1, REASONS[own.reason[i]], float(own["value"][i]))
        for i in np.flatnonzero(~own.kept)
    )
    row = own.kept_rows
    if not len(row):
        raise InputError(f"{params.path} has no usable quote: {counted(rejected)}")
    _check_rejected(params, len(own), rejected)
    return OneSurface(
        iv=own["vol"][row],
        tenor=own["tenor"][row],
        k=own["k"][row],
        weight=own["weight"][row] if own.weighted else None,
        noise=_half_spreads(own, params)[row],
        row=own.order[row] + 1,
        rows=len(own),
        rejected=rejected,
        when=place.when,
        market=place.market,
        assumed=quote_assumptions.of(own, params),
    )


def counted(rejected: Sequence[Rejected]) -> str:
    """The number of rejected rows by reason, with the first row of each."""
    by_reason: dict[str, list[Rejected]] = {}
    for one in rejected:
        by_reason.setdefault(one.reason, []).append(one)
    more = ", ..."
    parts = [f"{len(own):,} {reason} ({own[0]}{more * (len(own) > 1)})" for reason, own in by_reason.items()]
    return ", ".join(parts)


def _check_rejected(params: QuotesParams, rows: int, rejected: Sequence[Rejected]) -> None:
    """Raise InputError where more rows are no quotes than the settings allow."""
    faulty = [one for one in rejected if one.reason not in EXPECTED_REASONS]
    share = len(faulty) / max(rows - len(rejected) + len(faulty), 1)
    if share > params.max_rejected:
        raise InputError(
            f"{params.path}: {share:.0%} of the rows are rejected: {counted(faulty)}; allowed by "
            f"prepare.quotes.max_rejected: {params.max_rejected:.0%}"
        )


def place_of(source: str, date: Array, time: Array, market: Array, markets: Sequence[str], choice: Choice) -> Place:
    """Where the rows of the surface are that is chosen, or of the only one.

    Args:
        source: name of the file or folder, for messages.
        date: days since 1970-01-01, [row].
        time: of the snapshot in days since 1970-01-01, [row].
        market: index into ``markets``, [row].
        markets: names; empty where there are none, and then no market can be chosen.
        choice: the surface.

    Raises:
        InputError: there is no such surface, or several.
    """
    steps = (
        *((("market", market, lambda value: markets[int(value)], choice.market),) if markets else ()),
        ("date", date, iso, None if choice.date is None else choice.date.isoformat()),
        ("snapshot", time, time_text, None if choice.time is None else choice.time.isoformat(timespec="seconds")),
    )
    rows, chosen = np.isfinite(date), {}
    for name, values, in_words, wanted in steps:
        found = {in_words(value): value for value in np.unique(values[rows & np.isfinite(values)])}
        names = listed(found, most=_MOST_LISTED)
        if wanted is None and len(found) > 1:
            raise InputError(f"{source} has {len(found):,} {name}s; choose one by --{name}: {names}")
        if wanted is not None and wanted not in found:
            raise InputError(f"{source} has no {name} {wanted}; it has {names or 'none'}")
        if found:
            chosen[name] = wanted or next(iter(found))
            rows = rows & (values == found[chosen[name]])
    return Place(rows, chosen.get("snapshot", ""), chosen.get("market"))


def _place(table: QuoteTable, params: QuotesParams, choice: Choice) -> Place:
    """Where the rows of the surface are that is chosen, or of the only one."""
    if params.date is None:
        return place_of(params.path, table["date"], table["time"], table["market"], table.markets, choice)
    choice = choice._replace(date=None)  # the settings say the date of all rows
    return place_of(params.path, table["date"], table["time"], table["market"], table.markets, choice)._replace(when="")


def _only(table: QuoteTable, rows: Mask) -> QuoteTable:
    """The table of some rows."""
    return replace(
        table,
        columns={name: values[rows] for name, values in table.columns.items()},
        conditions={name: values[rows] for name, values in table.conditions.items()},
        order=table.order[rows],
        place=table.place[rows],
        reason=table.reason[rows],
    )


def _half_spreads(table: QuoteTable, params: QuotesParams) -> Array:
    """Half the spread of bid and ask in vol, NaN where there is none or it is not of the quote, [row]."""
    if "bid" not in table or params.columns.iv is not None:
        return np.full(len(table), np.nan)
    relative = 0.5 * (table["ask"] - table["bid"]) / table["value"]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        noise: Array = relative * table["vol"] / (_elasticity(table) if params.columns.priced else 1.0)
    return noise


def _elasticity(table: QuoteTable) -> Array:
    """Relative change of an undiscounted Black price for a relative change of its vol, [row]."""
    k, total_vol = table["k"], table["vol"] * np.sqrt(np.maximum(table["tenor"], 0.0))
    d1 = 0.5 * total_vol - k / total_vol
    call = normal_cdf(d1) - np.exp(k) * normal_cdf(d1 - total_vol)
    price = np.where(table["put"] == 1.0, call - 1.0 + np.exp(k), call)
    vega: Array = np.exp(-0.5 * d1**2) / np.sqrt(2.0 * np.pi)
    return vega * total_vol / price


def titles(found: QuotedSurfaces) -> list[str]:
    """Date or time of each surface, if it has one, with its market where there are some."""
    names = [found.markets[market] if found.markets else "" for market in found.market.tolist()]
    times = [time_text(time) if time else "" for time in found.time.tolist()]
    return [f"{time} {name}".strip() for time, name in zip(times, names, strict=True)]


def time_text(days: float) -> str:
    """A date, or a time where it is not midnight."""
    moment = EPOCH + dt.timedelta(seconds=round(days / _SECOND))
    return iso(days) if moment.time() == dt.time() else moment.isoformat(timespec="seconds")
