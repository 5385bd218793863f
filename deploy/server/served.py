"""The model of a folder that is served, and how one bundle is told from another."""

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from deploy.server import errors
from deploy.server.endpoints import Endpoint, check_time, make_endpoints, warm_up
from vae import bundle, runtime
from vae.bundle import MANIFEST, BundleError, NoBundleError
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

    def endpoint(self, name: str, version: str) -> Endpoint:
        """The endpoint of this name, if this version is served.

        Raises:
            HTTPException: there is none, or another version is served.
        """
        if name not in self.endpoints:
            raise errors.unknown_model(name, self.endpoints)
        if version != self.version:
            raise errors.unknown_version(name, version, self.version)
        return self.endpoints[name]

    @property
    def surfaces(self) -> SurfaceModel:
        """The model, which must be of surfaces.

        Raises:
            HTTPException: it is of vectors.
        """
        if isinstance(self.model, VectorModel):
            raise errors.no_surfaces(self.endpoints)
        return self.model

    def in_time(self, deadline: float) -> SurfaceModel:
        """The model of surfaces, whose calls look at a deadline, on the clock ``time.monotonic``, before each graph.

        Raises:
            HTTPException: it is of vectors.
        """
        return self.surfaces.checked(partial(check_time, deadline))


class Fingerprint(NamedTuple):
    """Tells one bundle from another: the folder behind the link, and the sha256 of the manifest."""

    folder: Path
    manifest: str
    version: str


def load(found: Fingerprint, *, provider: Provider, threads: int, side_by_side: bool = True) -> Served:
    """The model of a folder; its files are verified and every graph was called once.

    Args:
        found: the bundle.
        provider: of onnxruntime, see `vae.runtime.load`.
        threads: of one call.
        side_by_side: whether the graphs start so, see `SurfaceModel.start`.

    Raises:
        ValueError: it cannot be served, or the folder no longer holds the bundle of this fingerprint.
    """
    model = runtime.load(found.folder, provider=provider, threads=threads)
    if fingerprint(found.folder).manifest != found.manifest:
        raise BundleError(f"{found.folder} changed while it was read")
    try:
        model.start(side_by_side=side_by_side)
        warm_up(model)
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise BundleError(f"{found.folder} cannot be run: {' '.join(str(error).split())}") from error
    return Served(found.folder, model, make_endpoints(model), found.version)


def fingerprint(folder: Path) -> Fingerprint:
    """The fingerprint of the bundle that a folder holds now.

    Raises:
        BundleError: it has no manifest, or a name that the answers cannot carry as their version.
    """
    real = folder.resolve()
    try:
        content = bundle.read_file(real / MANIFEST)
    except OSError as error:
        kind = NoBundleError if isinstance(error, FileNotFoundError) else BundleError
        raise kind(f"{folder} is not a bundle: {MANIFEST} cannot be read ({error.strerror})") from error
    manifest = hashlib.sha256(content).hexdigest()
    version = real.name if folder.is_symlink() else manifest[:12]
    if not (version.isascii() and version.isprintable() and version == version.strip()):
        raise BundleError(f"the version {version!r} must be printable ASCII, without blanks around it, as a header is")
    return Fingerprint(real, manifest, version)
