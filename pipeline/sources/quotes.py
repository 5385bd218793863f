"""The source quotes of the stage prepare: a user's quotes in long form as surfaces on a grid, one a date.

Every row is used, or rejected and counted for one reason; each date is made of its own rows.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files import formats
from pipeline.files.atomic import write_csv
from pipeline.progress import track
from pipeline.settings.params import QuotesParams, QuotesPrepare
from pipeline.sources.columns import Array, Columns
from vae.pricing import quoted_surface
from vae.surface.grid import Grid, log_moneyness_of_delta

REPORT, REJECTED = "report.json", "rejected.csv"
REASONS = (
    "flagged",
    "american",
    "missing_value",
    "missing_bid",
    "missing_ask",
    "expired",
    "strike_not_positive",
    "forward_not_positive",
    "rate_above_1",
    "delta_not_inside_0_1",
    "weight_not_positive",
    "quoted_after_date",
    "stale",
    "crossed",
    "wide",
    "vol_not_positive",
    "vol_above_max",
    "duplicate",
    "merged",
    "conflicting",
    "no_forward",
    "in_the_money",
    "price_outside_bounds",
    "too_few_points",
)
_DAYS_PER_YEAR = 365.0  # ACT/365
_EPOCH = dt.date(1970, 1, 1)
_CALLS, _PUTS = ("call", "c"), ("put", "p")
_MARKET = ("forward", "spot", "rate", "dividend_yield")
_PLACES = ("strike", "moneyness", "log_moneyness", "call_delta")
_KEY = ("date", "tenor", "place", "put")
_QUOTE = ("value", "bid", "ask", *_MARKET)
_PERCENT = 0.01
_LOWEST_VOL = 1e-6  # of a smile that reaches 1 its square would be rounding
_HIGHEST_MEDIAN = 2.0  # vol: above it, decimals are percent
_TENOR_DIGITS = 9  # decimals of a year: rounding must not split an expiry
_EXPONENTS = (-50.0, 50.0)  # of growth factors: a senseless tenor must not overflow

Mask = NDArray[np.bool_]
Index = NDArray[np.int64]


class Market(NamedTuple):
    """Surfaces of a file of quotes.

    Attributes:
        dates: days since 1970-01-01, increasing, int32 [date].
        iv: Black vols, NaN where no quote is within reach, float64 [date, tenor, node].
        conditions: numbers of the dates by name, NaN where the file has none, float64 [date].
        rejected: rows by reason, all of ``REASONS``.
        rejected_rows: rows of the file, counted from 1, in order, with their reason.
        rows: of the file.
        off_grid: dates whose quotes reach no point of the grid; they have no surface.
    """

    dates: NDArray[np.int32]
    iv: Array
    conditions: dict[str, Array]
    rejected: dict[str, int]
    rejected_rows: list[tuple[int, str]]
    rows: int
    off_grid: int


def read(params: QuotesParams, grid: Grid) -> Market:
    """The surfaces of a file.

    Raises:
        InputError: the file cannot be read, lacks a column or has one of a wrong type, or no row is usable.
    """
    source = Columns.read(Path(params.path))
    rows = _Rows.read(params, source)
    _check_rows(rows, params)
    _check_duplicates(rows)
    _add_vols(rows, params)
    _check_counts(rows, params)
    if not rows.kept.any():
        raise InputError(f"{params.path} has no usable quote: {_counts(rows.rejected)}")
    surfaces = [(date, iv) for date, iv in _surfaces(rows, grid) if not np.isnan(iv).all()]
    if not surfaces:
        raise InputError(f"{params.path}: no quote is within reach of prepare.grid")
    dates, vols = zip(*surfaces, strict=True)
    return Market(
        dates=np.array(dates, np.int32),
        iv=np.stack(vols),
        conditions={key: _by_date(params, source, key, np.array(dates)) for key in params.conditions},
        rejected=rows.rejected,
        rejected_rows=rows.rejected_rows,
        rows=len(rows.kept),
        off_grid=len(np.unique(rows["date"][rows.kept])) - len(dates),
    )


def write(settings: QuotesPrepare, folder: Path) -> dict[str, float | str]:
    """Write splits, grid, report and list of rejected rows to a folder; flat figures of the data."""
    grid = settings.grid.build()
    market = read(settings.quotes, grid)
    figures: dict[str, float | str] = {
        "sha256": formats.sha256(formats.read_bytes(Path(settings.quotes.path))),
        "quotes": market.rows,
        "quotes_used": market.rows - len(market.rejected_rows),
        "dates": len(market.dates),
        "dates_off_grid": market.off_grid,
        "median_vol": float(np.nanmedian(market.iv)),
        **{f"rejected_{reason}": count for reason, count in market.rejected.items()},
    }
    periods = {}
    for split, stretch in settings.quotes.splits.stretches(len(market.dates)).items():
        dates, iv = market.dates[stretch], market.iv[stretch]
        conditions = {name: torch.from_numpy(values[stretch]) for name, values in market.conditions.items()}
        path = folder / f"{split}.safetensors"
        formats.write_dated(path, torch.from_numpy(iv).float(), torch.from_numpy(dates), conditions)
        figures[f"{split}_surfaces"] = len(iv)
        if len(iv):
            figures[f"{split}_filled_rate"] = float(np.isfinite(iv).mean())
            periods[split] = [_iso(dates[0]), _iso(dates[-1])]
    formats.write_json(folder / formats.GRID, grid.to_dict())
    write_csv(folder / REJECTED, ("row", "reason"), market.rejected_rows)
    filled = np.isfinite(market.iv).mean(0).tolist()
    report = {"path": settings.quotes.path, "periods": periods, **figures, "filled_rate_by_tenor_and_node": filled}
    formats.write_json(folder / REPORT, report)
    return figures


class _Rows:
    """The rows of a file in an order that does not depend on the file's, and why rows are rejected.

    Arrays by name: date (days since 1970-01-01), tenor (years), place (strike, strike / spot, k or delta), value (the
    mid), and where the file has them forward, spot, rate, dividend_yield, bid, ask, put (1 or 0), weight, quoted_at.
    """

    def __init__(self, values: dict[str, Array]) -> None:
        self.weighted = "weight" in values
        values = {"weight": np.ones(len(values["date"])), **values}
        names = [*_KEY, "quoted_at", *_QUOTE, *values]
        keys = [values[name] for name in dict.fromkeys(names) if name in values]
        self._order = np.lexsort(keys[::-1])
        self._values = {name: value[self._order] for name, value in values.items()}
        self._reason = np.full(len(self._order), -1)

    @classmethod
    def read(cls, params: QuotesParams, source: Columns) -> "_Rows":
        """All rows of the file."""
        names = _names(params)
        unit = _PERCENT if params.vol_unit == "percent" and not params.columns.priced else 1.0
        values = {key: source.numbers(names[key]) for key in (*_MARKET, "weight") if key in names}
        values["date"] = _dates(params, names, source)
        values["tenor"] = _tenors(names, source, values["date"])
        values["place"] = next(source.numbers(names[key]) for key in _PLACES if key in names)
        sides = [side for key in ("bid_iv", "ask_iv", "bid", "ask") for side in _numbers(source, names, key)]
        if sides:
            values["bid"], values["ask"] = (unit * side for side in sides)
            values["value"] = 0.5 * (values["bid"] + values["ask"])
        else:
            values["value"] = unit * next(source.numbers(names[key]) for key in ("iv", "price") if key in names)
        if "type" in names:
            kind = source.words(names["type"], (*_CALLS, *_PUTS))
            values["put"] = np.where(kind < 0, np.nan, kind >= len(_CALLS))
        if "exercise" in names:
            exercise = source.words(names["exercise"], ("european", "american"))
            values["american"] = np.where(exercise < 0, np.nan, exercise)
        if "quoted_at" in names:
            values["quoted_at"] = source.instants(names["quoted_at"])
        if params.drop_where is not None:
            values["flagged"] = source.flags(params.drop_where).astype(np.float64)
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Array:
        return self._values[name]

    def get(self, name: str, default: float) -> Array:
        """A column, or its value where the file has none."""
        return self._values[name] if name in self else np.full(len(self._reason), default)

    def __setitem__(self, name: str, values: Array) -> None:
        self._values[name] = values

    @property
    def kept(self) -> Mask:
        """Rows that are not rejected, [row]."""
        kept: Mask = self._reason < 0
        return kept

    def reject(self, reason: str, where: Mask) -> None:
        """Reject the rows ``where`` that are not rejected yet."""
        self._reason[where & self.kept] = REASONS.index(reason)

    @property
    def rejected(self) -> dict[str, int]:
        """Rejected rows by reason."""
        counts = np.bincount(self._reason + 1, minlength=len(REASONS) + 1)[1:]
        return dict(zip(REASONS, counts.tolist(), strict=True))

    @property
    def rejected_rows(self) -> list[tuple[int, str]]:
        """Rejected rows of the file, counted from 1, with their reason."""
        reason = np.empty_like(self._reason)
        reason[self._order] = self._reason
        return [(row + 1, REASONS[reason[row]]) for row in np.flatnonzero(reason >= 0).tolist()]


def _names(params: QuotesParams) -> dict[str, str]:
    """The file's name of each canonical column that it has.

    Raises:
        InputError: two of them are one column; a time alone may be both date and quoted_at.
    """
    names = {key: name for key, name in params.columns.model_dump().items() if name is not None}
    keys: dict[str, str] = {}
    for key, name in names.items():
        if key != "quoted_at" and keys.setdefault(name, key) != key:
            raise InputError(f"params.yaml: prepare.quotes.columns: {keys[name]} and {key} are both {name}")
    return names


def _numbers(source: Columns, names: dict[str, str], key: str) -> Iterator[Array]:
    if key in names:
        yield source.numbers(names[key])


def _dates(params: QuotesParams, names: dict[str, str], source: Columns) -> Array:
    """The date of each row, days since 1970-01-01."""
    if params.date is None:
        return source.days(names["date"])
    return np.full(source.rows, float((params.date - _EPOCH).days))


def _by_date(params: QuotesParams, source: Columns, key: str, dates: Array) -> Array:
    """A condition on each of ``dates``, NaN where no row of the date has it; the row of a rejected quote may.

    Raises:
        InputError: it is nowhere a number, or rows of one date differ.
    """
    name = params.conditions[key]
    day, value = _dates(params, _names(params), source), source.numbers(name)
    known = np.isfinite(day) & np.isfinite(value)
    if not known.any():
        raise InputError(f"{params.path}: column {name}, the condition {key}, holds no number")
    pairs = np.unique(np.stack((day[known], value[known])), axis=1)
    differ = np.flatnonzero(np.diff(pairs[0]) == 0.0)
    if len(differ):
        (date, first), (_, second) = pairs.T[differ[0] : differ[0] + 2]
        raise InputError(
            f"{params.path}: column {name}, the condition {key}, is one number a date, "
            f"but holds {first:g} and {second:g} on {_iso(date)}"
        )
    place = np.minimum(np.searchsorted(pairs[0], dates), pairs.shape[1] - 1)
    return np.where(pairs[0, place] == dates, pairs[1, place], np.nan)


def _tenors(names: dict[str, str], source: Columns, dates: Array) -> Array:
    """The tenor of each row, years."""
    if "tenor_years" in names:
        return source.numbers(names["tenor_years"]).round(_TENOR_DIGITS)
    days = source.numbers(names["days"]) if "days" in names else source.days(names["expiry"]) - dates
    return days / _DAYS_PER_YEAR


def _check_rows(rows: _Rows, params: QuotesParams) -> None:
    """Reject what a row shows by itself."""
    rows.reject("flagged", rows.get("flagged", 0.0) == 1.0)
    american = rows.get("american", 0.0) == 1.0
    if american.all():
        raise InputError(f"{params.path}: all {len(american)} options are american; allowed: european ones")
    rows.reject("american", american)
    for name in (*_KEY, *_MARKET, "weight", "american", "quoted_at"):
        rows.reject("missing_value", ~np.isfinite(rows.get(name, 0.0)))
    if "bid" in rows:
        for side in ("bid", "ask"):
            rows.reject(f"missing_{side}", ~np.isfinite(rows[side]) | (rows[side] == 0.0))
    rows.reject("missing_value", ~np.isfinite(rows["value"]))
    rows.reject("expired", rows["tenor"] <= 0.0)
    _check_places(rows, params)
    rows.reject("weight_not_positive", rows["weight"] <= 0.0)
    age = rows["date"] - np.floor(rows.get("quoted_at", 0.0))
    if "quoted_at" in rows:
        rows.reject("quoted_after_date", age < 0.0)
    if params.max_age_days is not None:
        rows.reject("stale", age > params.max_age_days)
    _check_levels(rows, params)


def _check_places(rows: _Rows, params: QuotesParams) -> None:
    """Reject strikes, deltas, forwards and rates that cannot be."""
    if params.columns.strike is not None or params.columns.moneyness is not None:
        rows.reject("strike_not_positive", rows["place"] <= 0.0)
    if params.columns.call_delta is not None:
        rows.reject("delta_not_inside_0_1", (rows["place"] <= 0.0) | (rows["place"] >= 1.0))
    for name in ("forward", "spot"):
        rows.reject("forward_not_positive", rows.get(name, 1.0) <= 0.0)
    for name in ("rate", "dividend_yield"):
        rows.reject("rate_above_1", np.abs(rows.get(name, getattr(params, name))) > 1.0)


def _check_levels(rows: _Rows, params: QuotesParams) -> None:
    """Reject prices or vols that no market shows, as far as a row alone tells."""
    bid, ask = rows.get("bid", np.nan), rows.get("ask", np.nan)
    rows.reject("crossed", bid > ask)
    if params.max_relative_spread is not None:
        rows.reject("wide", ask - bid > params.max_relative_spread * rows["value"])
    lowest = np.fmin(bid, rows["value"])
    if params.columns.priced:
        rows.reject("price_outside_bounds", lowest <= 0.0)
    else:
        _check_unit(rows["value"][rows.kept], params)
        rows.reject("vol_not_positive", lowest < _LOWEST_VOL)
        rows.reject("vol_above_max", rows["value"] > params.max_vol)


def _check_unit(vols: Array, params: QuotesParams) -> None:
    """Raise InputError for vols in percent that are said to be decimals."""
    median = float(np.median(vols)) if len(vols) else 0.0
    if params.vol_unit == "decimal" and median > _HIGHEST_MEDIAN:
        raise InputError(
            f"{params.path}: the median vol {median:g} is {median / _PERCENT:g} percent; "
            "for vols in percent set prepare.quotes.vol_unit: percent"
        )


def _check_duplicates(rows: _Rows) -> None:
    """Of several quotes of an option on a date keep the latest; where these disagree their weighted mean, or none."""
    row = np.flatnonzero(rows.kept)
    start = _starts(rows, row, _KEY)
    option = np.cumsum(start) - 1
    last = np.append(np.flatnonzero(start)[1:], len(row)) - 1
    final = row[last[option]]
    latest = rows["quoted_at"][row] == rows["quoted_at"][final] if "quoted_at" in rows else np.ones(len(row), bool)
    same = np.all([rows[name][row] == rows[name][final] for name in _QUOTE if name in rows], axis=0)
    disagree = np.bincount(option, latest & ~same)[option] > 0
    rows.reject("duplicate", _mask(rows, row[~(latest & disagree) & (row != final)]))
    if rows.weighted:
        _merge(rows, row[latest & disagree], final[latest & disagree])
        rows.reject("merged", _mask(rows, row[disagree & (row != final)]))
    else:
        rows.reject("conflicting", _mask(rows, row[disagree]))


def _merge(rows: _Rows, row: Index, final: Index) -> None:
    """Give rows ``final`` the weighted mean of the rows that they stand for, [len(row)]."""
    keep, option = np.unique(final, return_inverse=True)
    weight = rows["weight"][row]
    total = np.bincount(option, weight)
    for name in _QUOTE:
        if name in rows:
            rows[name][keep] = np.bincount(option, weight * rows[name][row]) / total
    rows["weight"][keep] = total


def _add_vols(rows: _Rows, params: QuotesParams) -> None:
    """Add k and vol to the rows by what they quote, and reject those that have none or one that is not needed."""
    columns = params.columns
    tenor = np.where(rows.kept, rows["tenor"], 1.0)
    rows["vol"] = rows["value"]
    pairs = _pairs(rows)
    discount = np.exp(np.clip(-rows.get("rate", params.rate) * tenor, *_EXPONENTS))
    if columns.log_moneyness is not None:
        rows["k"] = rows["place"]
    elif columns.call_delta is not None:
        delta = np.where(rows.kept, rows["place"], 0.5)
        rows["k"] = log_moneyness_of_delta(delta, rows["vol"] * np.sqrt(tenor))
    else:
        strike = rows["place"] * (rows["spot"] if columns.moneyness is not None else 1.0)
        forward = _carried(rows, params, tenor, discount)
        if columns.priced and columns.forward is None:
            _apply_parity(rows, strike, pairs, forward, discount)
        rows.reject("no_forward", ~(forward > 0.0))
        rows["k"] = np.log(np.where(rows.kept, strike, 1.0) / np.where(rows.kept, forward, 1.0))
    call, put = pairs.T
    rows.reject("in_the_money", _mask(rows, np.where(rows["k"][call] >= 0.0, put, call)))
    if columns.priced:
        row = np.flatnonzero(rows.kept)
        price = rows["value"][row] / discount[row] / forward[row]
        rows["vol"] = np.full(len(tenor), np.nan)
        rows["vol"][row] = quoted_surface.implied_vols(rows["k"][row], price, tenor[row], call=rows["put"][row] == 0.0)
        rows.reject("price_outside_bounds", ~(rows["vol"] >= _LOWEST_VOL))
        rows.reject("vol_above_max", rows["vol"] > params.max_vol)


def _pairs(rows: _Rows) -> Index:
    """Rows of a call and a put at one strike, [pair, 2]; rows are sorted by date, tenor, strike, call before put."""
    row = np.flatnonzero(rows.kept)
    if "put" not in rows:
        return np.zeros((0, 2), np.int64)
    second = np.flatnonzero(~_starts(rows, row, _KEY[:3]))
    return np.stack((row[second - 1], row[second]), axis=1)


def _carried(rows: _Rows, params: QuotesParams, tenor: Array, discount: Array) -> Array:
    """The forward of each row that is quoted or follows from spot, rate and dividend yield; NaN where neither does."""
    if "forward" in rows:
        return rows["forward"].copy()
    dividend = rows.get("dividend_yield", params.dividend_yield)
    return rows.get("spot", np.nan) * np.exp(np.clip(-dividend * tenor, *_EXPONENTS)) / discount


def _apply_parity(rows: _Rows, strike: Array, pairs: Index, forward: Array, discount: Array) -> None:
    """Put the forward and the discount factor of put-call parity in place where an expiry has calls and puts."""
    row = np.flatnonzero(rows.kept)
    expiry = np.full(len(strike), -1)
    expiry[row] = np.cumsum(_starts(rows, row, _KEY[:2])) - 1
    first = np.flatnonzero(np.diff(expiry[pairs[:, 0]], prepend=-1))
    found = np.full((2, expiry.max(initial=-1) + 1), np.nan)
    for call, put in (own.T for own in np.split(pairs, first[1:]) if len(own)):
        difference = rows["value"][call] - rows["value"][put]
        found[:, expiry[call[0]]] = quoted_surface.parity(strike[call], difference, discount=float(discount[call[0]]))
    known = row[~np.isnan(found[0, expiry[row]])]
    forward[known], discount[known] = found[:, expiry[known]]


def _check_counts(rows: _Rows, params: QuotesParams) -> None:
    """Reject dates with too few quotes."""
    row = np.flatnonzero(rows.kept)
    _, date, count = np.unique(rows["date"][row], return_inverse=True, return_counts=True)
    rows.reject("too_few_points", _mask(rows, row[count[date] < params.min_points]))


def _surfaces(rows: _Rows, grid: Grid) -> Iterator[tuple[int, Array]]:
    """Date and surface of each date, in order."""
    row = np.flatnonzero(rows.kept)
    dates = np.split(row, np.flatnonzero(_starts(rows, row, ("date",)))[1:])
    for own in track(dates, total=len(dates), label="prepare", note=lambda own: _iso(rows["date"][own[0]])):
        expiries = np.split(own, np.flatnonzero(_starts(rows, own, ("tenor",)))[1:])
        smiles = [_smile(rows, expiry) for expiry in expiries]
        yield int(rows["date"][own[0]]), quoted_surface.surface(smiles, grid)


def _smile(rows: _Rows, row: Index) -> quoted_surface.Smile:
    """The smile of the rows of one expiry."""
    return quoted_surface.smile(float(rows["tenor"][row[0]]), rows["k"][row], rows["vol"][row], rows["weight"][row])


def _starts(rows: _Rows, row: Index, names: tuple[str, ...]) -> Mask:
    """Where rows, sorted, differ from the row before, [len(row)]; the first does."""
    start = np.zeros(len(row), bool)
    start[:1] = True
    for name in names:
        if name in rows:
            start[1:] |= np.diff(rows[name][row]) != 0.0
    return start


def _mask(rows: _Rows, row: Index) -> Mask:
    mask = np.zeros(len(rows.kept), bool)
    mask[row] = True
    return mask


def _counts(rejected: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count)


def _iso(day: float) -> str:
    return (_EPOCH + dt.timedelta(days=int(day))).isoformat()
