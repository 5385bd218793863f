"""The source quotes: a user's quotes in long form become surfaces on a grid, one a date.

Every row is used, or rejected and counted for one reason. Each surface is made of the rows of its own date.
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
from pipeline.files.csv_tables import write_csv
from pipeline.files.dataset import Dataset
from pipeline.progress import track
from pipeline.settings.prepare import QuotesParams, QuotesPrepare
from pipeline.sources import quote_checks, quote_rows, quote_vols
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import EPOCH, Index, QuoteTable
from vae.pricing import quoted_surface
from vae.surface.grid import Grid

REPORT, REJECTED = "report.json", "rejected.csv"


class Market(NamedTuple):
    """Surfaces of a file of quotes.

    Attributes:
        dates: days since 1970-01-01, increasing, int32 [date].
        iv: Black vols, NaN where no quote is within reach, float64 [date, tenor, node].
        conditions: numbers of the dates by name, NaN where the file has none, float64 [date].
        rejected: number of rows by reason, for all of ``quote_rows.REASONS``.
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
    table = quote_rows.read(params)
    table = quote_checks.checked(table, params)
    table = quote_vols.with_vols(table, params)
    table = quote_checks.check_counts(table, params)
    if not table.kept.any():
        raise InputError(f"{params.path} has no usable quote: {_counts(table.rejected)}")
    surfaces = [(date, iv) for date, iv in _surfaces(table, grid) if not np.isnan(iv).all()]
    if not surfaces:
        raise InputError(f"{params.path}: no quote is within reach of prepare.grid")
    dates, vols = zip(*surfaces, strict=True)
    return Market(
        dates=np.array(dates, np.int32),
        iv=np.stack(vols),
        conditions={key: _by_date(params, table, key, np.array(dates)) for key in params.conditions},
        rejected=table.rejected,
        rejected_rows=table.rejected_rows,
        rows=len(table),
        off_grid=len(np.unique(table["date"][table.kept])) - len(dates),
    )


def write(settings: QuotesPrepare, folder: Path) -> dict[str, float | str]:
    """Write splits, grid, report and list of rejected rows to a folder; flat figures of the data."""
    grid, data = settings.grid.build(), Dataset(folder)
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
        data.write_surfaces(split, torch.from_numpy(iv).float(), torch.from_numpy(dates), conditions)
        figures[f"{split}_surfaces"] = len(iv)
        if len(iv):
            figures[f"{split}_filled_rate"] = float(np.isfinite(iv).mean())
            periods[split] = [_iso(dates[0]), _iso(dates[-1])]
    data.write_grid(grid)
    write_csv(folder / REJECTED, ("row", "reason"), market.rejected_rows)
    filled = np.isfinite(market.iv).mean(0).tolist()
    report = {"path": settings.quotes.path, "periods": periods, **figures, "filled_rate_by_tenor_and_node": filled}
    formats.write_json(folder / REPORT, report)
    return figures


def _surfaces(table: QuoteTable, grid: Grid) -> Iterator[tuple[int, Array]]:
    """Date and surface of each date, in order."""
    row = table.kept_rows
    dates = np.split(row, np.flatnonzero(table.starts(row, ("date",)))[1:])
    for own in track(dates, total=len(dates), label="prepare", note=lambda own: _iso(table["date"][own[0]])):
        expiries = np.split(own, np.flatnonzero(table.starts(own, ("tenor",)))[1:])
        smiles = [_smile(table, expiry) for expiry in expiries]
        yield int(table["date"][own[0]]), quoted_surface.surface(smiles, grid)


def _smile(table: QuoteTable, row: Index) -> quoted_surface.Smile:
    """The smile of the rows of one expiry."""
    return quoted_surface.smile(float(table["tenor"][row[0]]), table["k"][row], table["vol"][row], table["weight"][row])


def _by_date(params: QuotesParams, table: QuoteTable, key: str, dates: Array) -> Array:
    """A condition on each of ``dates``, NaN where no row of the date has it; the row of a rejected quote may.

    Raises:
        InputError: it is nowhere a number, or rows of one date differ.
    """
    name = params.conditions[key]
    day, value = table["date"], table.conditions[key]
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
    nearest = np.minimum(np.searchsorted(pairs[0], dates), pairs.shape[1] - 1)
    return np.where(pairs[0, nearest] == dates, pairs[1, nearest], np.nan)


def _counts(rejected: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count)


def _iso(day: float) -> str:
    return (EPOCH + dt.timedelta(days=int(day))).isoformat()
