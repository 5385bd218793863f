"""Load a bundle and sample, decode and encode surfaces: numpy and onnxruntime only.

>>> from vae.runtime import SurfaceModel
>>> model = SurfaceModel.load("artifacts/bundle")      # doctest: +SKIP
>>> model.sample(1000, seed=7).shape                   # doctest: +SKIP
(1000, 17, 41)
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.grid import Grid
from vae.prior import Mixture, bounded

# onnxruntime reads this when it is imported, and reports home unless it is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime
except ImportError as error:
    raise ImportError(
        "vae.runtime needs onnxruntime: pip install 'volvae[cpu]', or 'volvae[gpu]' with an NVIDIA GPU"
    ) from error

FORMAT = 2
MANIFEST = "manifest.json"
DECODER, ENCODER, PRIOR = "decoder.onnx", "encoder.onnx", "prior.npy"

Array = NDArray[np.float32]
Provider = Literal["auto", "cpu", "cuda"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class BundleError(ValueError):
    """The folder is not a bundle that this version can trust and read."""


class Posterior(NamedTuple):
    """Mean and standard deviation of the latents given surfaces, both [batch, latent]."""

    mean: Array
    std: Array


class SurfaceModel:
    """A trained generator of implied-volatility surfaces.

    Attributes:
        grid: tenors and nodes of every surface.
        latents: size of z.
        conditions: names of what samples can be asked for.
        manifest: the bundle's description, as read.
        provider: the onnxruntime provider that runs the decoder.
        block: surfaces of each item of ``sample_blocks`` but the last.
    """

    block = 4096  # a draw depends on the seed and its row, through the block it lies in

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: "_Options") -> None:
        self.manifest = manifest
        self.grid = Grid.from_dict(manifest["grid"])
        self.latents = int(manifest["latents"])
        self.conditions = tuple(manifest["conditions"])
        self._decoder = _session(contents[DECODER], options)
        self._encoder = _session(contents[ENCODER], options)
        self._joint = _prior(contents[PRIOR], len(self.conditions) + self.latents)
        self.provider: str = self._decoder.get_providers()[0]

    @classmethod
    def load(cls, bundle: str | Path, *, provider: Provider = "auto", threads: int = 0) -> Self:
        """Read a bundle and check each file against the manifest.

        Args:
            bundle: the folder that the export stage wrote.
            provider: ``cpu``, ``cuda``, or ``auto`` for CUDA where this onnxruntime has it.
            threads: of one call on the CPU; 0 for one a core.

        Raises:
            BundleError: the folder, its manifest or one of its files is missing, altered or of another format.
            ValueError: a provider that is unknown or that this onnxruntime lacks, or a negative number of threads.
        """
        options = _Options(_provider_name(provider), threads)
        folder = Path(bundle)
        manifest = _read_manifest(folder)
        contents = {name: _read_content(folder / name, manifest) for name in (DECODER, ENCODER, PRIOR)}
        return cls(contents, manifest, options)

    def sample(self, n: int, *, seed: int, conditions: Mapping[str, float] | None = None) -> Array:
        """n surfaces drawn from the prior, float32 [n, tenor, node]: decimal Black vols.

        Row i depends on the seed and i alone: the first rows of a larger request are a smaller one.

        Args:
            n: how many.
            seed: the same gives the same surfaces.
            conditions: what the surfaces should have, some of ``self.conditions`` by name.

        Raises:
            ValueError: a number out of range, or a condition that the model does not know.
        """
        surfaces = np.empty((_count(n), *self.grid.shape), np.float32)
        start = 0
        for block in self.sample_blocks(n, seed=seed, conditions=conditions):
            surfaces[start : start + len(block)] = block
            start += len(block)
        return surfaces

    def sample_blocks(self, n: int, *, seed: int, conditions: Mapping[str, float] | None = None) -> Iterator[Array]:
        """The rows of ``sample`` a block at a time, for requests larger than memory."""
        known = self._asked(conditions or {})
        first = len(self.conditions)
        prior = self._joint.select([*known, *range(first, first + self.latents)])
        given = np.broadcast_to(np.array(list(known.values())), (self.block, len(known)))
        for start in range(0, _count(n), self.block):
            uniform, normal = _random(start // self.block, _seed(seed), (self.block, self.latents))
            normal = bounded(normal)
            z = prior.sample_given(given, uniform, normal) if known else prior.sample(uniform, normal)
            yield self.decode(z[: n - start])

    def _asked(self, conditions: Mapping[str, float]) -> dict[int, float]:
        """Requested values by the place of their condition."""
        for name, value in conditions.items():
            if name not in self.conditions:
                raise ValueError(f"{name!r} is not a condition; allowed: {', '.join(self.conditions) or 'none'}")
            if not np.isfinite(value):
                raise ValueError(f"the condition {name} is {value}; it must be finite")
        return {i: conditions[name] for i, name in enumerate(self.conditions) if name in conditions}

    def decode(self, z: ArrayLike) -> Array:
        """Surfaces iv [batch, tenor, node] of latents z [batch, latent]."""
        latents = _batch("z", z, (self.latents,))
        (surfaces,) = self._decoder.run(None, {"z": latents})
        return np.asarray(surfaces, np.float32)

    def encode(self, iv: ArrayLike) -> Posterior:
        """Posterior of the latents given complete surfaces iv [batch, tenor, node]."""
        mean, std = self._encoder.run(None, {"iv": _batch("iv", iv, self.grid.shape)})
        return Posterior(np.asarray(mean, np.float32), np.asarray(std, np.float32))


class _Options(NamedTuple):
    provider: str
    threads: int


def _session(graph: bytes, options: _Options) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    # Idle threads that spin cost a host more than they save a small graph.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [_PROVIDERS["cpu"]]
    if options.provider == _PROVIDERS["cuda"]:
        providers.insert(0, (options.provider, {"use_tf32": "0"}))  # TF32 is off by 1e-3 vol
    try:
        return onnxruntime.InferenceSession(graph, settings, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise BundleError(f"onnxruntime {onnxruntime.__version__} cannot load a graph: {error}") from error


def _provider_name(provider: str) -> str:
    available = onnxruntime.get_available_providers()
    if provider == "auto":
        return _PROVIDERS["cuda"] if _PROVIDERS["cuda"] in available else _PROVIDERS["cpu"]
    if provider not in _PROVIDERS:
        raise ValueError(f"provider is {provider!r}; allowed: auto, {', '.join(_PROVIDERS)}")
    if _PROVIDERS[provider] not in available:
        raise ValueError(f"provider {provider!r} is not in this onnxruntime, which has {', '.join(available)}")
    return _PROVIDERS[provider]


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = manifest["format"]
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: {path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not the manifest of a bundle: {error!r}") from error
    if found != FORMAT:
        raise BundleError(f"{path} has format {found!r}; this version of volvae reads format {FORMAT}")
    return dict(manifest)


def _read_content(path: Path, manifest: Mapping[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
        expected = manifest["files"][path.name]["sha256"]
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})") from error
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path.parent / MANIFEST} does not name {path.name}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"{path} was altered: its sha256 is {found}, the manifest says {expected}")
    return content


def _prior(content: bytes, dimension: int) -> Mixture:
    try:
        prior = Mixture.from_table(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))
    except ValueError as error:
        raise BundleError(f"{PRIOR} is damaged: {error}") from error
    if prior.dimension != dimension:
        raise BundleError(f"{PRIOR} is of {prior.dimension} numbers, but the manifest names {dimension}")
    return prior


def _random(block: int, seed: int, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Uniform [row] and standard normal [row, latent] numbers of one block of rows, from a counter-based generator.

    Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, block]))
    return generator.random(shape[0]), generator.standard_normal(shape)


def _count(n: int) -> int:
    if not 1 <= n <= 2**50:
        raise ValueError(f"n is {n}; the number of surfaces must be between 1 and 2^50")
    return n


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; allowed: 0 to 2^64 - 1")
    return seed


def _batch(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = np.asarray(values, np.float32)
    if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected (batch, {', '.join(map(str, shape))})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but row {_first_bad_row(array)} is not")
    return np.ascontiguousarray(array)


def _first_bad_row(array: Array) -> int:
    return int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
