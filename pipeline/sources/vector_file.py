"""Vectors of a known length from a file, for a model that was trained on such vectors. Never imports torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files.npy_file import read_npy
from pipeline.sources.columns import Columns


def read_vectors(path: Path, dimension: int) -> NDArray[np.float64]:
    """Vectors [n, D], NaN where a point is missing, from npy or from a table with a row a vector.

    Raises:
        InputError: the file cannot be read, or its vectors have another length.
    """
    if path.suffix == ".npy":
        what = f"numbers [vector, {dimension} points]"
        return read_npy(path, "fiub", (dimension,), what).astype(np.float64)
    source = Columns.read(path)
    if len(source.names) != dimension:
        raise InputError(f"{path} has {len(source.names)} columns; the model needs {dimension}, one for each point")
    return np.stack([source.numbers(name) for name in source.names], axis=1)
