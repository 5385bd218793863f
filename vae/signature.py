"""Signatures of bundles, in the format of sigstore's ``model-signing``: bytes in, checksums out.

A signature is a statement in an envelope. The statement names each file with its sha256; the key signs the envelope's
"pre-authentication encoding". What a key does not sign, the frame around both, has one spelling here, so that no letter
of a signature can be changed.

Reference: in-toto Statement v1; DSSE v1.0.2, protocol.md; ``model-signing`` 1.1, ``docs/model_signing_format.md``.
"""

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}  # and the hash that each signs
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT, _PREDICATE = "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0"


class FaultError(ValueError):
    """A key that is none, or a signature that this key did not make; the message says what is wrong with it."""


def public_key(pem: bytes) -> "EllipticCurvePublicKey":
    """The public key of a PEM file.

    Raises:
        FaultError: it is no public key, or not on one of ``CURVES``.
        ImportError: the package cryptography is not installed.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  only where a key is set
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FaultError("is not the PEM file of a public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise FaultError("is another kind of key")
    return key


def refused_key(variable: str, name: str, fault: str, *, kind: str, command: str, undone: str) -> str:
    """The message on the environment's variable of a key, public or private.

    Args:
        variable: of the environment.
        name: its value, the path of a file.
        fault: what is wrong with the file.
        kind: of the key that is wanted.
        command: that writes one.
        undone: what does not happen without the variable.
    """
    return (
        f"{variable} is {name!r}, which {fault}; allowed: the PEM file of {kind} on one of the curves "
        f"{', '.join(CURVES)}, which `{command}` writes, or no {variable}, and nothing is {undone}"
    )


def signed_files(text: bytes, key: "EllipticCurvePublicKey") -> dict[str, str]:
    """The sha256 of each file, by name, as the signature states.

    Args:
        text: content of the signature's file.
        key: that must have made it.

    Raises:
        FaultError: the signature is not one, or not by this key, or its statement is none about files.
    """
    try:
        signature = json.loads(text)
        (signed,) = signature["dsseEnvelope"]["signatures"]
        payload, mark = _bytes(signature["dsseEnvelope"]["payload"]), _bytes(signed["sig"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FaultError("is no signature in the format of model-signing") from error
    hint = name_of(key)
    if signature.get("verificationMaterial") != {"publicKey": {"hint": hint}, "tlogEntries": []}:
        raise FaultError("was made by another key")
    if text != _frame(hint, payload, mark):
        raise FaultError("was edited")
    verify(payload, mark, key)
    try:
        return _files(json.loads(payload))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FaultError("states nothing about files of a model") from error


def _bytes(text: str) -> bytes:
    """The bytes of a text in base64, which has one spelling of them.

    Raises:
        ValueError: it is no such text.
    """
    found = base64.b64decode(text, validate=True)
    if base64.b64encode(found).decode() != text:
        raise binascii.Error("other letters stand for the same bytes")
    return found


def _frame(hint: str, payload: bytes, mark: bytes) -> bytes:
    """The file of a signature, as model-signing writes it."""
    content, signed = base64.b64encode(payload).decode(), base64.b64encode(mark).decode()
    whole: dict[str, Any] = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {"payload": content, "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": signed, "keyid": ""}]},
    }
    return json.dumps(whole, separators=(",", ":")).encode()


def name_of(key: "EllipticCurvePublicKey") -> str:
    """The name of a key in signatures: the sha256 of its PEM file."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def encoded(statement: bytes) -> bytes:
    """The bytes that are signed, DSSE's "pre-authentication encoding" of type and statement."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(statement), statement)


def algorithm(key: "EllipticCurvePublicKey") -> "ECDSA":
    """The algorithm by which a key signs, with the hash of its curve."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.ECDSA(getattr(hashes, CURVES[key.curve.name])())


def verify(statement: bytes, mark: bytes, key: "EllipticCurvePublicKey") -> None:
    """Check a signature of a statement.

    Raises:
        FaultError: the key did not make it of this statement.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    try:
        key.verify(mark, encoded(statement), algorithm(key))
    except InvalidSignature as error:
        raise FaultError("does not fit its statement and the key") from error


def _files(statement: dict[str, Any]) -> dict[str, str]:
    """The files of a statement, which must list them one by one with their sha256.

    Raises:
        ValueError, LookupError, TypeError: it does not.
    """
    if (statement["_type"], statement["predicateType"]) != (_STATEMENT, _PREDICATE):
        _refuse("another kind of statement")
    predicate = statement["predicate"]
    if (predicate["serialization"]["method"], predicate["serialization"]["hash_type"]) != ("files", "sha256"):
        _refuse("files in pieces, or another hash")
    found = {entry["name"]: entry["digest"] for entry in predicate["resources"] if entry["algorithm"] == "sha256"}
    whole = hashlib.sha256(b"".join(bytes.fromhex(entry["digest"]) for entry in predicate["resources"])).hexdigest()
    if len(found) != len(predicate["resources"]) or [whole] != [s["digest"]["sha256"] for s in statement["subject"]]:
        _refuse("a file twice, or a sum that is not that of the files")
    return found


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
