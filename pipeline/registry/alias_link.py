"""A version of the MLflow registry as a folder that follows its alias, for a server that knows only folders.

The folder is a symbolic link whose target is named after the version. It moves in one step, and its target is never
changed: who reads it sees one version, whole.
"""

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from deploy.server import logs
from pipeline.errors import InputError
from pipeline.files import atomic
from pipeline.registry import registry

_ADDRESS = re.compile(r"models:/(?P<model>[^/@]+)@(?P<alias>[^/@]+)")
_KEPT = 2  # versions: the current one, and the one that somebody may still be reading
_PATIENCE = 1.0  # seconds that a registry which does not answer may hold up the end


@contextlib.contextmanager
def mirrored(address: str, *, poll: float) -> Iterator[Path]:
    """A link to the bundle of ``models:/NAME@ALIAS``, which a thread makes, and moves when the alias moves.

    What cannot be fetched is logged, and the link stays; until there is a first version, there is none.

    Args:
        address: of the version.
        poll: seconds between looks at the registry.

    Raises:
        InputError: the address is none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(f"{address} is not the address of a model; allowed: a folder or models:/NAME@ALIAS")
    logs.configure()
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="volvae-models-", ignore_cleanup_errors=True) as folder:
        mirror = _Mirror(Path(folder), found["model"], found["alias"])
        thread = threading.Thread(target=mirror.follow, args=(poll, done), daemon=True)
        thread.start()
        try:
            yield mirror.link
        finally:
            done.set()
            thread.join(_PATIENCE)


class _Mirror:
    def __init__(self, folder: Path, model: str, alias: str) -> None:
        self.link = folder / "current"
        self._folder, self._model, self._alias = folder, model, alias
        self._versions: list[str] = []  # on disk, the current one last

    def follow(self, poll: float, done: threading.Event) -> None:
        """Update again and again, until the event is set."""
        missing = logs.Once()
        while not done.is_set():
            try:
                self.update()
                missing.reset()
            except Exception as error:  # noqa: BLE001 - whatever it is, to look again may help
                told = "the former stays" if self._versions else "the server waits for one"
                missing.warning(f"the registry gives no model, {told}", str(error))
            done.wait(poll)

    def update(self) -> None:
        """Point the link to the version that the alias names."""
        with registry.opened(model=self._model, experiment=self._model) as models:
            version = models.find(self._alias)
            if self._versions and version.number == self._versions[-1]:
                return
            if version.number not in self._versions:
                models.fetch(version, self._folder / version.number)
        atomic.point(self.link, version.number)
        self._versions = [*(number for number in self._versions if number != version.number), version.number]
        for number in self._versions[:-_KEPT]:
            shutil.rmtree(self._folder / number)
        self._versions = self._versions[-_KEPT:]
