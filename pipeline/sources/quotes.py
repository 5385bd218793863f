"""The source quotes: a user's quotes in long form become surfaces on a grid, one for each market and time.

Every row is used, or rejected and counted for one reason. Each surface is made of its own rows only.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files import formats
from pipeline.files.csv_tables import write_csv
from pipeline.files.dataset import REPORT, Dataset
from pipeline.progress import track
from pipeline.settings.prepare import QuotesPrepare
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import (
    quote_assumptions,
    quote_checks,
    quote_exercise,
    quote_reach,
    quote_summary,
    repeated_smiles,
    usable_quotes,
)
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import SURFACE, Index, QuoteTable, iso, iso_if_dated
from pipeline.sources.quoted_surfaces import QuotedSurfaces
from vae.pricing import quoted_surface
from vae.surface.grid import Grid

REJECTED = "rejected.csv"


def read(params: QuotesParams, grid: Grid) -> QuotedSurfaces:
    """The surfaces of a file.

    Raises:
        InputError: the file cannot be read, lacks a column or has one of a wrong type, no row is usable, its numbers
            are in other units than the settings say, or rows of one time are not one market.
    """
    table = read_table(params)
    surfaces = [(row, iv) for row, iv in _surfaces(table, grid) if not np.isnan(iv).all()]
    first = np.array([row for row, _ in surfaces], np.int64)
    quote_reach.check(table, params, grid, first, [iv for _, iv in surfaces])
    markets, market = np.unique(table["market"][first].astype(np.int64), return_inverse=True)
    return QuotedSurfaces(
        dates=table["date"][first].astype(np.int32),
        time=table["time"][first],
        market=market,
        markets=tuple(table.markets[one] for one in markets) if table.markets else (),
        iv=np.stack([iv for _, iv in surfaces]),
        conditions={key: _by_surface(params, table, key, first) for key in params.conditions},
        rejected=table.rejected,
        rejected_rows=table.rejected_rows,
        rows=len(table),
        tenors=np.unique(table["tenor"][table.kept]),
        repeated_smiles=repeated_smiles.counts(table),
        off_grid=int(table.starts(table.kept_rows, SURFACE).sum()) - len(first),
        early_exercise=quote_exercise.differences(table),
        assumed=quote_assumptions.of(table, params),
    )


def read_table(params: QuotesParams) -> QuoteTable:
    """The quotes of a file with k and vol; the others are rejected.

    Raises:
        InputError: as ``read`` does, but for the grid.
    """
    table = quote_checks.check_counts(usable_quotes.read(params), params)
    if not table.kept.any():
        raise InputError(f"{params.path} has no usable quote: {quote_summary.counts(table.rejected)}")
    return table


def surface_of(table: QuoteTable, row: Index, grid: Grid) -> Array:
    """The vols [tenor, node] on a grid of the rows of one surface."""
    expiries = np.split(row, np.flatnonzero(table.starts(row, ("tenor",)))[1:])
    return quoted_surface.surface([_smile(table, expiry) for expiry in expiries], grid)


def write(settings: QuotesPrepare, folder: Path) -> dict[str, float | str]:
    """Write splits, grid, report and list of rejected rows to a folder; flat figures of the data.

    Raises:
        InputError: as ``read`` does, or more rows are rejected or more surfaces have arbitrage than the settings allow.
    """
    params, grid, data = settings.quotes, settings.grid.build(), Dataset(folder)
    surfaces = read(params, grid)
    figures: dict[str, float | str] = {"sha256": formats.sha256(formats.read_bytes(Path(params.path)))}
    figures |= quote_summary.figures(surfaces, grid)
    quote_summary.show(surfaces, grid, figures)
    quote_summary.check_limits(params, surfaces.rejected, figures)
    periods = {}
    for split, own in _splits(params, surfaces.dates).items():
        dates, iv = surfaces.dates[own], surfaces.iv[own]
        data.write_surfaces(
            split,
            iv.astype(np.float32),
            dates,
            {name: values[own] for name, values in surfaces.conditions.items()},
            time=surfaces.time[own] if params.columns.snapshot is not None else None,
            market=surfaces.market[own] if surfaces.markets else None,
        )
        figures[f"{split}_surfaces"] = len(iv)
        if len(iv):
            figures[f"{split}_filled_rate"] = float(np.isfinite(iv).mean())
            periods[split] = [iso(dates[0]), iso(dates[-1])]
    if surfaces.markets:
        data.write_markets(surfaces.markets)
    data.write_grid(grid)
    write_csv(folder / REJECTED, ("row", "reason"), surfaces.rejected_rows)
    filled = np.isfinite(surfaces.iv).mean(0).tolist()
    report = {"path": params.path, "periods": periods, **figures, "filled_rate_by_tenor_and_node": filled}
    formats.write_json(folder / REPORT, report)
    return figures


def _splits(params: QuotesParams, dates: NDArray[np.int32]) -> dict[str, NDArray[np.bool_]]:
    """The surfaces of each split, [surface]; all of one date are in one split."""
    days, day = np.unique(dates, return_inverse=True)
    return {
        split: (day >= (stretch.start or 0)) & (day < stretch.stop)
        for split, stretch in params.splits.stretches(len(days)).items()
    }


def _surfaces(table: QuoteTable, grid: Grid) -> Iterator[tuple[int, Array]]:
    """The first row of each surface, and its vols, in order."""
    row = table.kept_rows
    surfaces = np.split(row, np.flatnonzero(table.starts(row, SURFACE))[1:])
    for own in track(
        surfaces, total=len(surfaces), label="prepare", note=lambda own: iso_if_dated(table["date"][own[0]])
    ):
        yield int(own[0]), surface_of(table, own, grid)


def _smile(table: QuoteTable, row: Index) -> quoted_surface.Smile:
    """The smile of the rows of one expiry."""
    return quoted_surface.smile(float(table["tenor"][row[0]]), table["k"][row], table["vol"][row], table["weight"][row])


def _by_surface(params: QuotesParams, table: QuoteTable, key: str, first: Index) -> Array:
    """A condition of the surfaces of the rows ``first``, NaN where no row of a surface has it.

    The row of a rejected quote may have it.

    Raises:
        InputError: it is nowhere a number, or rows of one surface differ.
    """
    name = params.conditions[key]
    value, keys = table.conditions[key], np.stack([table[key] for key in SURFACE])
    known = np.isfinite(value) & np.isfinite(keys).all(axis=0)
    if not known.any():
        raise InputError(f"{params.path}: column {name}, the condition {key}, holds no number")
    found = np.unique(np.concatenate((keys[:, known], value[None, known])), axis=1)
    differ = np.flatnonzero((np.diff(found[:2]) == 0.0).all(axis=0))
    if len(differ):
        (date, _, low), (_, _, high) = found.T[differ[0] : differ[0] + 2]
        raise InputError(
            f"{params.path}: column {name}, the condition {key}, is one number a surface, "
            f"but holds {low:g} and {high:g} on {iso(date)}"
        )
    numbers = {(time, market): number for time, market, number in found.T.tolist()}
    return np.array([numbers.get(surface, np.nan) for surface in map(tuple, keys[:, first].T.tolist())])
