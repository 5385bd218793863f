"""Hot reload: the model of a folder, replaced as a whole when the folder's manifest changes."""

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

from deploy.server import errors, logs
from deploy.server.endpoints import Endpoint, make_endpoints, warm_up
from deploy.server.metrics import Metrics
from vae import runtime
from vae.bundle import MANIFEST, BundleError
from vae.runtime import Provider, SurfaceModel, VectorModel


class Served(NamedTuple):
    """The model that one request uses from its start to its end.

    Attributes:
        folder: from which the bundle was read; if the followed folder is a symbolic link, its target.
        model: the runtime over all graphs.
        endpoints: one for each graph, by its name.
        version: name of the link's target, or the start of the manifest's sha256.
    """

    folder: Path
    model: SurfaceModel | VectorModel
    endpoints: dict[str, Endpoint]
    version: str

    @property
    def surfaces(self) -> SurfaceModel:
        """The model, which must be of surfaces.

        Raises:
            HTTPException: it is of vectors.
        """
        if isinstance(self.model, VectorModel):
            raise errors.no_surfaces(self.endpoints)
        return self.model


class Fingerprint(NamedTuple):
    """Tells one bundle from another: the folder behind the link, and the sha256 of the manifest."""

    folder: Path
    manifest: str
    version: str


class Follower:
    """Serves the newest healthy model of a folder.

    Attributes:
        served: replaced as a whole, so that a request holds either the old or the new model.
    """

    served: Served

    def __init__(self, folder: Path, *, provider: Provider, threads: int, metrics: Metrics) -> None:
        self.folder, self._provider, self._threads, self._metrics = folder, provider, threads, metrics
        self._fingerprint: Fingerprint | None = None
        self._refused = logs.Once()

    def wait_for_model(self, *, poll: float) -> None:
        """Check the folder every ``poll`` seconds until there is a healthy model."""
        while not self.refresh():
            time.sleep(poll)

    def refresh(self) -> bool:
        """Check the folder, and serve its model if it is new; returns whether the model is healthy."""
        try:
            found = fingerprint(self.folder)
            if found != self._fingerprint:
                self._exchange(load(found, provider=self._provider, threads=self._threads))
                self._fingerprint = found
        except Exception as error:  # noqa: BLE001 - the next check may succeed, whatever failed
            if self._refused.warning("a bundle is refused, the former stays", str(error)):
                self._metrics.refused.inc()
            return False
        self._refused.reset()
        return True

    def _exchange(self, new: Served) -> None:
        old = self._fingerprint and self.served.version
        self.served = new
        if old is not None:
            self._metrics.swaps.inc()
            self._metrics.workers.labels(old).set(0)
        self._metrics.workers.labels(new.version).set(1)
        logs.info("serves a model", version=new.version, former=old, provider=new.model.provider)


def load(found: Fingerprint, *, provider: Provider, threads: int) -> Served:
    """The model of a folder; its files are verified and every graph was called once.

    Raises:
        ValueError: it cannot be served, or the folder no longer holds the bundle of this fingerprint.
    """
    model = runtime.load(found.folder, provider=provider, threads=threads)
    if fingerprint(found.folder).manifest != found.manifest:
        raise BundleError(f"{found.folder} changed while it was read")
    try:
        warm_up(model)
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise BundleError(f"{found.folder} cannot be run: {' '.join(str(error).split())}") from error
    return Served(found.folder, model, make_endpoints(model), found.version)


def fingerprint(folder: Path) -> Fingerprint:
    """The fingerprint of the bundle that a folder holds now.

    Raises:
        BundleError: it has no manifest.
    """
    real = folder.resolve()
    try:
        content = (real / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: {MANIFEST} cannot be read ({error.strerror})") from error
    manifest = hashlib.sha256(content).hexdigest()
    return Fingerprint(real, manifest, real.name if folder.is_symlink() else manifest[:12])
