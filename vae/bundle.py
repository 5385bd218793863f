"""The folder that is shipped: its files by name, and how they are read and trusted."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
QUANTILES = np.linspace(0.0, 1.0, 1001)  # of the scores of training surfaces, which the manifest holds


class BundleError(ValueError):
    """The folder is not a bundle that this version can trust and read."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle says of itself.

    Raises:
        BundleError: the folder has no manifest, or one that this version cannot read.
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


def read_content(path: Path, manifest: Mapping[str, Any]) -> bytes:
    """A file of a bundle.

    Raises:
        BundleError: it is missing, or not the one that the manifest describes.
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
