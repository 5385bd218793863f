"""The summary of a file of quotes: used and rejected rows, vols, static arbitrage; beyond limits it is refused."""

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.text import Text

from pipeline.errors import InputError, listed
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array
from pipeline.sources.quote_rows import EXPECTED_REASONS
from pipeline.sources.quoted_surfaces import QuotedSurfaces
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR

_LOUD = 0.1  # of the rows, from which on a reason is in bold
_TOLERANCE = 1e-6  # of the forward, as evaluate.arbitrage_tolerance has it
_LARGE = 1e-3  # of the forward: more than bid and ask explain


def figures(surfaces: QuotedSurfaces, grid: Grid) -> dict[str, float | str]:
    """Flat figures of surfaces and rows."""
    found = arbitrage.violations(surfaces.iv.astype(np.float32), grid)
    return {
        "quotes": surfaces.rows,
        "quotes_used": surfaces.rows - len(surfaces.rejected_rows),
        "markets": max(len(surfaces.markets), 1),
        "dates": len(np.unique(surfaces.dates)),
        "dates_off_grid": surfaces.off_grid,
        "lowest_vol": float(np.nanmin(surfaces.iv)),
        "median_vol": float(np.nanmedian(surfaces.iv)),
        "highest_vol": float(np.nanmax(surfaces.iv)),
        "shortest_tenor_days": DAYS_PER_YEAR * float(surfaces.tenors[0]),
        "longest_tenor_days": DAYS_PER_YEAR * float(surfaces.tenors[-1]),
        "repeated_smiles": surfaces.repeated_smiles[0],
        "arbitrage_free_rate": arbitrage.free_rate(found, tolerance=_TOLERANCE),
        "large_arbitrage_rate": 1.0 - arbitrage.free_rate(found, tolerance=_LARGE),
        "unusable_rate": unusable_rate(surfaces.rejected, surfaces.rows),
        **_early_exercise(surfaces.early_exercise),
        **{f"rejected_{reason}": count for reason, count in surfaces.rejected.items()},
    }


def unusable_rate(rejected: Mapping[str, int], rows: int) -> float:
    """The share of rows that are no quotes, of those that no setting or other row leaves out."""
    unexpected = sum(count for reason, count in rejected.items() if reason not in EXPECTED_REASONS)
    return unexpected / max(rows - sum(rejected.values()) + unexpected, 1)


def show(surfaces: QuotedSurfaces, grid: Grid, values: dict[str, float | str]) -> None:
    """Three lines on the terminal: what was used, what was rejected, and how the vols look; more where it matters."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    names = f" of {listed(surfaces.markets)}" if surfaces.markets else ""
    used, rows = values["quotes_used"], values["quotes"]
    console.print(f"prepare: used {used:,} of {rows:,} quotes{names}: {len(surfaces.iv):,} surfaces", markup=False)
    console.print(_rejections(surfaces))
    console.print(
        f"prepare: vols from {values['lowest_vol']:.2%} to {values['highest_vol']:.2%}, median "
        f"{values['median_vol']:.2%}; tenors from {_tenor(surfaces.tenors[0])} to {_tenor(surfaces.tenors[-1])}; "
        f"static arbitrage in {1.0 - float(values['arbitrage_free_rate']):.1%} of surfaces",
        markup=False,
    )
    repeated, smiles = surfaces.repeated_smiles
    if repeated:
        console.print(
            f"prepare: {repeated:,} of {smiles:,} smiles repeat all quotes of the time before; "
            "prepare.quotes.drop_repeated: true leaves them out",
            markup=False,
        )
    for assumption in surfaces.assumed:
        console.print(f"prepare: {assumption.as_settings}", markup=False)
    if "american_quotes" in values:
        console.print(
            f"prepare: took early exercise out of {values['american_quotes']:,} american prices, in vol "
            f"{values['early_exercise_mean_bp']:.1f} bp on average and {values['early_exercise_max_bp']:.1f} at most",
            markup=False,
        )
    empty = np.isnan(surfaces.iv).all(axis=0)
    if empty.any():
        tenor, node = np.argwhere(empty)[0]
        console.print(
            f"prepare: {empty.sum()} of {empty.size} points of prepare.grid are known on no date, the first at "
            f"{DAYS_PER_YEAR * grid.tenors[tenor]:g} days, node {grid.nodes[node]:g}; train needs each point on some "
            f"date: {_remedy(float(grid.tenors[tenor]), surfaces.tenors)}",
            markup=False,
        )


def _tenor(years: float) -> str:
    """A tenor in days and years, so that another unit shows."""
    return f"{DAYS_PER_YEAR * years:.4g} days ({years:.2g} years)"


def _remedy(tenor: float, quoted: Array) -> str:
    """The remedy for a point of the grid without quotes, by its tenor and the quoted ones, in years."""
    if quoted[0] <= tenor <= quoted[-1]:
        return "leave such tenors or nodes out of prepare.grid"
    name, nearest = ("shortest", quoted[0]) if tenor < quoted[0] else ("longest", quoted[-1])
    return (
        f"the {name} quoted tenor is {DAYS_PER_YEAR * nearest:.7g} days, and nothing is extrapolated: write this in "
        "prepare.grid.tenors_days, or leave the tenor out"
    )


def _early_exercise(differences: Array) -> dict[str, float | str]:
    """How many prices were american, and by how much vols would be wrong without early exercise."""
    if not len(differences):
        return {}
    return {
        "american_quotes": len(differences),
        "early_exercise_mean_bp": BASIS_POINTS * float(differences.mean()),
        "early_exercise_max_bp": BASIS_POINTS * float(differences.max()),
    }


def check_limits(params: QuotesParams, rejected: dict[str, int], values: dict[str, float | str]) -> None:
    """Raise InputError where more rows are rejected, or more surfaces have large arbitrage, than the settings allow."""
    rate = float(values["unusable_rate"])
    if rate > params.max_rejected:
        raise InputError(
            f"{params.path}: {rate:.0%} of the rows are rejected: {counts(rejected, EXPECTED_REASONS)}; allowed by "
            f"prepare.quotes.max_rejected: {params.max_rejected:.0%}"
        )
    rate = float(values["large_arbitrage_rate"])
    if rate > params.max_arbitrage:
        raise InputError(
            f"{params.path}: {rate:.0%} of the surfaces have static arbitrage of more than {_LARGE:g} of the forward, "
            "as rows of several markets, wrong units or dead quotes give; allowed by prepare.quotes.max_arbitrage: "
            f"{params.max_arbitrage:.0%}"
        )


def counts(rejected: dict[str, int], without: tuple[str, ...] = ()) -> str:
    """Numbers of rejected rows by reason."""
    return ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count and reason not in without)


def _rejections(surfaces: QuotedSurfaces) -> Text:
    """The line of rejected rows, largest reasons first, in bold where a tenth of all rows has the reason."""
    line = Text(f"prepare: rejected {len(surfaces.rejected_rows):,}")
    by_size = sorted(((count, reason) for reason, count in surfaces.rejected.items() if count), reverse=True)
    for place, (count, reason) in enumerate(by_size):
        share = count / surfaces.rows
        line.append(": " if not place else ", ")
        line.append(f"{count:,} {reason} ({share:.1%})", style="bold" if share > _LOUD else "")
    return line
