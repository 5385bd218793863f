"""A surface completed from quotes as one self-contained HTML page, readable on a phone."""

import html
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.report import blocks
from pipeline.report.blocks import Card, Section
from pipeline.report.charts import Axis, Level, Mark, chart, surface
from vae.runtime import Completion
from vae.surface.grid import Grid
from vae.surface.interpolation import smile
from vae.surface.surfaces import Surfaces
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR, Z90

Array = NDArray[np.float64]

_DRAWN = 81  # points of a smile
_MOST_FACES = 24  # of the surface along an axis
_RESIDUALS = 150.0  # height of the chart of residuals
_SAME = 9  # digits in which equal tenors agree


class Quoted(NamedTuple):
    """The quotes, each [quote].

    Attributes:
        iv: decimal Black vols.
        tenor: years.
        k: ln(K/F).
        half_spread: of bid and ask, in vol; NaN where there is none.
    """

    iv: Array
    tenor: Array
    k: Array
    half_spread: Array


def completion_page(title: str, grid: Grid, quoted: Quoted, found: Completion, outcome: Mapping[str, Any]) -> str:
    """The page: whether the quotes fit, the surface, and each quoted smile with its residuals below.

    Args:
        title: date and market; may be empty.
        grid: of the surface.
        quoted: the quotes, also those out of reach.
        found: the completion.
        outcome: its figures, as `volvae complete --json` prints them.
    """
    used = np.flatnonzero(found.used)
    tenors = np.unique(quoted.tenor[used].round(_SAME))
    smiles = [
        _smile(grid, quoted, found, used[quoted.tenor[used].round(_SAME) == tenor], tenor) for tenor in tenors.tolist()
    ]
    content = (
        f"{_verdict(found)}{blocks.cards(_cards(outcome, quoted.half_spread[used]))}"
        f"<h2>The surface</h2>{blocks.charts((_picture(grid, found), _at_the_money(grid, quoted, found, used)))}"
        f"<h2>Quoted smiles</h2>{blocks.charts(smiles)}"
    )
    return blocks.document("volvae: completion", f"surface completed from quotes {title}".strip(), content)


def _verdict(found: Completion) -> str:
    if found.warning is None:
        return (
            '<section class="verdict green"><h2>The quotes fit the model</h2>'
            f"<p>{found.p_value:.0%} of held-out surfaces fit worse from as many points.</p></section>"
        )
    title = "The quotes do not fit the model" if found.outside else "The quotes fit the model, but for some"
    return f'<section class="verdict amber"><h2>{title}</h2><p>{html.escape(found.warning)}</p></section>'


def _cards(outcome: Mapping[str, Any], half_spread: Array) -> Iterable[Card]:
    known = half_spread[np.isfinite(half_spread)]
    out = outcome["quotes"] - outcome["quotes_used"]
    rejected = len(outcome["rejected"])
    unit = " of weight 1" if outcome["quotes_weighted"] else ""
    noise = (
        f"half of bid to ask: {BASIS_POINTS * known.mean():.1f} bp"
        if len(known)
        else f"noise of a quote{unit}: {outcome['quotes_noise_bp']:.1f} bp"
    )
    return (
        Card(
            f"{outcome['quotes_used']:,} of {outcome['quotes']:,}",
            "quotes used",
            "; ".join(text for n, text in ((out, f"{out} out of reach"), (rejected, f"{rejected} rows rejected")) if n),
        ),
        Card(f"{outcome['quotes_mean_error_bp']:.1f} bp", "between quotes and surface, on average", noise),
        Card(
            f"{outcome['median_std_bp']:.1f} bp",
            "standard deviation of a point, median",
            f"at most {outcome['largest_std_bp']:.1f} bp",
        ),
    )


def _picture(grid: Grid, found: Completion) -> Section:
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, _MOST_FACES)).round().astype(int)) for n in grid.shape)
    nodes, tenors = grid.nodes, DAYS_PER_YEAR * grid.tenors
    ends = (
        f"{blocks.node_title(grid)} {nodes[0]:.2g} to {nodes[-1]:.2g}",
        f"tenor {tenors[0]:.0f} to {tenors[-1]:.0f} days",
    )
    drawn = 100.0 * found.iv[np.ix_(rows, columns)].astype(np.float64)
    picture = surface(nodes[columns], tenors[rows], drawn, ends=ends, unit="%", label="The completed surface")
    return Section("Vols", picture, "In colours from low to high.")


def _at_the_money(grid: Grid, quoted: Quoted, found: Completion, used: NDArray[np.intp]) -> Section:
    """The term structure at the forward, with its interval, and where quotes are."""
    tenors = np.linspace(grid.tenors[0], grid.tenors[-1], _DRAWN)
    drawn = [_read(grid, found, float(tenor), np.zeros(1)) for tenor in tenors]
    vol, std = (np.array([100.0 * part[n][0] for part in drawn]) for n in (0, 1))
    marks = [
        Mark(tenors, vol, "90 % interval", "own", "band", vol - Z90 * std, vol + Z90 * std),
        Mark(tenors, vol, "surface", "own"),
    ]
    places = np.unique(quoted.tenor[used])
    quotes = [np.interp(place, tenors, vol) for place in places]
    marks.append(Mark(places, quotes, "quoted tenors", "dark", "dots"))
    picture = chart(marks, Axis("tenor, years"), Axis("vol at the forward, %"), label="Vol at the forward by tenor")
    return Section("At the money", picture, "Where no quote is near, the interval is wide.")


def _smile(grid: Grid, quoted: Quoted, found: Completion, own: NDArray[np.intp], tenor: float) -> Section:
    """The smile at the tenor of some quotes, and below it how far these lie from it."""
    nodes, _ = smile(found.iv, grid, tenor)
    k = np.linspace(nodes[0], nodes[-1], _DRAWN)
    vol, std = (100.0 * part for part in _read(grid, found, tenor, k))
    at, iv, half = quoted.k[own], 100.0 * quoted.iv[own], 100.0 * quoted.half_spread[own]
    wild = found.wild[own]
    bars = np.isfinite(half)
    days = f"{DAYS_PER_YEAR * tenor:.0f} days"
    marks = [Mark(k, vol, "90 % interval", "own", "band", vol - Z90 * std, vol + Z90 * std)]
    marks += _quotes(at, iv, half, wild, bars)
    marks.append(Mark(k, vol, "surface", "own"))
    across = Axis("k = ln(K/F)", holds=(float(k[0]), float(k[-1])))
    drawn = chart(marks, across, Axis("vol, %"), label=f"Smile at {days} with its quotes")
    off = 100.0 * (iv - 100.0 * found.fitted[own])
    rest = chart(
        _quotes(at, off, 100.0 * half, wild, bars, named=False),
        across,
        Axis("bp"),
        levels=[Level(0.0, "")],
        label=f"Quotes less surface at {days}",
        height=_RESIDUALS,
    )
    mean = float(np.abs(off).mean())
    caption = f"Below: quotes less surface, {mean:.1f} bp on average."
    return Section(days, f"{drawn}{rest}", caption)


def _quotes(
    k: Array, y: Array, half: Array, wild: NDArray[np.bool_], bars: NDArray[np.bool_], *, named: bool = True
) -> list[Mark]:
    """Quotes as points, bid and ask as bars; those that fit no surface in red."""
    marks = []
    if bars.any():
        ends = (y[bars] - half[bars], y[bars] + half[bars])
        marks.append(Mark(k[bars], y[bars], "bid to ask" if named else "", "dark", "bars", *ends))
    for chosen, name, colour in ((~wild, "quotes", "dark"), (wild, "quotes that do not fit", "wrong")):
        if chosen.any():
            marks.append(Mark(k[chosen], y[chosen], name if named else "", colour, "dots"))
    return marks


def _read(grid: Grid, found: Completion, tenor: float, k: Array) -> tuple[Array, Array]:
    """Vols at one tenor and their standard deviations, which are linear between the points of the grid, [point]."""
    vol = Surfaces(found.iv[None], grid).at(k, tenor)[0]
    nodes, _ = smile(found.iv, grid, tenor)
    std = np.array([np.interp(tenor, grid.tenors, column) for column in found.std.T])
    return vol, np.interp(k, nodes, std[::-1] if grid.convention == "delta" else std)
