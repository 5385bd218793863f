"""Surfaces of a file for score and arbitrage: a table of surfaces, an array, or quotes as ``prepare`` reads them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from pipeline.cli.quotes_options import ReadingOptions, has_settings, hinted, settings_of
from pipeline.errors import InputError
from pipeline.files import surface_tables
from vae.surface.grid import Grid


class SurfaceFile(NamedTuple):
    """Surfaces iv [surface, tenor, node], NaN where missing, their grid, and of each what is known.

    Attributes:
        iv, grid: the surfaces.
        titles: date and market of each; None where they are not known.
        days: date of each, days since 1970-01-01, [surface]; None likewise.
        conditions: numbers of each by name, [surface].
        markets: names of those that they are of; empty where a file tells none apart.
    """

    iv: NDArray[np.floating]
    grid: Grid
    titles: list[str] | None = None
    days: NDArray[np.integer] | None = None
    conditions: Mapping[str, NDArray[np.float64]] = {}
    markets: tuple[str, ...] = ()


def read(path: Path, given: ReadingOptions, model_grid: Callable[[], Grid], *, any_grid: bool = False) -> SurfaceFile:
    """The surfaces of a file: those of a table on its own grid, others on the model's.

    A file is read as quotes where options or params.yaml say how, or where it is no table of surfaces.

    Args:
        path: the file.
        given: options on how to read quotes.
        model_grid: the grid of the model, which is asked for only where it is needed.
        any_grid: whether a surface with columns of quotes beside it, such as a date, may lie on another grid.

    Raises:
        InputError: the file cannot be read as surfaces or as quotes.
    """
    if path.suffix == ".npy":
        return SurfaceFile(surface_tables.read_array(path, model_grid()), model_grid())
    grid = None if any_grid else model_grid()
    if not has_settings(path, given):
        table = surface_tables.surfaces_of_table(path, grid)
        if table is not None:
            return SurfaceFile(*table)
    from pipeline.sources import quotes
    from pipeline.sources.one_surface import titles

    params, grid = settings_of(path, given), model_grid()
    try:
        found = quotes.read(params, grid)
    except InputError as error:
        raise hinted(error, given) from error
    for assumption in found.assumed:
        click.echo(f"volvae: {assumption}", err=True)
    named, dated = titles(found), found.dates.any()
    days = found.dates if dated else None
    return SurfaceFile(found.iv, grid, named if any(named) else None, days, found.conditions, found.markets)
