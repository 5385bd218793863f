"""A symbolic link to the bundle that an MLflow alias names, for a server that reads folders only.

The target of the link is a folder named after the version. The link moves in one step and a target is never changed,
so a reader always sees the complete files of one version.
"""

import contextlib
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from deploy.server import logs
from deploy.server.children import temporary_folder
from deploy.server.model_card import beside
from pipeline.errors import InputError
from pipeline.files import atomic
from pipeline.registry import registry

_ADDRESS = re.compile(r"models:/(?P<model>[^/@]+)@(?P<alias>[^/@]+)")
_KEPT = 2  # versions: the current one, and the one before, which may still be read
_PATIENCE = 1.0  # seconds to wait at the end for a registry that does not answer


@contextlib.contextmanager
def mirrored(address: str, *, poll: float) -> Iterator[Path]:
    """A link to the bundle of ``models:/NAME@ALIAS``, which a thread makes, and moves when the alias moves.

    A version that cannot be fetched is logged and the link stays. There is no link before the first version.

    Args:
        address: ``models:/NAME@ALIAS``.
        poll: seconds between two requests to the registry.

    Raises:
        InputError: the address has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(f"{address} is not the address of a model; allowed: a folder or models:/NAME@ALIAS")
    logs.configure()
    done = threading.Event()
    with temporary_folder("volvae-models-") as folder:
        mirror = _Mirror(folder, found["model"], found["alias"])
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
        """Update the link every ``poll`` seconds until the event is set."""
        missing = logs.Once()
        while not done.is_set():
            try:
                self.update()
                missing.reset()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next request may succeed
                consequence = "the former stays" if self._versions else "the server waits for one"
                missing.warning(f"the registry gives no model, {consequence}", str(error))
            done.wait(poll)

    def update(self) -> None:
        """Point the link to the version that the alias names."""
        with registry.opened(model=self._model, experiment=self._model) as models:
            version = models.find(self._alias)
            if self._versions and version.number == self._versions[-1]:
                return
            if version.number not in self._versions:
                models.fetch(version, self._folder / version.number)
                if card := models.card(version):
                    beside(self._folder / version.number).write_bytes(card)
        atomic.point(self.link, version.number)
        self._versions = [*(number for number in self._versions if number != version.number), version.number]
        for number in self._versions[:-_KEPT]:
            shutil.rmtree(self._folder / number)
            beside(self._folder / number).unlink(missing_ok=True)
        self._versions = self._versions[-_KEPT:]
