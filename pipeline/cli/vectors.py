"""The commands sample and complete for a bundle of vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError, shown
from pipeline.files.csv_tables import write_csv
from pipeline.sources.vector_file import read_vectors
from vae.runtime import VectorCompletion, VectorModel
from vae.surface.units import Z90


def check_conditions(conditions: Mapping[str, float], market: str | None) -> None:
    """Raise InputError for conditions or a market, which no model of vectors has."""
    if conditions:
        raise InputError(f"--given {', '.join(conditions)}: the bundle is of vectors, which have no conditions")
    if market is not None:
        raise InputError(f"--market {market}: the bundle is of vectors, which have no markets")


def complete(model: VectorModel, path: Path, output: Path, *, plot: bool) -> dict[str, Any]:
    """Complete the vectors of a file, whose missing points are empty or NaN, and write them; figures of the outcome."""
    if plot:
        raise InputError("--plot shows smiles, and the bundle is of vectors, which have none; leave it out")
    x = read_vectors(path, model.dimension)
    found = model.complete(x)
    _write(output, model, x, found)
    hidden = np.isnan(x)
    stds = found.std[hidden] if hidden.any() else found.std
    return {
        "path": str(output),
        "vectors": len(x),
        "known_points": int((~hidden).sum()),
        "completed_points": int(hidden.sum()),
        "median_std": float(np.median(stds)),
        "largest_std": float(stds.max()),
    }


def completed_text(outcome: Mapping[str, Any]) -> str:
    """The outcome of ``complete`` in one line."""
    return (
        f"{outcome['completed_points']:,} points of {outcome['vectors']:,} vectors completed from "
        f"{outcome['known_points']:,}; median standard deviation {outcome['median_std']:.4g}, largest "
        f"{outcome['largest_std']:.4g}: {shown(outcome['path'])}"
    )


def _write(path: Path, model: VectorModel, x: np.ndarray, found: VectorCompletion) -> None:
    """One row for each point: vector and point counted from 0, whether it was known, mean, std and 90 % interval.

    A binary point, whose mean is a probability, has no interval.
    """
    vector, point = np.indices(x.shape)
    columns = [vector, point, (~np.isnan(x)).astype(int), found.mean, found.std]
    names = ["vector", "point", "known", "mean", "std"]
    if model.likelihood == "gaussian":
        columns += [found.mean - Z90 * found.std, found.mean + Z90 * found.std]
        names += ["low_90", "high_90"]
    rows = zip(*(column.ravel().tolist() for column in columns), strict=True)
    write_csv(path, tuple(names), [[f"{value:.8g}" for value in row] for row in rows])
