"""Folders that are built once in a test run, by the first worker that needs them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the whole run; each worker has its own below it."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def built_once(
    factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object], *, kept: pytest.Config | None = None
) -> Path:
    """The folder of this name, which all workers of the run share; tests must not change it.

    With ``kept`` it is in pytest's cache, for the next runs too: for what follows from its name alone.

    It is built where it stays, since its files may name its path. A file beside it says that it is complete, so that a
    folder whose build failed is never used.
    """
    cache = getattr(kept, "cache", None)  # None where the option -p no:cacheprovider is given
    common = cache.mkdir("folders") if cache else common_folder(factory)
    folder, complete = common / name, common / f"{name}.complete"
    with FileLock(common / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            complete.touch()
    return folder
