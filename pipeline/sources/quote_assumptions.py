"""Assumptions on a file of quotes, as neither the file nor the user says otherwise: one list for all commands."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_exercise
from pipeline.sources.quote_rows import PERCENT, RATES, QuoteTable, rate_unit


class Assumption(NamedTuple):
    """One assumption, and how the user says otherwise.

    Attributes:
        what: is assumed.
        settings: values by key of ``prepare.quotes`` that say otherwise, or the same.
        effect: what they do.
    """

    what: str
    settings: Mapping[str, str]
    effect: str

    def __str__(self) -> str:
        """With options of a command."""
        return f"{self.what}; {' '.join(map(_option, self.settings.items()))} {self.effect}"

    @property
    def as_settings(self) -> str:
        """The same with keys of params.yaml."""
        stated = " and ".join(f"prepare.quotes.{key}: {value}" for key, value in self.settings.items())
        return f"{self.what}; {stated} {self.effect}"


def of(table: QuoteTable, params: QuotesParams, guessed: Collection[str] = ()) -> tuple[Assumption, ...]:
    """The assumptions on which the vols of a file depend.

    Args:
        table: the quotes, with k and vol.
        params: the settings that read them.
        guessed: keys of these which nobody stated, as they follow from what the numbers would mean.
    """
    return (*_missing_rates(table, params), *_rate_units(table, params, guessed), *_exercise(table, params))


def _option(setting: tuple[str, str]) -> str:
    """A setting as an option, as a shell takes it."""
    text = "=".join(setting)
    return f"--set '{text}'" if "{" in text else f"--set {text}"


def _missing_rates(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """The rates that are used although neither columns nor settings give them."""
    missing = [
        name
        for name in _used_rates(table, params)
        if getattr(params.columns, name) is None and name not in params.model_fields_set
    ]
    return [
        Assumption(f"{_use(table, name)} with {name} 0, as no column has it", {name: "..."}, "changes it")
        for name in missing
    ]


def _rate_units(table: QuoteTable, params: QuotesParams, guessed: Collection[str]) -> list[Assumption]:
    """The units of the rates that are used, where no one says them."""
    row, found = table.kept_rows, []
    for name in _used_rates(table, params):
        rate = float(np.median(table[name][row])) if getattr(params.columns, name) is not None else 0.0
        unit = rate_unit(name, table.source, params)
        if rate and unit is None:
            effect = f"takes it as {rate:.3g} %"
            found.append(
                Assumption(f"a {name} of {rate:.3g} is {100.0 * rate:.3g} %", {"rate_unit": "percent"}, effect)
            )
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


def _exercise(table: QuoteTable, params: QuotesParams) -> list[Assumption]:
    """That prices are those of European options."""
    if not quote_exercise.is_assumed(table, params):
        return []
    what = "prices are read as of european options, which nothing says; of american ones vols may be 100 bp off"
    return [Assumption(what, {"exercise": "european or american"}, "says what they are")]
