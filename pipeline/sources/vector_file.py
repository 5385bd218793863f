"""Vectors of a known length from a file, for a model that was trained on such vectors. Never imports torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.sources.columns import Columns


def read_vectors(path: Path, dimension: int) -> NDArray[np.float64]:
    """Vectors [n, D], NaN where a point is missing, from npy or from a table with a row a vector.

    Raises:
        InputError: the file cannot be read, or its vectors have another length.
    """
    if path.suffix == ".npy":
        return _read_npy(path, dimension)
    source = Columns.read(path)
    if len(source.names) != dimension:
        raise InputError(f"{path} has {len(source.names)} columns; the model needs {dimension}, one for each point")
    return np.stack([source.numbers(name) for name in source.names], axis=1)


def _read_npy(path: Path, dimension: int) -> NDArray[np.float64]:
    try:
        x = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a npy file") from error
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub" or x.shape[1:] != (dimension,) or not len(x):
        raise InputError(f"{path} must hold an array of numbers [vector, {dimension} points]")
    return x.astype(np.float64)
