"""The stage prepare: the splits of simulated surfaces, of a user's quotes or of a user's array."""

from pathlib import Path

from pipeline.files import formats
from pipeline.files.atomic import check_writable, new_folder
from pipeline.settings.prepare import ArrayPrepare, HestonPathsPrepare, PrepareParams, QuotesPrepare
from pipeline.sources import array, quotes, shards


def main(settings: PrepareParams, *, surfaces: Path, metrics: Path) -> None:
    """Write the splits and the grid to the folder ``surfaces`` and the data report to ``metrics``."""
    check_writable(metrics)
    with new_folder(surfaces) as folder:
        formats.write_json(metrics, _write(settings, folder))
    shards.remove()


def _write(settings: PrepareParams, folder: Path) -> dict[str, float | str]:
    """Write the data set of the source to a folder; flat figures of it."""
    if isinstance(settings, QuotesPrepare):
        return quotes.write(settings, folder)
    if isinstance(settings, ArrayPrepare):
        return array.write(settings, folder)
    from pipeline.sources import heston_paths, simulated  # noqa: PLC0415 - a user's own data need no torch

    if isinstance(settings, HestonPathsPrepare):
        return heston_paths.write(settings, folder)
    return simulated.write(settings, folder)
