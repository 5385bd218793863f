"""The bundle: the names of its files, and reading them with a check against the manifest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 3
MANIFEST = "manifest.json"
DECODER, ENCODER, SAMPLER, COMPLETER, SCORER = GRAPHS = (
    "decoder.onnx",
    "encoder.onnx",
    "sampler.onnx",
    "completer.onnx",
    "scorer.onnx",
)
HALF_DECODER = "decoder_fp16.onnx"
QUANTILES = np.linspace(0.0, 1.0, 1001)  # levels of the quantiles of training scores in the manifest


SURFACES, VECTORS = "surfaces", "vectors"  # kinds of bundles


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
        BundleError: the folder has no manifest, or this version cannot read it.
    """
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


def kind_of(manifest: Mapping[str, Any]) -> str:
    """``SURFACES`` or ``VECTORS``; a manifest that does not say it is of surfaces."""
    return str(manifest.get("kind", SURFACES))


def read_content(path: Path, manifest: Mapping[str, Any]) -> bytes:
    """The content of a file of a bundle.

    Raises:
        BundleError: the file is missing, or its sha256 is not that of the manifest.
    """
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
