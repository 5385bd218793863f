"""Signing the bundles of versions, by sigstore's ``model-signing`` with a key of one's own."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError
from pipeline.registry import dsse
from vae import bundle
from vae.bundle import GRAPHS, HALF_DECODER, MANIFEST, SCENARIOS, SIGNATURE, BundleError
from vae.signature import CURVES, FaultError, refused_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SIGNING_KEY = "VOLVAE_SIGNING_KEY"  # of the environment: the private key that signs versions


class SigningKey:
    """A private key that signs bundles."""

    def __init__(self, path: Path, key: "EllipticCurvePrivateKey") -> None:
        self._path, self._key = path, key

    def has_signed(self, folder: Path) -> bool:
        """Whether a bundle carries the signature of this key, and all of its files are as it says."""
        try:
            bundle.signed_reader(folder, self._key.public_key())
        except BundleError:
            return False
        return True

    @property
    def public(self) -> "EllipticCurvePublicKey":
        """The public key."""
        return self._key.public_key()

    def sealed(self, statement: bytes) -> bytes:
        """The envelope of a statement that this key signs."""
        return dsse.sealed(statement, self._key)

    def sign(self, folder: Path, into: Path) -> Path:
        """Write the signature of a bundle into a folder; its path.

        A copy of the files that were checked against the manifest is signed, and no other file.

        Raises:
            BundleError: the bundle is damaged, or changed while it was read.
        """
        from model_signing import hashing, signing  # noqa: PLC0415  which takes a second, and only a signature needs it

        manifest, contents = bundle.read_whole(
            folder, GRAPHS, optional=(SCENARIOS, HALF_DECODER), check_signature=False
        )
        contents[MANIFEST] = bundle.read_file(folder / MANIFEST)
        if json.loads(contents[MANIFEST]) != manifest:  # else a manifest would be signed that nobody checked
            raise BundleError(f"{folder} changed while it was read")
        with tempfile.TemporaryDirectory(prefix="volvae-") as copy:
            model = Path(copy) / folder.name
            model.mkdir()
            for name, content in contents.items():
                (model / name).write_bytes(content)
            # so that the signature may lie in the folder that it is of
            hashed = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
            signer = signing.Config().use_elliptic_key_signer(private_key=self._path).set_hashing_config(hashed)
            signer.sign(model, model / SIGNATURE)
            bundle.signed_reader(model, self._key.public_key())  # as whoever loads it will
            (into / SIGNATURE).write_bytes((model / SIGNATURE).read_bytes())
        return into / SIGNATURE


def signing_key() -> SigningKey | None:
    """The key that signs versions; None where ``VOLVAE_SIGNING_KEY`` is not set.

    Raises:
        InputError: it is set and names no private key that can be used, or the packages for it are missing.
    """
    name = os.environ.get(SIGNING_KEY)
    if name is None:
        return None
    try:
        return SigningKey(Path(name), _private_key(bundle.read_file(Path(name))))
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except BundleError:
        fault = "is not a file with a key"
    except FaultError as error:
        fault = str(error)
    except ImportError as error:
        raise InputError(f"{SIGNING_KEY} is set, which needs model-signing: pip install 'volvae[sign]'") from error
    command = "openssl ecparam -name prime256v1 -genkey -noout"
    kind = "a private key without a password"
    raise InputError(refused_key(SIGNING_KEY, name, fault, kind=kind, command=command, undone="signed"))


def _private_key(pem: bytes) -> "EllipticCurvePrivateKey":
    """The private key of a PEM file.

    Raises:
        FaultError: it is none, has a password, or is on another curve.
        ImportError: a package is missing.
    """
    import model_signing  # noqa: F401, PLC0415  which signs later; missing packages are found now
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise FaultError("is protected by a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FaultError("is not the PEM file of a private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise FaultError("is another kind of key")
    return key
