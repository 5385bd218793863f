"""The file and the text of `volvae score`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.files.csv_tables import write_csv
from vae.runtime import ODD_PERCENTILE, Scores
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR


def write(path: Path, scores: Scores, kind: str, grid: Grid | None, titles: list[str] | None) -> None:
    """One row for each surface or vector as CSV: its number, counted from 0, its scores, and its date if known."""
    columns = {
        kind: range(len(scores.nats)),
        "nats": [f"{nats:.6g}" for nats in scores.nats.tolist()],
        **{
            name: [f"{value:.4g}" for value in values.tolist()]
            for name, values in (
                ("percentile", scores.percentile),
                ("misfit_percentile", scores.misfit_percentile),
                ("distance_percentile", scores.distance_percentile),
                ("error_percentile", scores.error_percentile),
                ("largest_error", scores.largest_error),
            )
        },
        **_places(scores, grid),
        **({} if titles is None else {"date": titles}),
    }
    write_csv(path, tuple(columns), list(zip(*columns.values(), strict=True)))


def _places(scores: Scores, grid: Grid | None) -> dict[str, list[str]]:
    """Where the largest error of each is: tenor in days and node, or the number of the point counted from 0."""
    if grid is None:
        return {"point": [str(place) for (place,) in scores.oddest.tolist()]}
    tenors, nodes = scores.oddest.T
    return {
        "tenor_days": [f"{days:.6g}" for days in DAYS_PER_YEAR * grid.tenors[tenors]],
        "node": [f"{node:.6g}" for node in grid.nodes[nodes]],
    }


def figures(scores: Scores, kind: str) -> dict[str, float | None]:
    """Counts, the least likely surface or vector, and the one with the largest error.

    The counts of odd ones are None where none can be compared. Nats and errors are infinite where a score left the
    range of floating point.
    """
    ranked = scores.percentile[np.isfinite(scores.percentile)]
    most, largest = ODD_PERCENTILE, np.abs(scores.largest_error)
    odd = {
        f"odd_{kind}s": scores.odd,
        "fit_worse": scores.misfit_percentile > most,
        "fit_better": scores.misfit_percentile < 100.0 - most,
        "rarer": scores.distance_percentile > most,
        "with_odd_point": scores.error_percentile > most,
    }
    return {
        f"{kind}s": len(scores.nats),
        "median_nats": float(np.median(scores.nats)),
        "lowest_nats": float(scores.nats.min()),
        f"lowest_{kind}": int(scores.nats.argmin()),
        "largest_error": float(largest.max()),
        f"largest_error_{kind}": int(largest.argmax()),
        **{name: int(found.sum()) if len(ranked) else None for name, found in odd.items()},
        f"unranked_{kind}s": len(scores.nats) - len(ranked),
    }


def text(found: Mapping[str, float | None], kind: str) -> str:
    """The figures in two lines, which say of no surface that it is usual where none can be compared."""
    count, unranked = found[f"{kind}s"], found[f"unranked_{kind}s"]
    things = kind if count == 1 else f"{kind}s"
    first = (
        f"{count:,} {things}, median {found['median_nats']:,.1f} nats, lowest {found['lowest_nats']:,.1f} "
        f"({kind} {found[f'lowest_{kind}']})"
    )
    if unranked == count:
        return (
            f"{first}\nnone can be compared with held-out {kind}s, which needs more known points; the largest error: "
            f"{found['largest_error']:,.1f} deviations, {kind} {found[f'largest_error_{kind}']}"
        )
    lines = (
        first,
        f"{found[f'odd_{kind}s']:,} are odder than {ODD_PERCENTILE:g} % of held-out {kind}s: "
        f"{found['fit_worse']:,} fit worse, {found['fit_better']:,} have less noise, {found['rarer']:,} are rarer, "
        f"{found['with_odd_point']:,} have an odd point (the largest error: {found['largest_error']:,.1f} deviations, "
        f"{kind} {found[f'largest_error_{kind}']})"
        + (f"; {unranked:,} have too few points to be compared" if unranked else ""),
    )
    return "\n".join(lines)
