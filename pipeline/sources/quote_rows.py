"""The rows of a file of quotes as one table: canonical columns in canonical units, and why a row is rejected."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import columns, date_forms, fx_units, layouts, quote_deltas, quote_tenors, row_filters
from pipeline.sources.columns import Array, Columns, Wanted
from pipeline.tables.name_words import says_percent
from pipeline.tables.words import EXERCISES, OPTION_TYPES
from vae.surface.days import date_of, day_of
from vae.surface.plausible import MEDIAN_VOL, VOL_UNITS

REASONS = (
    "other_market",
    "flagged",
    "american",
    "low_volume",
    "low_open_interest",
    "repeated",
    "missing_value",
    "missing_bid",
    "missing_ask",
    "expired",
    "tenor_too_long",
    "strike_not_positive",
    "forward_not_positive",
    "rate_above_1",
    "delta_not_inside_0_1",
    "weight_not_positive",
    "snapshot_of_other_date",
    "quoted_after_date",
    "stale",
    "crossed",
    "wide",
    "spot_differs",
    "forward_differs",
    "placeholder",
    "vol_not_positive",
    "vol_below_min",
    "vol_above_max",
    "duplicate",
    "merged",
    "conflicting",
    "no_forward",
    "in_the_money",
    "no_time_value",
    "strike_too_far",
    "outlier",
    "price_outside_bounds",
    "too_few_points",
)
# Rows that the settings or the file itself leave out, or that another row stands for: a file may have any number.
EXPECTED_REASONS = (
    "other_market",
    "flagged",
    "american",
    "low_volume",
    "low_open_interest",
    "repeated",
    "expired",
    "stale",
    "wide",
    "duplicate",
    "merged",
    "in_the_money",
    "no_time_value",
)
PERCENT = 0.01
VOLS = ("iv", "bid_iv", "ask_iv")
RATES = ("rate", "dividend_yield")
_DELTAS = ("call_delta", "delta")
CARRY = ("forward", "spot", *RATES)
SURFACE = ("time", "market")  # the columns that tell surfaces apart
EXPIRY = (*SURFACE, "tenor")
STRIKE = (*EXPIRY, "coordinate")
OPTION = (*STRIKE, "put")
QUOTE = ("value", "bid", "ask", *CARRY)  # the columns in which quotes of one option may differ
TIMES = ("snapshot", "quoted_at")  # which may be one column, and that of the dates
_CONDITION = "condition."  # begins the names of wanted columns that are conditions
_KINDS: Mapping[str, columns.Kind] = {
    "date": "instant",
    "expiry": "instant",
    "market": "name",
    "tenor": "tenor",
    "type": OPTION_TYPES,
    "exercise": EXERCISES,
    "snapshot": "instant",
    "quoted_at": "instant",
}  # all others are numbers

Mask = NDArray[np.bool_]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class QuoteTable:
    """Rows sorted by all their columns, so that the order of the file does not matter.

    Attributes:
        columns: float64 [row] by name. Every table has date (days since 1970-01-01), time (of the snapshot, else the
            date), market (index into ``markets``, else 0), tenor (years), coordinate (strike, strike / spot, k or call
            delta), value (the quote, or the mid of bid and ask; vols are decimal) and weight. It has forward, spot,
            rate, dividend_yield, bid, ask, volume, open_interest, put (1 or 0), american (1 or 0), quoted_at and
            flagged (1 or 0) where the file has them. ``usable_quotes.usable`` adds repeated (1 or 0), k and vol.
        conditions: numbers of the surfaces by name, float64 [row].
        source: all columns of the file, in its order.
        rate_units: of rate and dividend_yield: decimal or percent, as stated, else as the column shows; None where
            nothing does.
        markets: sorted names in the column of markets; none where the settings name no such column.
        weighted: whether the file has weights; without them all are 1.
        order: the row of the file, counted from 0, [row]; quotes that stand in one row share it.
        place: of the quote among those of its row of the file, counted from 0, [row].
        reason: index into ``REASONS`` of a rejected row, else -1, [row].
    """

    columns: Mapping[str, Array]
    conditions: Mapping[str, Array]
    source: Columns
    rate_units: Mapping[str, str | None]
    markets: tuple[str, ...]
    weighted: bool
    order: Index
    place: Index
    reason: Index

    def __len__(self) -> int:
        return len(self.reason)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def get(self, name: str, default: float) -> Array:
        """A column, or its value where the file has none, [row]."""
        return self.columns[name] if name in self else np.full(len(self), default)

    def with_columns(self, **columns: Array) -> "QuoteTable":
        """The table with columns added or replaced."""
        return replace(self, columns={**self.columns, **columns})

    @property
    def kept(self) -> Mask:
        """Rows that are not rejected, [row]."""
        kept: Mask = self.reason < 0
        return kept

    @property
    def kept_rows(self) -> Index:
        """Indices of the rows that are not rejected."""
        return np.flatnonzero(self.kept)

    def reject(self, reason: str, where: Mask | Index) -> "QuoteTable":
        """The table without rows, by mask or index; a row that is rejected already keeps its first reason."""
        wrong = np.zeros(len(self), bool)
        wrong[where] = True
        return replace(self, reason=np.where(wrong & self.kept, REASONS.index(reason), self.reason))

    def starts(self, row: Index, names: tuple[str, ...]) -> Mask:
        """Where rows, sorted, differ from the row before in any of the columns, [len(row)]; the first does."""
        start = np.zeros(len(row), bool)
        start[:1] = True
        for name in names:
            if name in self:
                start[1:] |= np.diff(self[name][row]) != 0.0
        return start

    def pairs(self, row: Index) -> Index:
        """Those of some rows that are a call and a put at one strike, [pair, 2].

        Rows are sorted by expiry, strike, call before put.
        """
        if "put" not in self:
            return np.zeros((0, 2), np.int64)
        second = np.flatnonzero(~self.starts(row, STRIKE))
        return np.stack((row[second - 1], row[second]), axis=1)

    @property
    def rejected(self) -> dict[str, int]:
        """Number of rejected rows by reason, for all of ``REASONS``."""
        counts = np.bincount(self.reason + 1, minlength=len(REASONS) + 1)[1:]
        return dict(zip(REASONS, counts.tolist(), strict=True))

    @property
    def rejected_rows(self) -> list[tuple[int, str]]:
        """Rejected rows of the file, counted from 1, in order, with their reason."""
        rejected = np.flatnonzero(~self.kept)
        rejected = rejected[np.argsort(self.order[rejected], kind="stable")]
        rows, reasons = (self.order[rejected] + 1).tolist(), self.reason[rejected].tolist()
        return [(row, REASONS[reason]) for row, reason in zip(rows, reasons, strict=True)]


def strikes(table: QuoteTable, params: QuotesParams) -> Array:
    """The strike of each row of a table whose coordinate is one, or strike / spot."""
    return table["coordinate"] * (table["spot"] if params.columns.moneyness is not None else 1.0)


def iso(day: float) -> str:
    """The date of a day since 1970-01-01, as ISO text."""
    return date_of(day).isoformat()


def iso_if_dated(day: float) -> str:
    """The same; empty for quotes that have no date, as their tenors need none: commands read them as of 1970-01-01."""
    return iso(day) if day else ""


def read(params: QuotesParams) -> QuoteTable:
    """The table of a file; no row is rejected yet.

    Raises:
        InputError: the file cannot be read, or lacks a column or has one of a wrong type.
    """
    source = Columns.read(Path(params.path), sheet=params.sheet, decimal_mark=params.decimal_mark, takes_unclear=True)
    rate_units = {name: _rate_unit(name, source, params) for name in RATES}
    wanted = _wanted(params, source, rate_units)
    if params.fx is not None:
        fx_units.check_signs(source, params, params.fx)
    try:
        of_file = source.found(wanted)
    except InputError:  # of dates with several readings, which other columns may settle
        wanted = date_forms.settled(source, wanted, None if params.date is None else float(day_of(params.date)))
        of_file = source.found(wanted)
    _check_shown_percent(source, wanted, of_file, params)
    of_file |= {name: PERCENT * of_file[name] for name in RATES if name in of_file and rate_units[name] == "percent"}
    found, row = layouts.long(of_file, _times(of_file, params)["date"], params, source.names)
    conditions = {key: found.pop(f"{_CONDITION}{key}") for key in params.conditions}
    values = _canonical(found, params)
    markets: tuple[str, ...] = ()
    if params.columns.market is not None:
        values["market"], markets = found["market"], source.texts(params.columns.market).values
    if params.drop_where is not None:
        conditions_of_rows = [params.drop_where] if isinstance(params.drop_where, str) else params.drop_where
        values["flagged"] = row_filters.dropped(source, conditions_of_rows)[row].astype(np.float64)
    weighted = "weight" in values
    rows = len(values["date"])
    values = {"weight": np.ones(rows), "market": np.zeros(rows), **values}
    keys = [values[name] for name in dict.fromkeys((*OPTION, "quoted_at", *QUOTE, *values)) if name in values]
    order = np.lexsort(keys[::-1])
    return QuoteTable(
        columns={name: value[order] for name, value in values.items()},
        conditions={name: value[order] for name, value in conditions.items()},
        source=source,
        rate_units=rate_units,
        markets=markets,
        weighted=weighted,
        order=row[order],
        place=_places(row)[order],
        reason=np.full(len(order), -1),
    )


def _places(row: Index) -> Index:
    """How many quotes of the same row of the file stand before each, [quote]."""
    by_row = np.argsort(row, kind="stable")
    places = np.empty(len(row), np.int64)
    places[by_row] = np.arange(len(row)) - np.searchsorted(row[by_row], row[by_row])
    return places


def _rate_unit(name: str, source: Columns, params: QuotesParams) -> str | None:
    """The unit of a column of rates; each is judged by itself, as what one shows is not the unit of the other."""
    column = getattr(params.columns, name)
    if params.rate_unit is not None or column is None or column not in source:
        return params.rate_unit
    if source.in_percent(column):  # as Excel shows a decimal
        return "decimal"
    return "percent" if source.has_percent_signs(column) or says_percent(column) else None


def _wanted(params: QuotesParams, source: Columns, rate_units: Mapping[str, str | None]) -> dict[str, Wanted]:
    """The columns of the file that the settings name, with the units of those of rates.

    Raises:
        InputError: two of them are one column; a time may be date, snapshot and quoted_at.
    """
    names = {key: name for key, name in params.columns.model_dump().items() if name is not None}
    file_names = source.names
    names = layouts.parts(names, params, file_names)
    keys: dict[str, str] = {}
    for key, name in names.items():
        if key not in TIMES and keys.setdefault(name, key) != key:
            several = f"; of several columns {name} name {name}[1] and {name}[2]" if file_names.count(name) > 1 else ""
            raise InputError(f"params.yaml: prepare.quotes.columns: {keys[name]} and {key} are both {name}{several}")
    names |= {f"{_CONDITION}{key}": name for key, name in params.conditions.items()}
    clocks = {
        f"{key}.offset": Wanted(names[key], "offset", params.date_format_of(key))
        for key, kind in _KINDS.items()
        if kind == "instant" and key in names
    }
    units = ((VOLS, params.vol_unit), (_DELTAS, params.delta_unit))
    percent = {key for keys, unit in units if unit == "percent" for key in keys}
    percent |= {name for name, unit in rate_units.items() if unit == "percent"}
    return {
        key: Wanted(name, _KINDS.get(key, "number"), params.date_format_of(key), percent=key.split(".")[0] in percent)
        for key, name in names.items()
    } | clocks


def _check_shown_percent(
    source: Columns, wanted: Mapping[str, Wanted], found: Mapping[str, Array], params: QuotesParams
) -> None:
    """Raise InputError where Excel shows a column in percent, so that 1.2 is 120 %, and the settings say 1.2 %."""
    units = dict.fromkeys(VOLS, ("vol_unit", params.vol_unit)) | dict.fromkeys(RATES, ("rate_unit", params.rate_unit))
    for key, column in wanted.items():
        setting, unit = units.get(key.split(".")[0], ("", None))
        if unit in (None, "decimal") or not source.in_percent(column.column):
            continue
        median = float(np.nanmedian(np.abs(found[key]))) if np.isfinite(found[key]).any() else np.inf
        if median <= MEDIAN_VOL.high:
            raise InputError(
                f"{params.path}: column {column.column}: Excel shows {median:.6g} as {100.0 * median:.6g} %, so "
                f"that it is decimal; leave prepare.quotes.{setting}: {unit} out, or format the column as plain numbers"
            )


def _canonical(found: dict[str, Array], params: QuotesParams) -> dict[str, Array]:
    """The columns of a table from those of the file, in its order."""
    values = {key: found[key] for key in (*CARRY, "weight", "volume", "open_interest") if key in found}
    values |= _times(found, params)
    values["tenor"] = quote_tenors.years(found, values["date"], params)
    if "type" in found:
        values["put"] = found["type"]
    values["coordinate"] = _coordinates(found, values, params)
    values |= _quotes(found, params)
    if params.price_unit == "underlying" and "forward" not in found:
        values |= {name: values[name] * found["spot"] for name in ("value", "bid", "ask") if name in values}
    for name, key in (("american", "exercise"), ("quoted_at", "quoted_at")):
        if key in found:
            values[name] = found[key]
    return values


def _times(found: Mapping[str, Array], params: QuotesParams) -> dict[str, Array]:
    """The date of each row and the time of its snapshot."""
    rows = len(next(iter(found.values())))
    if params.date is not None:
        date = np.full(rows, float(day_of(params.date)))
    else:
        date = np.floor(_first(found, "date", "snapshot"))
    return {"date": date, "time": found.get("snapshot", date)}


def _coordinates(found: Mapping[str, Array], values: Mapping[str, Array], params: QuotesParams) -> Array:
    """The strike, strike / spot, k or call delta of each row."""
    if params.columns.by_delta:
        return quote_deltas.call_deltas(found, values, params)
    return _first(found, "strike", "moneyness", "log_moneyness") / params.strike_scale


def _quotes(found: Mapping[str, Array], params: QuotesParams) -> dict[str, Array]:
    """The quote of each row, vols in decimals, with bid and ask where the file has them."""
    unit = 1.0 if params.columns.priced else VOL_UNITS[params.vol_unit]
    if "bid_iv" in found or not any(name in found for name in ("iv", "price")):
        bid, ask = unit * _first(found, "bid_iv", "bid"), unit * _first(found, "ask_iv", "ask")
        return {"bid": bid, "ask": ask, "value": 0.5 * (bid + ask)}
    sides = {name: found[name] for name in ("bid", "ask") if name in found}
    return {"value": unit * _first(found, "iv", "price"), **sides}


def _first(found: Mapping[str, Array], *names: str) -> Array:
    """The first of these columns that the file has."""
    return next(found[name] for name in names if name in found)
