"""Signed bundles that somebody changed: ``python -m chaos.tamper --trials 1000 --seed 1``.

An attacker may write any file of the folder and knows other signed bundles, but not the key. Each change must be
refused; the bundle as it was signed is loaded.
"""

import argparse
import base64
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chaos.damage import DAMAGES
from pipeline.files import formats
from pipeline.registry.signing import SIGNING_KEY, signing_key
from vae import runtime
from vae.bundle import DECODER, MANIFEST, SIGNATURE, VERIFY_KEY, BundleError

_DEMO = Path(__file__).parents[1] / "deploy/demo/bundle"


class Signed(NamedTuple):
    """Bundles that an attacker knows, in one folder, and the key that must have signed what is loaded.

    Attributes:
        ours: signed by the key.
        other: another bundle, signed by the same key.
        foreign: the first one, signed by another key.
        key: the public key.
    """

    ours: Path
    other: Path
    foreign: Path
    key: Path


Tampering = Callable[[Path, Signed, random.Random], None]


def write_key(folder: Path, name: str) -> tuple[Path, Path]:
    """A new private key and its public key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def signed_bundles(bundle: Path, folder: Path) -> Signed:
    """Copies of a bundle in an empty folder, signed by new keys."""
    (key, public), (stranger, _) = write_key(folder, "key"), write_key(folder, "stranger")
    found = Signed(folder / "ours", folder / "other", folder / "foreign", public)
    for copy, by in ((found.ours, key), (found.other, key), (found.foreign, stranger)):
        shutil.copytree(bundle, copy)
        if copy == found.other:
            _remake(copy, lambda content: content + b"\x9a\x06\x00")  # an empty field that onnx does not know
        os.environ[SIGNING_KEY] = str(by)
        try:
            signer = signing_key()
        finally:
            del os.environ[SIGNING_KEY]
        if signer is not None:
            signer.sign(copy, copy)
    return found


def _remake(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the decoder, and the manifest with it, so that all checksums are right."""
    manifest, content = formats.read_json(folder / MANIFEST), change((folder / DECODER).read_bytes())
    (folder / DECODER).write_bytes(content)
    manifest["files"][DECODER] = {"sha256": formats.sha256(content), "bytes": len(content)}
    formats.write_json(folder / MANIFEST, manifest)


def _file(folder: Path, drawn: random.Random) -> Path:
    return drawn.choice(sorted(folder.iterdir()))


def _damaged(name: str) -> Tampering:
    def tamper(folder: Path, _: Signed, drawn: random.Random) -> None:
        path = _file(folder, drawn)
        content = DAMAGES[name](path.read_bytes(), drawn)
        path.unlink() if content is None else path.write_bytes(content)

    return tamper


def _added(folder: Path, _: Signed, drawn: random.Random) -> None:
    names = (".gitattributes", ".gitignore", "weights.bin", "decoder.onnx.data", "extra.onnx", "deeper/decoder.onnx")
    path = folder / drawn.choice(names)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(drawn.randbytes(drawn.randrange(64)))


def _renamed(folder: Path, _: Signed, drawn: random.Random) -> None:
    path = _file(folder, drawn)
    path.rename(path.with_name(drawn.choice((f"{path.name}.bak", path.name.upper(), f"a{path.name}"))))


def _swapped(folder: Path, _: Signed, drawn: random.Random) -> None:
    one, two = drawn.sample(sorted(folder.iterdir()), 2)
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


def _remade(folder: Path, _: Signed, drawn: random.Random) -> None:
    _remake(folder, lambda content: DAMAGES["one bit"](content, drawn) or b"")


def _mixed(folder: Path, known: Signed, drawn: random.Random) -> None:
    """The signature of another bundle, or the files that differ of it, or one of these."""
    names = drawn.choice(([SIGNATURE], [DECODER], [MANIFEST], [DECODER, MANIFEST], [DECODER, SIGNATURE]))
    for name in names:
        shutil.copyfile(known.other / name, folder / name)


def _foreign(folder: Path, known: Signed, drawn: random.Random) -> None:
    """The signature by another key, perhaps with the name of ours in it."""
    text = formats.read_json(known.foreign / SIGNATURE)
    if drawn.random() < 0.5:
        text["verificationMaterial"] = formats.read_json(folder / SIGNATURE)["verificationMaterial"]
    _write_signature(folder, text)


def _linked(folder: Path, known: Signed, drawn: random.Random) -> None:
    """A link to a file with the same content, or one beside the files."""
    path = _file(folder, drawn)
    if drawn.random() < 0.5:
        path.unlink()
    else:
        path = path.with_name(f"link-{path.name}")
    path.symlink_to(known.ours / path.name.removeprefix("link-"))


def _edited(folder: Path, _: Signed, drawn: random.Random) -> None:
    """A signature with other words in it, or other words around it."""
    text = formats.read_json(folder / SIGNATURE)
    envelope = text["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    edit = drawn.randrange(8)
    if edit == 0:
        (folder / SIGNATURE).write_bytes(drawn.choice((b"", b"{}", b"null", b"[]", b'""', b"[" * 10_000)))
        return
    if edit == 1:
        (folder / SIGNATURE).write_text(json.dumps(text, indent=drawn.randrange(3)))
        return
    if edit == 2:
        envelope["signatures"] = drawn.choice(([], envelope["signatures"] * 2, [{"sig": "", "keyid": ""}], None))
    elif edit == 3:
        envelope["payloadType"] = drawn.choice(("", "application/json", "application/vnd.in-toto+json "))
    elif edit == 4:
        text["verificationMaterial"] = drawn.choice(({}, {"publicKey": {}}, {"publicKey": {"hint": ""}}, None))
    elif edit == 5:
        drawn.choice((text, envelope, envelope["signatures"][0]))["more"] = drawn.choice((None, "", 1, {}))
    else:
        if edit == 6:
            drawn.choice(statement["predicate"]["resources"])["digest"] = drawn.randbytes(32).hex()
        else:
            statement["predicate"]["resources"].pop(drawn.randrange(len(statement["predicate"]["resources"])))
        envelope["payload"] = base64.b64encode(json.dumps(statement, indent=2).encode()).decode()
    _write_signature(folder, text)


def _write_signature(folder: Path, text: Mapping[str, object]) -> None:
    (folder / SIGNATURE).write_text(json.dumps(text, separators=(",", ":")))


TAMPERINGS: Mapping[str, Tampering] = {
    **{name: _damaged(name) for name in DAMAGES},
    "added": _added, "renamed": _renamed, "swapped": _swapped, "made anew": _remade, "of another bundle": _mixed,
    "by another key": _foreign, "link": _linked, "signature edited": _edited,
}  # fmt: skip


def trials(known: Signed, folder: Path, *, trials: int, seed: int) -> Iterator[tuple[str, str]]:
    """The kind of each change, in turns, and why it was refused; empty where it was not."""
    for number in range(trials):
        kind = list(TAMPERINGS)[number % len(TAMPERINGS)]
        copy = folder / str(number)
        shutil.copytree(known.ours, copy)
        TAMPERINGS[kind](copy, known, random.Random(f"{seed} {number}"))  # noqa: S311 - no secret
        yield kind, refusal(copy)
        shutil.rmtree(copy)


def refusal(folder: Path) -> str:
    """Why a bundle is refused; empty where it is loaded."""
    try:
        runtime.load(folder, provider="cpu", threads=1)
    except BundleError as error:
        return str(error)
    return ""


def main() -> int:
    """Print a row for each kind of change; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = signed_bundles(_DEMO, Path(folder))
        os.environ[VERIFY_KEY] = str(known.key)
        found = [("nothing", refusal(known.ours)), ("nothing", refusal(known.other))]
        found += trials(known, Path(folder), trials=options.trials, seed=options.seed)
    counts = Counter(kind for kind, _ in found)
    refused = Counter(kind for kind, why in found if why)
    print(f"{'changed':20}{'trials':>8}{'refused':>9}")
    for kind, count in counts.items():
        print(f"{kind:20}{count:8}{refused[kind]:9}")
    right = refused["nothing"] == 0 and all(refused[kind] == counts[kind] for kind in counts if kind != "nothing")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
