"""Envelopes of statements: verified by cryptography on what DSSE says is signed, and refused when changed."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.registry import dsse
from vae.signature import FaultError, encoded

_KEYS = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
_HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
_KEY = _KEYS["secp256r1"]
_STATEMENT = json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": []}).encode()
_ENVELOPE = dsse.sealed(_STATEMENT, _KEY)


def test_what_is_signed_is_the_example_of_the_specification() -> None:
    """protocol.md of DSSE v1.0.2 has it for another type, "http://example.com/HelloWorld"."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    ours = encoded(b"hello world")
    assert ours.replace(b"28 application/vnd.in-toto+json", b"29 http://example.com/HelloWorld") == expected


@pytest.mark.parametrize("curve", _KEYS)
@given(statement=st.binary(max_size=200))
def test_signatures_are_those_of_dsse(curve: str, statement: bytes) -> None:
    """By cryptography alone, on bytes that are put together here."""
    key = _KEYS[curve]
    envelope = dsse.sealed(statement, key)
    found = json.loads(envelope)
    kind = found["payloadType"].encode()
    assert kind == b"application/vnd.in-toto+json"
    assert base64.b64decode(found["payload"]) == statement
    (signature,) = found["signatures"]
    signed = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(statement)).encode(), statement])
    key.public_key().verify(base64.b64decode(signature["sig"]), signed, ec.ECDSA(_HASHES[curve]))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(base64.b64decode(signature["sig"]), signed + b" ", ec.ECDSA(_HASHES[curve]))
    assert dsse.opened(envelope, key.public_key()) == statement


def changed(change: Callable[[Any], object]) -> bytes:
    found = copy.deepcopy(json.loads(_ENVELOPE))
    change(found)
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"


_OTHER = base64.b64encode(_STATEMENT.replace(b"[]", b"[1]")).decode()
_FOREIGN = json.loads(dsse.sealed(_STATEMENT, ec.generate_private_key(ec.SECP256R1())))["signatures"]
_EDITS: dict[str, Callable[[Any], object]] = {
    "payload": lambda e: e.update(payload=_OTHER),
    "payload in other letters": lambda e: e.update(payload=e["payload"] + "===="),
    "type": lambda e: e.update(payloadType="application/json"),
    "signature of another key": lambda e: e.update(signatures=_FOREIGN),
    "signature of another key under our name": lambda e: e["signatures"][0].update(sig=_FOREIGN[0]["sig"]),
    "name of the key": lambda e: e["signatures"][0].update(keyid=_FOREIGN[0]["keyid"]),
    "no signature": lambda e: e.update(signatures=[]),
    "two signatures": lambda e: e.update(signatures=2 * e["signatures"]),
    "an empty signature": lambda e: e["signatures"][0].update(sig=""),
    "signatures that are none": lambda e: e.update(signatures=["a"]),
    "a field more": lambda e: e.update(more=1),
    "a field less": lambda e: e.pop("payloadType"),
}


@pytest.mark.parametrize("edit", _EDITS.values(), ids=_EDITS)
def test_each_field_that_is_changed_is_refused(edit: Callable[[Any], object]) -> None:
    assert dsse.opened(changed(lambda _: None), _KEY.public_key()) == _STATEMENT
    with pytest.raises(FaultError, match=r"was edited|another key|is no envelope"):
        dsse.opened(changed(edit), _KEY.public_key())


def test_each_bit_counts() -> None:
    for place in range(8 * len(_ENVELOPE)):
        text = bytearray(_ENVELOPE)
        text[place // 8] ^= 1 << place % 8
        with pytest.raises(FaultError):
            dsse.opened(bytes(text), _KEY.public_key())


@pytest.mark.parametrize("text", [b"", b"[", b"[" * 100_000, b"null", b"{}", b'{"signatures": 1}', b"\xff"])
def test_what_is_no_envelope_is_refused(text: bytes) -> None:
    with pytest.raises(FaultError, match="is no envelope"):
        dsse.opened(text, _KEY.public_key())
