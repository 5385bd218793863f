"""The command doctor: checks whether this environment can run a bundle, and what would be slow or fail."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.cli.common import where_bundles_come_from
from vae import runtime, sessions
from vae.runtime import SurfaceModel, VectorModel
from vae.surface.units import BASIS_POINTS

_PACKAGES = ("volvae", "numpy", "onnxruntime", "onnxruntime-gpu", "torch")
_CALLS = 200


class Finding(NamedTuple):
    """One line of the report; a fault is something that will fail."""

    name: str
    text: str
    fault: bool = False


def findings(bundle: Path) -> list[Finding]:
    """All findings, those about the environment first."""
    installed = {name: found for name in _PACKAGES if (found := _version(name))}
    both = {"onnxruntime", "onnxruntime-gpu"} <= installed.keys()
    off = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    return [
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("packages", ", ".join(f"{name} {number}" for name, number in installed.items())),
        Finding(
            "wheels",
            "onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one"
            if both
            else "one onnxruntime",
            fault=both,
        ),
        Finding("providers", ", ".join(sessions.available_providers())),
        Finding("threads", f"{os.cpu_count()} cores; a call takes one a core unless SurfaceModel.load says otherwise"),
        Finding("telemetry", "off" if off else "on: unset ORT_DISABLE_TELEMETRY or set it to 1", fault=not off),
        *_bundle(bundle),
    ]


def _bundle(folder: Path) -> list[Finding]:
    """Load and call every graph once."""
    try:
        model = runtime.load(folder)
        drawn = model.sample(1, seed=0)
        score = model.score(drawn).nats[0]
        model.encode(drawn)
        size, item, missed = _completed(model, drawn)
    except (ValueError, OSError) as error:
        return [Finding("bundle", f"{error}{where_bundles_come_from(error)}", fault=True)]
    z = np.zeros((1, model.latents), np.float32)
    return [
        Finding("bundle", f"{folder}: format {model.manifest['format']}, {size}, checksums agree"),
        Finding("running on", model.provider),
        Finding("decode", f"{1e6 * _median_seconds(lambda: model.decode(z)):.0f} us for one {item}"),
        Finding("sample", f"one {item} scores {score:,.1f} nats and is completed to {missed}"),
    ]


def _completed(model: SurfaceModel | VectorModel, drawn: np.ndarray) -> tuple[str, str, str]:
    """The size of the model's data, what one is called, and the largest error of completing one from all its points."""
    if isinstance(model, VectorModel):
        return (
            f"vectors of {model.dimension} points",
            "vector",
            f"{np.abs(model.complete(drawn).mean - drawn).max():.2g}",
        )
    tenors, nodes = model.grid.shape
    error = _worst(model.complete(drawn[0]).iv, drawn[0])
    return f"{tenors} tenors x {nodes} nodes", "surface", f"{error:.2f} bp"


def _worst(found: np.ndarray, expected: np.ndarray) -> float:
    return float(BASIS_POINTS * np.abs(found - expected).max())


def _median_seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
