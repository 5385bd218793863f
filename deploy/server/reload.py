"""The model that is served: that of a folder, exchanged whole when the folder's manifest changes."""

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

from deploy.server import logs
from deploy.server.endpoints import Model, models, warm_up
from deploy.server.metrics import Metrics
from vae.bundle import MANIFEST, BundleError
from vae.runtime import Provider, SurfaceModel


class Served(NamedTuple):
    """What one request sees from its start to its end.

    Attributes:
        folder: which held the bundle when it was read; behind the link, where the followed folder is one.
    """

    folder: Path
    surfaces: SurfaceModel
    models: dict[str, Model]
    version: str


class Mark(NamedTuple):
    """What tells one bundle from another: the folder behind the link, and the manifest's sha256."""

    folder: Path
    manifest: str
    version: str


class Follower:
    """The newest good model of a folder.

    Attributes:
        served: replaced whole, so that a request holds one or the other.
    """

    served: Served

    def __init__(self, folder: Path, *, provider: Provider, threads: int, metrics: Metrics) -> None:
        self.folder, self._provider, self._threads, self._metrics = folder, provider, threads, metrics
        self._mark: Mark | None = None
        self._refused = logs.Once()

    def first(self, *, poll: float) -> None:
        """Wait until there is a good one."""
        while not self.refresh():
            time.sleep(poll)

    def refresh(self) -> bool:
        """Look at the folder, and serve what it holds if that is new and good; whether it is good."""
        try:
            found = mark(self.folder)
            if found != self._mark:
                self._exchange(load(found, provider=self._provider, threads=self._threads))
                self._mark = found
        except Exception as error:  # noqa: BLE001 - whatever it is, to look again may help
            if self._refused.warning("a bundle is refused, the former stays", str(error)):
                self._metrics.refused.inc()
            return False
        self._refused.well()
        return True

    def _exchange(self, new: Served) -> None:
        old = self._mark and self.served.version
        self.served = new
        if old is not None:
            self._metrics.swaps.inc()
            self._metrics.workers.labels(old).set(0)
        self._metrics.workers.labels(new.version).set(1)
        logs.info("serves a model", version=new.version, former=old, provider=new.surfaces.provider)


def load(found: Mark, *, provider: Provider, threads: int) -> Served:
    """The model of a folder, its files verified and every graph called once.

    Raises:
        ValueError: it is not fit to serve, or no longer the one that was found.
    """
    surfaces = SurfaceModel.load(found.folder, provider=provider, threads=threads)
    if mark(found.folder).manifest != found.manifest:
        raise BundleError(f"{found.folder} changed while it was read")
    try:
        warm_up(surfaces)
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise BundleError(f"{found.folder} cannot be run: {' '.join(str(error).split())}") from error
    return Served(found.folder, surfaces, models(surfaces), found.version)


def mark(folder: Path) -> Mark:
    """What the folder holds now.

    Raises:
        BundleError: it has no manifest.
    """
    real = folder.resolve()
    try:
        content = (real / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: {MANIFEST} cannot be read ({error.strerror})") from error
    manifest = hashlib.sha256(content).hexdigest()
    return Mark(real, manifest, real.name if folder.is_symlink() else manifest[:12])
