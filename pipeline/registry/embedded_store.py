"""An MLflow store that is an SQLite file, with the folder ``mlartifacts`` beside it.

It keeps the locations of artifacts relative to its folder, so that both can be moved or copied together; ``mlflow ui``,
started in that folder, finds them.
"""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from pipeline.errors import StageError

try:
    import fcntl
except ImportError:  # Windows, where processes that promote at once are not kept apart
    fcntl = None  # type: ignore[assignment]

ARTIFACTS = "mlartifacts"
_SCHEME = "sqlite:///"
_BEGUN = re.compile(r"\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-journal|-wal|-shm)?")  # end of a begun store's name
_HOUR = 3600.0  # seconds
_PATIENCE, _PAUSE = 300.0, 0.02  # seconds in which another process ends, and between two looks


class EmbeddedStore(NamedTuple):
    """The place of an embedded store.

    Attributes:
        database: absolute path of the SQLite file.
    """

    database: Path

    @property
    def uri(self) -> str:
        """The address that MLflow takes."""
        return f"{_SCHEME}{self.database}"

    def create(self, fill: Callable[[str], object]) -> None:
        """Make the store where there is none, completely or not at all: MLflow cannot mend half a store.

        One thread of a process at a time may do so.

        Args:
            fill: makes the tables of the database at an address.

        Raises:
            OSError: the folder is missing, or cannot be written.
        """
        if self.database.exists():
            return
        name = f".{self.database.name}"
        for left in self.database.parent.glob(f"{name}.*"):
            if _BEGUN.fullmatch(left.name.removeprefix(name)) and _is_old(left):
                left.unlink()
        begun = EmbeddedStore(self.database.with_name(f"{name}.{uuid4()}"))  # a new name, as MLflow keeps stores by it
        begun.database.touch()  # refused where the folder is missing, which MLflow would make
        fill(begun.uri)
        begun.database.replace(self.database)

    @contextlib.contextmanager
    def alone(self, address: str) -> Iterator[None]:
        """Keep other processes that ask for it out.

        The kernel frees the lock when its holder ends, in whatever way.

        Args:
            address: of the store, for the error.

        Raises:
            StageError: another one holds it for minutes.
        """
        with contextlib.ExitStack() as stack:
            if fcntl:
                folder = os.open(self.database.parent, os.O_RDONLY)  # of its own the lock leaves no file
                stack.callback(os.close, folder)
                _lock(folder, address)
            yield

    def make_relative(self, experiment: str) -> None:
        """Set the location of an experiment's artifacts, which MLflow makes absolute, back to one in the folder."""
        with contextlib.closing(sqlite3.connect(self.database)) as database, database:
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (ARTIFACTS, experiment)
            )

    def folder(self, location: str) -> Path | None:
        """The folder of artifacts at a location; None where that is the address of another place."""
        return None if urlsplit(location).scheme else self.database.parent / location


def at(uri: str) -> EmbeddedStore | None:
    """The embedded store at an address; None where that is a server's."""
    return EmbeddedStore(Path(uri.removeprefix(_SCHEME)).absolute()) if uri.startswith(_SCHEME) else None


def _lock(folder: int, address: str) -> None:
    """Lock an open folder."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise StageError(f"the MLflow store {address} is held by another process") from None
            time.sleep(_PAUSE)


def _is_old(path: Path) -> bool:
    """Whether nobody writes a file any more: to make a store takes seconds."""
    return time.time() - path.stat().st_mtime > _HOUR
