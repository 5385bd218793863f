"""Whether the quotes of each market reach the grid that all of them share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError, listed
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import Index, QuoteTable
from vae.surface.grid import Grid
from vae.surface.normal import normal_cdf
from vae.surface.units import DAYS_PER_YEAR

_LEAST_SHARE = 0.5  # of the filled share of the best market: below it, markets do not share a grid
_MIDDLE = (5.0, 95.0)  # percentiles of the rows between which a market is quoted


class Reach(NamedTuple):
    """Where a market is quoted: nearly all of its rows lie between these tenors, years, and these nodes."""

    tenors: tuple[float, float]
    nodes: tuple[float, float]


def check(table: QuoteTable, params: QuotesParams, grid: Grid, first: Index, iv: Sequence[Array]) -> None:
    """Raise InputError where no quote, or no quote of a market, reaches the grid, or a market far less than others.

    Args:
        table: the quotes, with k and vol.
        params: settings.
        grid: of the surfaces.
        first: a row of each surface.
        iv: vols of each surface, [tenor, node].
    """
    row = table.kept_rows
    of_surface = table["market"][first]
    filled = np.array([np.isfinite(vols).mean() for vols in iv])
    shares = {
        market: float(filled[of_surface == market].mean()) if (of_surface == market).any() else 0.0
        for market in np.unique(table["market"][row]).astype(int).tolist()
    }
    poor = [market for market, share in shares.items() if share < _LEAST_SHARE * max(shares.values()) or share == 0.0]
    if not poor:
        return
    reaches = {market: _reach(table, grid, row[table["market"][row] == market]) for market in shares}
    if len(poor) == len(shares):
        raise InputError(
            f"{params.path}: no quote is within reach of prepare.grid, which has {_text(_grid_reach(grid))}; the "
            f"quotes have {_text(next(iter(reaches.values())))}"
        )
    worst, best = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    others = [table.markets[market] for market in shares if market not in poor]
    column, names = params.columns.market, [table.markets[market] for market in poor]
    without = f"markets: [{', '.join(others)}]"
    if len(poor) < len(others):
        without = "drop_where: [" + ", ".join(f'"{column} == {name}"' for name in names) + "]"
    raise InputError(
        f"{params.path}: the markets cannot share prepare.grid: the quotes of {table.markets[worst]} fill "
        f"{100.0 * shares[worst]:.0f} % of it, those of {table.markets[best]} {100.0 * shares[best]:.0f} %. "
        f"{table.markets[worst]} has {_text(reaches[worst])}; {table.markets[best]} has {_text(reaches[best])}. "
        f"Leave {listed(names)} out by prepare.quotes.{without}, or {_common(list(reaches.values()))}"
    )


def _reach(table: QuoteTable, grid: Grid, row: Index) -> Reach:
    """Where rows are quoted, in the nodes of the grid."""
    tenor, k, vol = table["tenor"][row], table["k"][row], table["vol"][row]
    nodes = k / np.sqrt(tenor) if grid.convention == "sqrt_time" else k
    if grid.convention == "delta":
        total_vol = vol * np.sqrt(tenor)
        nodes = normal_cdf(0.5 * total_vol - k / total_vol)
    return Reach(_ends(tenor), _ends(nodes))


def _ends(values: Array) -> tuple[float, float]:
    low, high = np.percentile(values, _MIDDLE).tolist()
    return low, high


def _grid_reach(grid: Grid) -> Reach:
    return Reach((float(grid.tenors[0]), float(grid.tenors[-1])), (float(grid.nodes[0]), float(grid.nodes[-1])))


def _text(reach: Reach) -> str:
    low, high = (DAYS_PER_YEAR * tenor for tenor in reach.tenors)
    return f"tenors of {low:.4g} to {high:.4g} days and nodes of {reach.nodes[0]:.3g} to {reach.nodes[1]:.3g}"


def _common(reaches: Sequence[Reach]) -> str:
    """The grid that all markets reach, as advice."""
    ends = [(max(low for low, _ in sides), min(high for _, high in sides)) for sides in zip(*reaches, strict=True)]
    if any(low >= high for low, high in ends):
        return "train a model of each: no grid suits all"
    return f"set prepare.grid to {_text(Reach(*ends))}, which all reach"
