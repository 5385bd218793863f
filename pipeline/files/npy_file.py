"""Arrays in npy files of the user; needs numpy alone."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError


def read_npy(path: Path, kinds: str, shape: tuple[int, ...], what: str) -> NDArray[Any]:
    """An array [n, *shape] with n > 0.

    Args:
        path: of the file.
        kinds: letters of the numpy kinds that are allowed, such as ``f``.
        shape: of a row.
        what: the file must hold, for the message.

    Raises:
        InputError: the file is missing, is no npy, or holds something else.
    """
    try:
        with np.errstate(over="raise"):  # of the number of bytes that a header states
            array = np.load(path, allow_pickle=False, mmap_mode="r")  # which compares it with the size of the file
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, EOFError, ArithmeticError, TypeError) as error:
        raise InputError(f"{path} is not a npy file, or not a whole one") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds or array.shape[1:] != shape or not len(array):
        raise InputError(f"{path} must hold an array of {what}")
    return np.array(array)
