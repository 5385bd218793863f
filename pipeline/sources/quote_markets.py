"""Rows of one date that cannot be one market: two spots or forwards, options quoted twice, no parity line.

A surface of two tickers, roots or snapshots is nobody's. Such a file is refused with the columns that tell them apart.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, listed
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.groups import labels, medians
from pipeline.sources.quote_rows import EXPIRY, SURFACE, Index, QuoteTable, iso_if_dated

Mask = NDArray[np.bool_]

_COLUMNS = "prepare.quotes.columns"
_ROUNDING = 0.005  # of spots and forwards that are one
_LARGEST_MOVE = 0.25  # of a spot in a day, where the times of the quotes are known
_LARGEST_CARRY = 0.25  # of a forward from the middle one of its date
_FEWEST_FORWARDS = 3  # expiries of a date, which show that a spot is one forward each, and not two markets
_ODD_ROWS = 0.05  # most rows with another spot or forward that are single faults
_ODD_ROWS_OF_GROUP = 0.25
_PARITY = 0.1  # of the forward: further off its parity line a pair is of another market
_ODD_PAIRS = 0.1
_JUMP = 0.05  # of a vol off the line between its neighbours; the upper quartile of a real chain is 0.005
_PRICE_NOISE = 2e-4  # of the forward: what a jump must be worth, as prices are rounded
_JUMPS = 0.25  # of the vols of a smile
_FEWEST_POINTS = 8  # between neighbours, of a smile that is looked at
_FEWEST_ROWS = 2  # of a market at a time: a column that splits further names options
_MOST_VALUES = 20_000  # of a column that tells markets apart
_TYPES = {"c", "p", "call", "put", "calls", "puts", "ce", "pe"}


class Conflict(NamedTuple):
    """Values that must be equal in a group but are not.

    Attributes:
        row: rows of the table.
        group: of each row.
        value: of each row.
        tolerance: relative to the median of the group.
    """

    row: Index
    group: Index
    value: Array
    tolerance: float

    @property
    def odd(self) -> Mask:
        """Rows that are off the median of their group, [len(row)]."""
        return np.abs(self.value / medians(self.group, self.value)[self.group] - 1.0) > self.tolerance

    def within(self, code: Index) -> "Conflict":
        """The same with groups split by a code of each row."""
        return self._replace(group=labels(self.group, code))


class Zigzag(NamedTuple):
    """Vols along the smiles of a file.

    Attributes:
        row: rows of the table.
        group: the smile of each row.
        k: of each row.
        vol: of each row.
        shown: whether a jump of the vol is more than rounding of the price, of each row.
    """

    row: Index
    group: Index
    k: Array
    vol: Array
    shown: Mask

    @property
    def odd(self) -> Mask:
        """Rows in smiles of which a quarter of the vols are off the line between their neighbours, [len(row)]."""
        order = np.lexsort((self.k, self.group))
        group, k, vol = (values[order] for values in (self.group, self.k, self.vol))
        (inner,) = np.nonzero((group[2:] == group[:-2]) & (k[2:] > k[:-2]) & self.shown[order][1:-1])
        low, middle, high = inner, inner + 1, inner + 2
        weight = (k[middle] - k[low]) / (k[high] - k[low])
        line = (1.0 - weight) * vol[low] + weight * vol[high]
        off = np.abs(vol[middle] / line - 1.0) > _JUMP
        smiles = group[-1] + 1 if len(group) else 0
        points, jumps = np.bincount(group[middle], minlength=smiles), np.bincount(group[middle], off, smiles)
        rough = (points >= _FEWEST_POINTS) & (jumps > _JUMPS * points)
        return np.asarray(rough[self.group])

    def within(self, code: Index) -> "Zigzag":
        """The same with smiles split by a code of each row."""
        return self._replace(group=labels(self.group, code))


def check_smiles(table: QuoteTable, params: QuotesParams) -> None:
    """Raise InputError where too many smiles jump up and down from strike to strike, as those of two markets do.

    Args:
        table: the quotes, with k and vol.
        params: settings.
    """
    row = table.kept_rows
    k, vol, tenor = (table[name][row] for name in ("k", "vol", "tenor"))
    total_vol = vol * np.sqrt(tenor)
    vega = total_vol * np.exp(-0.5 * (0.5 * total_vol - k / total_vol) ** 2) / np.sqrt(2.0 * np.pi)
    zigzag = Zigzag(row, np.cumsum(table.starts(row, EXPIRY)) - 1, k, vol, _JUMP * vega > _PRICE_NOISE)
    odd = zigzag.odd
    smiles = len(np.unique(zigzag.group[odd]))
    if smiles <= params.max_arbitrage * (zigzag.group.max(initial=-1) + 1):
        return
    raise InputError(
        f"{params.path}: in {smiles:,} smiles vols jump up and down from strike to strike by more than {_JUMP:.0%}, "
        f"which is no smile of one market at one time; {_remedy(table, params, zigzag)}"
    )


def check_levels(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table without single rows of another spot or forward.

    Raises:
        InputError: a time of a market has two spots, or an expiry two forwards, beyond rounding. Where the time of
            each quote is known, the spot may move.
    """
    for name, keys in (("spot", SURFACE), ("forward", EXPIRY)):
        if name not in table:
            continue
        row = table.kept_rows
        whole = Conflict(row, np.cumsum(table.starts(row, keys)) - 1, table[name][row], _ROUNDING)
        if "quoted_at" in table:
            conflict = whole.within(labels(table["quoted_at"][row]))
            odd = conflict.odd | whole._replace(tolerance=_LARGEST_MOVE).odd
        else:
            conflict, odd = whole, whole.odd
        if _are_single_faults(odd, whole.group):
            table = table.reject(f"{name}_differs", row[odd])
            continue
        column = getattr(params.columns, name)
        expiries = whole.within(labels(table["tenor"][row]))
        if name == "spot" and not expiries.odd.any() and (np.bincount(expiries.group) > 1).all():
            _refuse_forwards(table, params, whole, expiries)
        _refuse(table, params, whole, odd, f"column {column} holds")
    return table


def _refuse_forwards(table: QuoteTable, params: QuotesParams, spots: Conflict, expiries: Conflict) -> None:
    """Raise InputError for spots that are one number for each expiry: forwards, or markets of one expiry each.

    Args:
        table: the quotes.
        params: settings.
        spots: of each date.
        expiries: the same within each expiry.
    """
    several = expiries.group.max() + 1 >= _FEWEST_FORWARDS * (spots.group.max() + 1)
    near = not spots._replace(tolerance=_LARGEST_CARRY).odd.any()
    told = [name for name in _telling_columns(table, params, spots) if not _is_number(table, name)]
    if several and near and not told:
        raise InputError(
            f"{params.path}: column {params.columns.spot} holds another number for each expiry, as forwards do; name "
            f"it {_COLUMNS}.forward"
        )
    forwards = f"; or, where they are forwards, name the column {_COLUMNS}.forward"
    _refuse(table, params, spots, spots.odd, f"column {params.columns.spot} holds", forwards)


def check_conflicts(table: QuoteTable, params: QuotesParams, row: Index, option: Index, disagree: Mask) -> None:
    """Raise InputError where too many options are quoted at different levels at one time.

    Args:
        table: the quotes.
        params: settings.
        row: rows of the table.
        option: the option of each of them.
        disagree: which of them belong to an option that is quoted at different levels.
    """
    if not disagree.any() or disagree.mean() <= params.max_conflicting:
        return
    conflict = Conflict(row, option, table["value"][row], 0.0)
    share = f"{disagree.sum():,} of {len(row):,} quotes are of an option that is quoted again at another level:"
    _refuse(
        table, params, conflict, disagree, share, f" (prepare.quotes.max_conflicting is {params.max_conflicting:g})"
    )


def check_parity(table: QuoteTable, params: QuotesParams, call: Index, expiry: Index, forward: Array) -> None:
    """Raise InputError where many pairs of call and put lie on no one parity line of their expiry.

    Args:
        table: the quotes.
        params: settings.
        call: the row of each pair's call.
        expiry: of each pair.
        forward: K + (C - P) / D of each pair, which is the forward of its expiry.
    """
    conflict = Conflict(call, expiry, forward, _PARITY)
    if conflict.odd.mean() > _ODD_PAIRS:
        _refuse(table, params, conflict, conflict.odd, "pairs of call and put give the forwards")


def _are_single_faults(odd: Mask, group: Index) -> bool:
    """Whether odd rows are few in all and in each group."""
    size = np.bincount(group)
    few = np.bincount(group, odd) <= np.maximum(1.0, _ODD_ROWS_OF_GROUP * size)
    alone = (size > 2) | (np.bincount(group, odd) == 0)
    return bool(odd.sum() <= max(1.0, _ODD_ROWS * len(odd)) and (few & alone).all())


def _refuse(table: QuoteTable, params: QuotesParams, conflict: Conflict, odd: Mask, what: str, more: str = "") -> None:
    """Raise InputError that shows two values of one group, and names the columns that would split them."""
    at = int(np.argmax(odd))
    own = conflict.value[conflict.group == conflict.group[at]]
    other = own[np.abs(own / conflict.value[at] - 1.0).argmax()]
    day = iso_if_dated(table["date"][conflict.row[at]])
    when = f" on {day}" if day else ""
    values = f"{min(conflict.value[at], other):.6g} and {max(conflict.value[at], other):.6g}{when}"
    raise InputError(
        f"{params.path}: {what} {values}, which cannot be one market at one time; {_remedy(table, params, conflict)}"
        + more
    )


def _remedy(table: QuoteTable, params: QuotesParams, conflict: Conflict | Zigzag) -> str:
    """The columns of the file that tell the markets or snapshots apart, as settings."""
    names = _telling_columns(table, params, conflict)
    names = [name for name in names if not _is_number(table, name)] or names
    if not names:
        return (
            "no column of the file tells them apart: add one and name it in prepare.quotes.columns.market, or leave "
            "rows out by prepare.quotes.drop_where"
        )
    return "name the column that tells them apart: " + "; or ".join(_setting(table, params, name) for name in names)


def _telling_columns(table: QuoteTable, params: QuotesParams, conflict: Conflict | Zigzag) -> list[str]:
    """Columns of the file whose values split a conflict."""
    return [name for name in _other_columns(table, params) if _splits(table, conflict, name)]


def _other_columns(table: QuoteTable, params: QuotesParams) -> list[str]:
    """Columns that the settings do not use, and that of the dates, which may have times of day."""
    columns = params.columns.model_dump(exclude={"date"})
    used = {name.strip().casefold() for name in columns.values() if name is not None}
    source = table.source
    names = [name for name in source.names if name.casefold() not in used and source.names.count(name) == 1]
    return [name for name in names if not source.is_measured(name)]


def _splits(table: QuoteTable, conflict: Conflict | Zigzag, name: str) -> bool:
    """Whether the values of a column split the conflict, without splitting single options off."""
    try:
        codes, values = table.source.texts(name)
    except InputError:  # lists, which name nothing
        return False
    if not 2 <= len(values) <= _MOST_VALUES:
        return False
    code = codes[table.order]
    rows = table.kept_rows
    if not np.isfinite(code[rows]).all():
        return False
    surfaces = labels(*(table[key][rows] for key in SURFACE), code[rows]).max() + 1
    if surfaces * _FEWEST_ROWS > len(rows):
        return False
    split = conflict.within(code[conflict.row].astype(np.int64))
    return bool(split.odd.sum() <= _ODD_PAIRS * conflict.odd.sum())


def _is_number(table: QuoteTable, name: str) -> bool:
    try:
        table.source.numbers(name)
    except InputError:
        return False
    return True


def _setting(table: QuoteTable, params: QuotesParams, name: str) -> str:
    """The setting under which a column belongs, by its values."""
    values = table.source.texts(name).values
    prefix, shown = _COLUMNS, f"{name} ({listed(values)})"
    if {value.lower() for value in values} <= _TYPES:
        return f"{prefix}.type: {shown}"
    try:
        moments = table.source.instants(name)
    except InputError:
        return f"{prefix}.market: {shown}"
    if params.columns.date == name and (np.floor(moments) == moments).all():
        return f"{prefix}.market: {shown}"
    return (
        f"{prefix}.snapshot: {shown}, for a surface at each time, or {prefix}.quoted_at: {name}, for the latest quote "
        "of each option"
    )
