"""Facts that are kept with a version: seeds, versions of packages, how long each stage ran and on which machine."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pipeline.files import formats
from pipeline.registry.dvc_lock import md5

REQUIREMENTS = Path("requirements.lock")
RUNS, PATCH = "runs.json", "changes.patch"  # files that are kept with a version
_RUNS = Path(".checkpoints/runs")
_PACKAGES = ("volvae", "torch", "numpy", "onnx", "onnxscript", "dvc", "mlflow")


class Run(NamedTuple):
    """Duration and device of the run of a stage on this machine."""

    seconds: float
    device: str


def seeds(settings: Mapping[str, object]) -> dict[str, object]:
    """The seed of each stage that has one, from flat settings."""
    return {name.removesuffix(".seed"): value for name, value in settings.items() if name.endswith(".seed")}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def note_run(stage: str, metrics: Path, run: Run) -> None:
    """Store the run of a stage beside its checkpoints: not as an output, which must be the same in each run.

    Raises:
        InputError: the metrics cannot be read, or the note cannot be written.
    """
    with formats.reading(metrics):
        digest = md5(metrics)
    formats.write_json(_RUNS / f"{stage}.json", {**run._asdict(), "metrics_md5": digest})


def run_of(stage: str, metrics: Path) -> Run | None:
    """The run of a stage that made these metrics; None where they were made on another machine."""
    try:
        kept = json.loads((_RUNS / f"{stage}.json").read_text())
        return Run(kept["seconds"], kept["device"]) if kept["metrics_md5"] == md5(metrics) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
