"""The stage prepare: the splits of simulated surfaces, of a user's quotes or of a user's array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.files import formats
from pipeline.files.atomic import check_writable, new_folder
from pipeline.settings.prepare import PrepareParams
from pipeline.sources import array, quotes, shards, simulated
from vae.pricing.simulated_models import MODELS

# By the name in prepare.source: each writes a data set to a folder and returns flat figures of it.
SOURCES: dict[str, Callable[[Any, Path], dict[str, float | str]]] = {
    **dict.fromkeys(MODELS, simulated.write),
    "quotes": quotes.write,
    "array": array.write,
}


def main(settings: PrepareParams, *, surfaces: Path, metrics: Path) -> None:
    """Write the splits and the grid to the folder ``surfaces`` and the data report to ``metrics``."""
    check_writable(metrics)
    with new_folder(surfaces) as folder:
        formats.write_json(metrics, SOURCES[settings.source](settings, folder))
    shards.remove()
