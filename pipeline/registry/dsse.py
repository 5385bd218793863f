"""Signed statements, in the envelopes that in-toto and SLSA use (DSSE): bytes in, bytes out.

Reference: DSSE v1.0.2, protocol.md and envelope.md, https://github.com/secure-systems-lab/dsse;
in-toto attestation framework v1, spec/v1/envelope.md.
"""

import base64
import json
from typing import TYPE_CHECKING

from vae.signature import PAYLOAD_TYPE, FaultError, algorithm, encoded, name_of, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey


def sealed(statement: bytes, key: "EllipticCurvePrivateKey") -> bytes:
    """The envelope of a statement, signed by this key."""
    public = key.public_key()
    return _written(statement, key.sign(encoded(statement), algorithm(public)), public)


def opened(envelope: bytes, key: "EllipticCurvePublicKey") -> bytes:
    """The statement in an envelope.

    Raises:
        FaultError: it is no such envelope, or this key did not sign it.
    """
    try:
        found = json.loads(envelope)
        (signed,) = found["signatures"]
        statement, signature = (base64.b64decode(text, validate=True) for text in (found["payload"], signed["sig"]))
        name = signed["keyid"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FaultError("is no envelope with one signature") from error
    if name != name_of(key):
        raise FaultError("was signed by another key")
    if envelope != _written(statement, signature, key):  # one spelling: no letter beside the signature's can be changed
        raise FaultError("was edited")
    try:
        verify(statement, signature, key)
    except FaultError as error:
        raise FaultError("was edited, or signed by another key") from error
    return statement


def _written(statement: bytes, signature: bytes, key: "EllipticCurvePublicKey") -> bytes:
    payload, signed = (base64.b64encode(content).decode() for content in (statement, signature))
    whole = {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": name_of(key), "sig": signed}]}
    return json.dumps(whole, separators=(",", ":")).encode() + b"\n"
