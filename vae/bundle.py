"""The bundle: the names of its files, and reading them with a check against the manifest."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae import signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

Array = NDArray[Any]

FORMAT = 4
MANIFEST = "manifest.json"
DECODER, ENCODER, SAMPLER, COMPLETER, SCORER = GRAPHS = (
    "decoder.onnx",
    "encoder.onnx",
    "sampler.onnx",
    "completer.onnx",
    "scorer.onnx",
)
HALF_DECODER = "decoder_fp16.onnx"
SCENARIOS = "scenarios.onnx"  # of a model with a law of motion
SIGNATURE = "model.sig"  # of a bundle that was signed
VERIFY_KEY = "VOLVAE_VERIFY_KEY"  # of the environment: the public key that must have signed every bundle
_EXTERNAL = b"location"  # the key with which a graph names such a file; graphs of bundles do not have the word
_MOST_BYTES = 512 * 2**20  # of a file; a graph has one or two megabytes
_MOST_MANIFEST = 16 * 2**20  # of a manifest, which has 60,000
_MOST_SIGNATURE = 2**20  # of a signature, which has 4,000, or a key
_MOST_READS = 100  # of a folder that is replaced all the time
QUANTILES = np.linspace(0.0, 1.0, 1001)  # levels of the quantiles of scores in the manifest
SCORES = ("nats_a_point", "misfit_a_point", "distance", "largest_error")  # what held-out surfaces are ranked by


def measured(nats: Array, misfit: Array, distance: Array, error: Array, points: Array) -> dict[str, Array]:
    """The numbers that rank surfaces or vectors, each [batch], by the names of ``SCORES``.

    Args:
        nats: the output of the scorer, as the next two, [batch].
        misfit: chi-square of the errors.
        distance: squared length of the latents.
        error: of the points, [batch, ...].
        points: numbers of known points, [batch].
    """
    largest = np.abs(error).reshape(len(error), -1).max(1)
    return dict(zip(SCORES, (nats / points, misfit / points, distance, largest), strict=True))


SURFACES, VECTORS = "surfaces", "vectors"  # kinds of bundles
_CLASSES = {SURFACES: "SurfaceModel", VECTORS: "VectorModel"}  # of vae.runtime, which load them


class Layout(NamedTuple):
    """Name of the tensor that the graphs of a bundle read and write, and the shape of one surface or vector."""

    tensor: str
    shape: tuple[int, ...]

    @classmethod
    def of_surfaces(cls, shape: tuple[int, int]) -> "Layout":
        """Vols ``iv`` [tenor, node]."""
        return cls("iv", shape)

    @classmethod
    def of_vectors(cls, dimension: int) -> "Layout":
        """Points ``x`` [D]."""
        return cls("x", (dimension,))


class BundleError(ValueError):
    """The folder is not a bundle, was altered, or has another format than this version reads."""


class NoBundleError(BundleError):
    """There is no bundle in the folder."""


class FormatError(BundleError):
    """The bundle has another format than this version reads."""


class KeyFileError(BundleError):
    """The file that ``VOLVAE_VERIFY_KEY`` names is no public key that can be used."""


class SignatureError(BundleError):
    """The bundle is not what the key of ``VOLVAE_VERIFY_KEY`` signed.

    Attributes:
        fault: the reason, without the folder.
    """

    def __init__(self, folder: Path, fault: str) -> None:
        super().__init__(f"{folder} is refused: {fault}")
        self.fault = fault


Read = Callable[[Path], bytes]  # the content of a file of a bundle


def read_file(path: Path, most: int = _MOST_BYTES) -> bytes:
    """The content of a regular file.

    A pipe or a device, which may have no end or no beginning, is not read.

    Raises:
        OSError: it cannot be read.
        BundleError: it is no regular file, or larger than a file of a bundle is.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is not a regular file")
        if status.st_size > most:
            raise BundleError(f"{path} has {status.st_size} bytes; a file of a bundle has at most {most}")
        return file.read(most)


def verify_key() -> "EllipticCurvePublicKey | None":
    """The key that must have signed every bundle; None where ``VOLVAE_VERIFY_KEY`` is not set.

    Raises:
        KeyFileError: it is set and names no public key that can be used, or the package for it is missing.
    """
    name = os.environ.get(VERIFY_KEY)
    if name is None:
        return None
    try:
        return signature.public_key(read_file(Path(name), _MOST_SIGNATURE))
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except BundleError:
        fault = "is not a file with a key"
    except signature.FaultError as error:
        fault = str(error)
    except ImportError as error:
        raise KeyFileError(f"{VERIFY_KEY} is set, which needs cryptography: pip install 'volvae[verify]'") from error
    command = "openssl ec -in PRIVATE -pubout"
    raise KeyFileError(
        signature.refused_key(VERIFY_KEY, name, fault, kind="a public key", command=command, undone="verified")
    )


def read_manifest(folder: Path, read: Read | None = None) -> dict[str, Any]:
    """The manifest of a bundle.

    Args:
        folder: of the bundle.
        read: from where; the disk by default.

    Raises:
        NoBundleError: the folder has no manifest.
        FormatError: the bundle has another format.
        BundleError: the manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(read(path) if read else read_file(path, _MOST_MANIFEST))
        found = manifest["format"]
    except FileNotFoundError as error:
        raise NoBundleError(f"{folder} is not a bundle: {path} cannot be read ({error.strerror})") from error
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: {path} cannot be read ({error.strerror})") from error
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is not the manifest of a bundle: {error!r}") from error
    if found != FORMAT:
        raise FormatError(f"{path} has format {found!r}; this version of volvae reads format {FORMAT}")
    return dict(manifest)


def read_whole(
    folder: Path,
    names: Sequence[str],
    *,
    optional: Sequence[str] = (),
    kind: str | None = None,
    check_signature: bool = True,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest of a bundle and the content of some of its files, all of one bundle.

    Where the folder is replaced meanwhile, it is read again. What is returned are the bytes that were verified.

    Args:
        folder: of the bundle.
        names: of the files.
        optional: names of more files, of which those are read that the manifest names.
        kind: that the bundle must have; any by default.
        check_signature: whether the bundle must be signed where ``VOLVAE_VERIFY_KEY`` is set; False for one that the
            caller made.

    Raises:
        KeyFileError: ``VOLVAE_VERIFY_KEY`` names no key.
        SignatureError: the bundle is not what that key signed.
        FormatError: the bundle has another format.
        BundleError: the folder, its manifest or one of its files is missing or altered, or the bundle is of another
            kind.
    """
    key = verify_key() if check_signature else None
    for _ in range(_MOST_READS):
        before = _identity(folder)
        try:
            read = None if key is None else signed_reader(folder, key)
            manifest = read_manifest(folder, read)
            found = kind_of(manifest)
            if kind not in (None, found):
                raise BundleError(f"{folder} is a bundle of {found}; load it with vae.runtime.{_CLASSES[found]}")
            present = [name for name in optional if name in manifest.get("files", ())]
            return manifest, {name: read_content(folder / name, manifest, read) for name in (*names, *present)}
        except BundleError:
            if _identity(folder) == before:
                raise
    raise BundleError(f"{folder} was replaced {_MOST_READS} times while it was read")


def signed_reader(folder: Path, key: "EllipticCurvePublicKey") -> Read:
    """Reads the files of a bundle from memory, where all of them are what the key signed and there are no others.

    Raises:
        SignatureError: they are not.
    """
    digests = _signed_digests(folder, key)
    contents = {}
    for name, digest in digests.items():
        try:
            contents[name] = read_file(folder / name)
        except OSError as error:
            raise SignatureError(folder, f"{name} cannot be read ({error.strerror})") from error
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise SignatureError(folder, f"{name} is not what was signed, and {_wanted()}")

    def read(path: Path) -> bytes:
        try:
            return contents[path.name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None

    return read


def _signed_digests(folder: Path, key: "EllipticCurvePublicKey") -> dict[str, str]:
    """The sha256 of each file that the key signed, by name, where the folder has these files, no others and no links.

    Raises:
        SignatureError: it has not, or the key signed nothing.
    """
    if not folder.is_dir():
        raise NoBundleError(f"{folder} is not a bundle: there is no such folder")
    try:
        found = {entry.name: entry.is_symlink() for entry in os.scandir(folder)}
        if links := sorted(name for name, is_link in found.items() if is_link):
            raise SignatureError(folder, f"{links[0]} is a link, and {_wanted()}")
        digests = signature.signed_files(read_file(folder / SIGNATURE, _MOST_SIGNATURE), key)
    except FileNotFoundError as error:
        raise SignatureError(folder, f"it has no {SIGNATURE}, and {_wanted()}") from error
    except OSError as error:
        raise SignatureError(folder, f"{SIGNATURE} cannot be read ({error.strerror}), and {_wanted()}") from error
    except signature.FaultError as error:
        raise SignatureError(folder, f"{SIGNATURE} {error}, and {_wanted()}") from error
    if others := sorted((found.keys() - {SIGNATURE}) ^ digests.keys()):
        has = "was added to" if others[0] in found else "is missing of"
        raise SignatureError(folder, f"{others[0]} {has} what was signed, and {_wanted()}")
    return digests


def _wanted() -> str:
    """The rule that a bundle broke, and the step that mends it."""
    return (
        f"{VERIFY_KEY} lets in only what the key {os.environ.get(VERIFY_KEY)} signed; `volvae sign VERSION` signs a "
        f"version, `volvae fetch VERSION -o FOLDER` writes it with its signature"
    )


def _identity(folder: Path) -> tuple[int, ...] | None:
    """Device, inode and time of change of a folder; None where there is none.

    They tell a folder from the one that takes its place: even if that has the same inode, its time differs.
    """
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def kind_of(manifest: Mapping[str, Any]) -> str:
    """``SURFACES`` or ``VECTORS``; a manifest that does not say it is of surfaces.

    Raises:
        BundleError: it says something else.
    """
    kind = str(manifest.get("kind", SURFACES))
    if kind not in _CLASSES:
        raise BundleError(f"{MANIFEST} has kind {kind[:100]!r}; this version of volvae reads {', '.join(_CLASSES)}")
    return kind


def read_content(path: Path, manifest: Mapping[str, Any], read: Read | None = None) -> bytes:
    """The content of a file of a bundle.

    Args:
        path: of the file.
        manifest: of the bundle.
        read: from where; the disk by default.

    Raises:
        BundleError: the file is missing, its sha256 is not that of the manifest, or it is a graph with weights in
            another file, which could be any file of the machine.
    """
    try:
        content = (read or read_file)(path)
        expected = manifest["files"][path.name]["sha256"]
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})") from error
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path.parent / MANIFEST} does not name {path.name}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"{path} was altered: its sha256 is {found}, the manifest says {expected}")
    if path.suffix == ".onnx" and _EXTERNAL in content:
        raise BundleError(f"{path} has weights in another file; the graphs of a bundle have all of theirs inside")
    return content
