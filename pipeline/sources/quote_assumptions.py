"""Assumptions on a file of quotes, as neither the file nor the user says otherwise: one list for all commands."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from pipeline.settings.quotes import QuotesParams
from pipeline.sources import fx_units, quote_exercise, quote_units
from pipeline.sources.quote_rows import EXPIRY, PERCENT, RATES, QuoteTable
from pipeline.tables.name_words import plain, says_percent

_K_OVER = re.compile(r"^(ln|log)?k[fs]$|kover[fs]|strike(over)?(spot|forward)")  # in plain names that say K over F
_ONE_WAY = re.compile("^(?!moneyness$|mny$)")  # those that most take for K over F, or ln(K/F)
_NO_UNIT = ("tenor", "maturity", "timetomaturity", "timetoexpiry", "ttm", "tte", "t", "tau")  # of times to expiry
_WIDE_NAMES = {"log_moneyness": "ln(strike / forward)", "moneyness": "strike over spot"}
_MEANINGS = {
    "moneyness": "strike over spot; that of spot over strike must be turned round in the file",
    "log_moneyness": "ln(strike / forward); any other moneyness must be turned into it in the file",
}
_YEARS = re.compile("year|yrs?$|^yte$")  # in the plain names of times to expiry that say their unit
_LIKE_SIDES = 0.05  # median |ln(call / put)| of vols at a strike
_MIDDLE = 0.5  # the call delta near the money; vols above it are large


class Assumption(NamedTuple):
    """One assumption, and how the user says otherwise.

    Attributes:
        what: is assumed.
        settings: values by key of ``prepare.quotes`` that say otherwise, or the same; none where only the file can.
        effect: what they do.
    """

    what: str
    settings: Mapping[str, str] = {}
    effect: str = ""

    def __str__(self) -> str:
        """With options of a command."""
        return self._with(" ".join(map(_option, self.settings.items())))

    @property
    def as_settings(self) -> str:
        """The same with keys of params.yaml."""
        return self._with(" and ".join(f"prepare.quotes.{key}: {value}" for key, value in self.settings.items()))

    def _with(self, settings: str) -> str:
        return f"{self.what}; {settings} {self.effect}" if settings else self.what


def of(table: QuoteTable, params: QuotesParams, guessed: Collection[str] = ()) -> tuple[Assumption, ...]:
    """The assumptions on which the vols of a file depend.

    Args:
        table: the quotes, with k and vol.
        params: the settings that read them.
        guessed: keys of these which nobody stated, as they follow from what the numbers would mean.
    """
    return (
        *_missing_rates(table, params),
        *_places(params),
        *_deltas(table, params),
        *_tenors(params),
        *_vols(table, params),
        *_parts(table, params),
        *_sides(table, params),
        *_forwards(table, params),
        *_rate_units(table, params, guessed),
        *_exercise(table, params),
    )


def _option(setting: tuple[str, str]) -> str:
    """A setting as an option, as a shell takes it."""
    text = "=".join(setting)
    if text.startswith("columns."):
        return f"--{text.replace('.', ' ', 1).removesuffix('null')}"
    return f"--set '{text}'" if "{" in text else f"--set {text}"


def _missing_rates(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """The rates that are used although neither columns nor settings give them."""
    missing = [
        name
        for name in _used_rates(table, params)
        if getattr(params.columns, name) is None and name not in params.model_fields_set
    ]
    return [
        Assumption(f"{_use(table, name)} with {name} 0, as no column is read for it", {name: "..."}, "changes it")
        for name in missing
    ]


def _rate_units(table: QuoteTable, params: QuotesParams, guessed: Collection[str]) -> list[Assumption]:
    """The units of the rates that are used, where no one says them."""
    row, found = table.kept_rows, []
    for name in _used_rates(table, params):
        rate = float(np.median(table[name][row])) if getattr(params.columns, name) is not None else 0.0
        unit = table.rate_units[name]
        if rate and unit is None:
            effect = f"takes it as {rate:.3g} %"
            found.append(
                Assumption(f"a {name} of {rate:.3g} is {100.0 * rate:.3g} %", {"rate_unit": "percent"}, effect)
            )
        elif rate and params.rate_unit is None and says_percent(getattr(params.columns, name)):
            what = f"a {name} of {rate / PERCENT:.3g} is {100.0 * rate:.3g} %, as the name of its column says"
            found.append(Assumption(what, {"rate_unit": "decimal"}, f"takes it as {rate / PERCENT**2:.3g} %"))
        elif rate and unit is not None and "rate_unit" in guessed:
            number = rate / PERCENT if unit == "percent" else rate
            found.append(
                Assumption(f"a {name} of {number:.3g} is {100.0 * rate:.3g} %", {"rate_unit": unit}, "says so")
            )
    return found


def _used_rates(table: QuoteTable, params: QuotesParams) -> list[str]:
    """The rates of which forwards, discount factors or strikes of deltas are made."""
    row = table.kept_rows
    of_spot = bool(table["of_spot"][row].any())
    used = {"rate": of_spot or bool(table["of_rate"][row].any()), "dividend_yield": of_spot}
    used["dividend_yield"] |= params.delta_kind == "spot"
    return [name for name in RATES if used[name] or name in params.rates_of_fx]


def _use(table: QuoteTable, name: str) -> str:
    """The use of a rate."""
    row = table.kept_rows
    uses = []
    if table["of_spot"][row].any():
        uses.append("forwards are made of spots")
    if name == "rate" and table["of_rate"][row].any():
        uses.append("prices are discounted")
    return " and ".join(uses)


def of_names(params: QuotesParams) -> tuple[Assumption, ...]:
    """The meaning that names of columns leave open, which matters where names alone say how a file is read."""
    columns, found = params.columns, list(_moneyness(params, sure=_K_OVER))
    if columns.days is not None and params.days_per_year is None:
        found.append(Assumption(f"{columns.days} is calendar days", {"days_per_year": "252"}, "reads trading days"))
    if columns.tenor_years is not None and not _YEARS.search(plain(columns.tenor_years)):
        found.append(_in_years(columns.tenor_years))
    return tuple(found)


def _places(params: QuotesParams) -> Iterator[Assumption]:
    """The meaning of a moneyness, whose names have several."""
    yield from _moneyness(params, sure=_ONE_WAY)
    if params.wide is not None and params.wide.coordinate in _WIDE_NAMES:
        meant = _WIDE_NAMES[params.wide.coordinate]
        yield Assumption(f"columns are named by {meant}; names of any other moneyness must be stated")


def _moneyness(params: QuotesParams, *, sure: re.Pattern[str]) -> Iterator[Assumption]:
    """Which way the moneyness of a column is meant, unless its plain name is sure to say it."""
    made = {} if params.layout is None else params.layout.made()
    for key, meaning in _MEANINGS.items():
        name = getattr(params.columns, key)
        if name is not None and key not in made and not sure.search(plain(name)):
            yield Assumption(f"{name} is {meaning}")


def _deltas(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """The kind of deltas, and the options that they are of."""
    columns, found = params.columns, []
    if columns.by_delta and "delta_kind" not in params.model_fields_set:
        of_calls = " of calls" if columns.call_delta is not None else ""
        what = f"deltas are forward ones{of_calls}, without premium"
        found.append(Assumption(what, {"delta_kind": "spot"}, "reads those of the spot"))
    one_sided = columns.call_delta is not None and columns.type is None
    if one_sided and table["coordinate"][table.kept_rows].max() <= _MIDDLE:
        what = f"deltas are of calls, although none is above {_MIDDLE:g}"
        found.append(Assumption(f"{what}; those of puts need a column of types, or signs"))
    return found


def _tenors(params: QuotesParams) -> Iterator[Assumption]:
    """That times to expiry are years where their name has no unit."""
    column = params.columns.tenor_years
    if column is not None and plain(column) in _NO_UNIT:
        yield _in_years(column)


def _in_years(column: str) -> Assumption:
    return Assumption(f"{column} is years; months or days must be divided by 12 or 365 in the file")


def _vols(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """That large vols beside deltas are decimal, where no strike shows their size."""
    vol = float(np.median(table["value"][table.kept_rows]))
    columns = params.columns
    if not columns.by_delta or columns.priced or params.vol_unit != "decimal" or vol < _MIDDLE:
        return []
    settings = {"vol_unit": "percent", "expected_vol": "{low: 0.0001, high: 2}"}
    effect = f"takes it as {vol:.3g} %, as of a pegged currency"
    return [Assumption(f"a vol of {vol:.3g} is {100.0 * vol:.3g} %", settings, effect)]


def _parts(table: QuoteTable, params: QuotesParams) -> Iterator[Assumption]:
    """That risk reversals and butterflies are in the unit of the vols beside them, where their sizes show none."""
    sizes = {} if params.fx is None else fx_units.unsure(table.source, np.unique(table.order[table.kept]), params.fx)
    for name, size in sizes.items():
        what = f"column {name} is in {params.vol_unit}, although it is {size:.3g} times the vol at the money"
        yield Assumption(f"{what}; numbers in another unit must be changed in the file")


def _sides(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """That vols out of the money are right, where those of calls and puts differ as those of another forward do."""
    gap = quote_units.gap_of_sides(table)
    if params.columns.priced or gap < _LIKE_SIDES:
        return []
    what = f"vols of calls and puts at one strike differ by {gap:.0%} in the median, as those of another forward do"
    return [Assumption(f"{what}; of each pair the one out of the money is taken")]


def _forwards(table: QuoteTable, params: QuotesParams) -> Iterator[Assumption]:
    """That the forwards of the file are right where put-call parity gives others."""
    gap = table.get("parity_gap", np.nan)
    odd, known = (int(table.starts(np.flatnonzero(where), EXPIRY).sum()) for where in (gap > 0.0, np.isfinite(gap)))
    if odd:
        what = (
            f"put-call parity of {odd:,} of {known:,} expiries gives other forwards, up to "
            f"{100.0 * np.nanmax(gap):.3g} % off those of column {params.columns.forward}, which are taken"
        )
        yield Assumption(what, {"columns.forward": "null"}, "takes those of parity")


def _exercise(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """That prices are those of European options."""
    if not quote_exercise.is_assumed(table, params):
        return []
    what = "prices are read as of european options, which nothing says; of american ones vols may be 100 bp off"
    return [Assumption(what, {"exercise": "european or american"}, "says what they are")]
