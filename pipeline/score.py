"""The command score: a file of surfaces in, how likely each of them is out."""

import csv
import io
from pathlib import Path

import numpy as np

from pipeline.atomic import new_file
from vae.runtime import Scores

_ODD = 1.0  # percent: below it a surface is called odd


def write(path: Path, scores: Scores) -> None:
    """A row a surface as CSV: surface, counted from 0, nats and percentile."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("surface", "nats", "percentile"))
    for number, (nats, percentile) in enumerate(zip(scores.nats.tolist(), scores.percentile.tolist(), strict=True)):
        writer.writerow((number, f"{nats:.6g}", f"{percentile:.4g}"))
    with new_file(path) as stream:
        stream.write(text.getvalue().encode())


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
