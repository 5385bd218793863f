"""The command score: a file of surfaces in, how likely each of them is out."""

from pathlib import Path

import numpy as np

from pipeline.files.formats import write_csv
from vae.runtime import Scores

_ODD = 1.0  # percent: below it a surface is called odd


def write(path: Path, scores: Scores) -> None:
    """A row a surface as CSV: surface, counted from 0, nats and percentile."""
    ranked = zip(scores.nats.tolist(), scores.percentile.tolist(), strict=True)
    rows = [(number, f"{nats:.6g}", f"{percentile:.4g}") for number, (nats, percentile) in enumerate(ranked)]
    write_csv(path, ("surface", "nats", "percentile"), rows)


def figures(scores: Scores) -> dict[str, float]:
    """Counts and the oddest surface."""
    ranked = scores.percentile[np.isfinite(scores.percentile)]
    return {
        "surfaces": len(scores.nats),
        "median_nats": float(np.median(scores.nats)),
        "lowest_nats": float(scores.nats.min()),
        "lowest_surface": int(scores.nats.argmin()),
        "odd_surfaces": int((ranked < _ODD).sum()),
        "unranked_surfaces": len(scores.nats) - len(ranked),
    }
