"""Signed statements, in the envelopes that in-toto and SLSA use (DSSE): bytes in, bytes out.

Reference: DSSE v1.0.2, protocol.md and envelope.md, https://github.com/secure-systems-lab/dsse;
in-toto attestation framework v1, spec/v1/envelope.md.
"""

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from vae.signature import CURVES, FaultError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey

_TYPE = "application/vnd.in-toto+json"


def sealed(statement: bytes, key: "EllipticCurvePrivateKey") -> bytes:
    """The envelope of a statement, signed by this key."""
    public = key.public_key()
    return _written(statement, key.sign(_encoded(statement), _algorithm(public)), public)


def opened(envelope: bytes, key: "EllipticCurvePublicKey") -> bytes:
    """The statement in an envelope.

    Raises:
        FaultError: it is no such envelope, or this key did not sign it.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  only where a key is set

    try:
        found = json.loads(envelope)
        (signed,) = found["signatures"]
        statement, signature = (base64.b64decode(text, validate=True) for text in (found["payload"], signed["sig"]))
        name = signed["keyid"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FaultError("is no envelope with one signature") from error
    if name != _name_of(key):
        raise FaultError("was signed by another key")
    if envelope != _written(statement, signature, key):  # one spelling: no letter beside the signature's can be changed
        raise FaultError("was edited")
    try:
        key.verify(signature, _encoded(statement), _algorithm(key))
    except InvalidSignature as error:
        raise FaultError("was edited, or signed by another key") from error
    return statement


def _encoded(statement: bytes) -> bytes:
    """The bytes that are signed, DSSE's "pre-authentication encoding" of type and statement."""
    return b"DSSEv1 %d %s %d %s" % (len(_TYPE), _TYPE.encode(), len(statement), statement)


def _written(statement: bytes, signature: bytes, key: "EllipticCurvePublicKey") -> bytes:
    payload, signed = (base64.b64encode(content).decode() for content in (statement, signature))
    whole = {"payload": payload, "payloadType": _TYPE, "signatures": [{"keyid": _name_of(key), "sig": signed}]}
    return json.dumps(whole, separators=(",", ":")).encode() + b"\n"


def _algorithm(key: "EllipticCurvePublicKey") -> "ECDSA":
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.ECDSA(getattr(hashes, CURVES[key.curve.name])())


def _name_of(key: "EllipticCurvePublicKey") -> str:
    """The name of a key: the sha256 of its PEM file, as in the signatures of bundles."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
