"""The source array: a user's vectors of any kind, without a grid. Never imports torch."""

from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files import formats
from pipeline.files.dataset import Dataset
from pipeline.settings.prepare import ArrayParams, ArrayPrepare
from pipeline.sources.columns import Columns

_SUFFIXES = (".npy", ".safetensors", ".parquet")
_BFLOAT16 = "BF16"  # in safetensors: the upper half of a number in single precision, which numpy does not know
_NO_NUMPY = "F8"  # begins the names of the other such types


def read(params: ArrayParams) -> NDArray[np.float32]:
    """The array of a file, float32 [n, D].

    Raises:
        InputError: the file cannot be read, or holds no matrix of finite numbers, inside [0, 1] for Bernoulli.
    """
    path = Path(params.path)
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path} must end in {', '.join(_SUFFIXES)}")
    for name, suffix in (("key", ".safetensors"), ("columns", ".parquet")):
        if getattr(params, name) is not None and path.suffix != suffix:
            raise InputError(f"params.yaml: prepare.array.{name} is for {suffix} files, not for {path}")
    if not path.is_file():
        raise InputError(f"{path} is a folder" if path.is_dir() else f"{path} does not exist")
    raw = {".npy": _npy, ".safetensors": _safetensors, ".parquet": _parquet}[path.suffix](path, params)
    if raw.ndim != 2 or not raw.size:
        raise InputError(f"{path} holds an array of shape {list(raw.shape)}; allowed: [n, D], neither of them 0")
    if raw.dtype.kind not in "fiub":
        raise InputError(f"{path} holds {raw.dtype}; allowed: floating-point numbers, integers or booleans")
    with np.errstate(over="ignore"):  # too large for single precision is not finite
        values = raw.astype(np.float32, order="C")
    _check(path, values, params)
    return values


def write(settings: ArrayPrepare, folder: Path) -> dict[str, float | str]:
    """Write the splits to a folder; flat figures of the data."""
    params = settings.array
    values = read(params)
    order = np.random.default_rng(settings.seed).permutation(len(values)) if params.shuffle else np.arange(len(values))
    figures: dict[str, float | str] = {
        "sha256": formats.sha256(formats.read_bytes(Path(params.path))),
        "vectors": len(values),
        "dimensions": values.shape[1],
        "min_value": float(values.min()),
        "max_value": float(values.max()),
    }
    for split, rows in params.splits.stretches(len(values)).items():
        part = values[order[rows]]
        Dataset(folder).write_vectors(split, part, likelihood=params.likelihood)
        figures[f"{split}_vectors"] = len(part)
    return figures


def _npy(path: Path, _: ArrayParams) -> NDArray[np.generic]:
    with formats.reading(path):  # mapped: a header that claims more than the file holds fails before memory is taken
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def _safetensors(path: Path, params: ArrayParams) -> NDArray[np.generic]:
    with formats.reading(path):
        tensors = dict(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    if not tensors:
        raise InputError(f"{path} holds no tensors")
    key = params.key or (next(iter(tensors)) if len(tensors) == 1 else None)
    if key not in tensors:
        fault = f"no tensor {key}" if key else "several tensors, so prepare.array.key must name one"
        raise InputError(f"{path} has {fault}; allowed: {', '.join(sorted(tensors))}")
    kind, shape = tensors[key]["dtype"], tensors[key]["shape"]
    if kind == _BFLOAT16:
        halves = np.frombuffer(tensors[key]["data"], "<u2").astype("<u4")
        return (halves << 16).view("<f4").reshape(shape)
    if kind.startswith(_NO_NUMPY):
        raise InputError(f"{path} holds {kind}; allowed: floating-point numbers of 16 bits or more, integers, booleans")
    with formats.reading(path), safetensors.safe_open(path, framework="numpy") as file:
        return np.asarray(file.get_tensor(key))


def _parquet(path: Path, params: ArrayParams) -> NDArray[np.generic]:
    source = Columns.read(path)
    return np.stack([source.numbers(name) for name in params.columns or source.names], axis=1)


def _check(path: Path, values: NDArray[np.float32], params: ArrayParams) -> None:
    """Raise InputError for numbers that the likelihood does not allow."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise InputError(f"{path}: {wrong.sum()} of {values.size} numbers are not finite, the first {_position(wrong)}")
    if params.likelihood == "bernoulli":
        wrong = (values < 0) | (values > 1)
        if wrong.any():
            first = values[wrong][0]
            raise InputError(f"{path} holds {first:g} {_position(wrong)}; allowed with likelihood bernoulli: 0 to 1")


def _position(wrong: NDArray[np.bool_]) -> str:
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"at row {row + 1}, column {column + 1}"
