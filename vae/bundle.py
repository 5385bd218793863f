"""The bundle: the names of its files, and reading them with a check against the manifest."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FORMAT = 4
MANIFEST = "manifest.json"
DECODER, ENCODER, SAMPLER, COMPLETER, SCORER = GRAPHS = (
    "decoder.onnx",
    "encoder.onnx",
    "sampler.onnx",
    "completer.onnx",
    "scorer.onnx",
)
HALF_DECODER = "decoder_fp16.onnx"
SCENARIOS = "scenarios.onnx"  # of a model with a law of motion
_EXTERNAL = b"location"  # the key with which a graph names such a file; graphs of bundles do not have the word
_MOST_BYTES = 512 * 2**20  # of a file; a graph has half a megabyte
_MOST_MANIFEST = 16 * 2**20  # of a manifest, which has 60,000
_MOST_READS = 100  # of a folder that is replaced all the time
QUANTILES = np.linspace(0.0, 1.0, 1001)  # levels of the quantiles of scores in the manifest
SCORES = ("nats_a_point", "misfit_a_point", "distance", "largest_error")  # what held-out surfaces are ranked by


def measured(nats: Array, misfit: Array, distance: Array, error: Array, points: Array) -> dict[str, Array]:
    """The numbers that rank surfaces or vectors, each [batch], by the names of ``SCORES``.

    Args:
        nats: the output of the scorer, as the next two, [batch].
        misfit: chi-square of the errors.
        distance: squared length of the latents.
        error: of the points, [batch, ...].
        points: numbers of known points, [batch].
    """
    largest = np.abs(error).reshape(len(error), -1).max(1)
    return dict(zip(SCORES, (nats / points, misfit / points, distance, largest), strict=True))


SURFACES, VECTORS = "surfaces", "vectors"  # kinds of bundles
_CLASSES = {SURFACES: "SurfaceModel", VECTORS: "VectorModel"}  # of vae.runtime, which load them


class Layout(NamedTuple):
    """Name of the tensor that the graphs of a bundle read and write, and the shape of one surface or vector."""

    tensor: str
    shape: tuple[int, ...]

    @classmethod
    def of_surfaces(cls, shape: tuple[int, int]) -> "Layout":
        """Vols ``iv`` [tenor, node]."""
        return cls("iv", shape)

    @classmethod
    def of_vectors(cls, dimension: int) -> "Layout":
        """Points ``x`` [D]."""
        return cls("x", (dimension,))


class BundleError(ValueError):
    """The folder is not a bundle, was altered, or has another format than this version reads."""


class NoBundleError(BundleError):
    """There is no bundle in the folder."""


class FormatError(BundleError):
    """The bundle has another format than this version reads."""


def read_file(path: Path, most: int = _MOST_BYTES) -> bytes:
    """The content of a regular file.

    A pipe or a device, which may have no end or no beginning, is not read.

    Raises:
        OSError: it cannot be read.
        BundleError: it is no regular file, or larger than a file of a bundle is.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is not a regular file")
        if status.st_size > most:
            raise BundleError(f"{path} has {status.st_size} bytes; a file of a bundle has at most {most}")
        return file.read(most)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
        NoBundleError: the folder has no manifest.
        FormatError: the bundle has another format.
        BundleError: the manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_file(path, _MOST_MANIFEST))
        found = manifest["format"]
    except FileNotFoundError as error:
        raise NoBundleError(f"{folder} is not a bundle: {path} cannot be read ({error.strerror})") from error
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: {path} cannot be read ({error.strerror})") from error
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is not the manifest of a bundle: {error!r}") from error
    if found != FORMAT:
        raise FormatError(f"{path} has format {found!r}; this version of volvae reads format {FORMAT}")
    return dict(manifest)


def read_whole(
    folder: Path, names: Sequence[str], *, optional: Sequence[str] = (), kind: str | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest of a bundle and the content of some of its files, all of one bundle.

    Where the folder is replaced meanwhile, it is read again.

    Args:
        folder: of the bundle.
        names: of the files.
        optional: names of more files, of which those are read that the manifest names.
        kind: that the bundle must have; any by default.

    Raises:
        FormatError: the bundle has another format.
        BundleError: the folder, its manifest or one of its files is missing or altered, or the bundle is of another
            kind.
    """
    for _ in range(_MOST_READS):
        before = _identity(folder)
        try:
            manifest = read_manifest(folder)
            found = kind_of(manifest)
            if kind not in (None, found):
                raise BundleError(f"{folder} is a bundle of {found}; load it with vae.runtime.{_CLASSES[found]}")
            present = [name for name in optional if name in manifest.get("files", ())]
            return manifest, {name: read_content(folder / name, manifest) for name in (*names, *present)}
        except BundleError:
            if _identity(folder) == before:
                raise
    raise BundleError(f"{folder} was replaced {_MOST_READS} times while it was read")


def _identity(folder: Path) -> tuple[int, ...] | None:
    """Device, inode and time of change of a folder; None where there is none.

    Two folders that follow each other at a path differ in them: an inode may be used again, but then the time differs.
    """
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def kind_of(manifest: Mapping[str, Any]) -> str:
    """``SURFACES`` or ``VECTORS``; a manifest that does not say it is of surfaces.

    Raises:
        BundleError: it says something else.
    """
    kind = str(manifest.get("kind", SURFACES))
    if kind not in _CLASSES:
        raise BundleError(f"{MANIFEST} has kind {kind[:100]!r}; this version of volvae reads {', '.join(_CLASSES)}")
    return kind


def read_content(path: Path, manifest: Mapping[str, Any]) -> bytes:
    """The content of a file of a bundle.

    Raises:
        BundleError: the file is missing, its sha256 is not that of the manifest, or it is a graph with weights in
            another file, which could be any file of the machine.
    """
    try:
        content = read_file(path)
        expected = manifest["files"][path.name]["sha256"]
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})") from error
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path.parent / MANIFEST} does not name {path.name}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"{path} was altered: its sha256 is {found}, the manifest says {expected}")
    if path.suffix == ".onnx" and _EXTERNAL in content:
        raise BundleError(f"{path} has weights in another file; the graphs of a bundle have all of theirs inside")
    return content
