"""The command doctor: checks whether this environment can run a bundle, and what would be slow or fail."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae import sessions
from vae.runtime import SurfaceModel
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
        model = SurfaceModel.load(folder)
        surface = model.sample(1, seed=0)
        score = model.score(surface).nats[0]
        model.encode(surface)
        completed = model.complete(surface[0])
    except (ValueError, OSError) as error:
        return [Finding("bundle", str(error), fault=True)]
    z = np.zeros((1, model.latents), np.float32)
    tenors, nodes = model.grid.shape
    return [
        Finding(
            "bundle", f"{folder}: format {model.manifest['format']}, {tenors} tenors x {nodes} nodes, checksums agree"
        ),
        Finding("running on", model.provider),
        Finding("decode", f"{1e6 * _median_seconds(lambda: model.decode(z)):.0f} us for one surface"),
        Finding(
            "sample",
            f"one surface scores {score:,.1f} nats and is completed to {_worst(completed.iv, surface[0]):.2f} bp",
        ),
    ]


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
