"""The champion with its model, for whoever compares data or another version with it."""

from typing import NamedTuple

from pipeline.registry.mlflow_store import CONTENT
from pipeline.registry.registry import CHAMPION, OtherFormatError, Registry, Version
from vae.runtime import SurfaceModel, VectorModel


class Champion(NamedTuple):
    """The champion.

    Attributes:
        version: that the alias names.
        model: of it; None where it was not loaded.
        fault: of its bundle, which has a format that this version of volvae does not read; empty where there is none.
    """

    version: Version
    model: SurfaceModel | VectorModel | None
    fault: str = ""


def read(models: Registry, *, own: str | None = None) -> Champion | None:
    """The champion; None where there is none.

    Args:
        models: registry.
        own: content of a version; where it is the champion's too, the model is not loaded.

    Raises:
        StageError: its files are gone, not those that were registered, or not signed by the key that is set.
    """
    version = models.get(CHAMPION)
    if version is None:
        return None
    if own is not None and version.tags.get(CONTENT) == own:
        return Champion(version, None)
    try:
        return Champion(version, models.load(version))
    except OtherFormatError as error:
        return Champion(version, None, str(error))
