"""Signed bundles: what is loaded where a key is set, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chaos import tamper
from chaos.tamper import Signed
from vae import bundle, runtime, signature
from vae.bundle import DECODER, GRAPHS, MANIFEST, SIGNATURE, VERIFY_KEY, BundleError, KeyFileError, SignatureError


@pytest.fixture(scope="module")
def signed(linear_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return tamper.signed_bundles(linear_bundle, tmp_path_factory.mktemp("signed"))


@pytest.fixture
def folder(signed: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the signed bundle; its key is set."""
    monkeypatch.setenv(VERIFY_KEY, str(signed.key))
    return shutil.copytree(signed.ours, tmp_path / "bundle")


def test_a_signed_bundle_is_loaded_by_every_path(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder.name)  # as of a server that follows an alias
    for path in (folder, tmp_path / "link"):
        assert runtime.load(path, provider="cpu").manifest == json.loads((folder / MANIFEST).read_text())
        _, contents = bundle.read_whole(path, GRAPHS)
        assert contents == {name: (folder / name).read_bytes() for name in GRAPHS}


def test_a_hundred_tamperings_are_refused(signed: Signed, folder: Path, tmp_path: Path) -> None:
    """As `python -m chaos.tamper` does a thousand; some of each kind."""
    found = list(tamper.trials(signed, tmp_path, trials=100, seed=21))
    assert [kind for kind, why in found if not why] == []
    assert {kind for kind, _ in found} == tamper.TAMPERINGS.keys()
    assert all("\n" not in why for _, why in found)
    assert tamper.refusal(folder) == ""


def test_no_bit_of_a_signature_can_be_changed(signed: Signed) -> None:
    """Each letter, by one of its bits: also of what the key does not sign, and of letters that stand for nothing."""
    text, key = (signed.ours / SIGNATURE).read_bytes(), signature.public_key(signed.key.read_bytes())
    assert signature.signed_files(text, key).keys() == {*GRAPHS, MANIFEST}
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1 << place % 8
        with pytest.raises(signature.FaultError):
            signature.signed_files(bytes(changed), key)
        with pytest.raises(signature.FaultError):
            signature.signed_files(text[:place] + b" " + text[place:], key)


def test_the_bytes_that_were_verified_are_those_that_are_loaded(
    folder: Path, signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever exchanges a file after it was verified changes nothing."""
    read, expected = bundle.read_file, (folder / DECODER).read_bytes()

    def read_and_exchange(path: Path, *most: int) -> bytes:
        content = read(path, *most)
        if path.parent == folder and path.name != SIGNATURE:
            path.write_bytes(b"evil")
        return content

    monkeypatch.setattr(bundle, "read_file", read_and_exchange)
    assert runtime.load(folder, provider="cpu")._graphs[DECODER]._content == expected
    assert (folder / DECODER).read_bytes() == b"evil"


def test_without_a_key_signatures_are_not_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VERIFY_KEY)
    (folder / SIGNATURE).write_bytes(b"broken")
    runtime.load(folder, provider="cpu")


def test_a_bundle_that_the_caller_made_needs_no_signature(folder: Path) -> None:
    (folder / SIGNATURE).unlink()
    runtime.load(folder, provider="cpu", check_signature=False)
    with pytest.raises(SignatureError, match=r"has no model\.sig, and VOLVAE_VERIFY_KEY lets in only .* `volvae sign"):
        runtime.load(folder, provider="cpu")


def test_a_folder_without_a_bundle_is_called_so(folder: Path) -> None:
    with pytest.raises(bundle.NoBundleError, match="is not a bundle"):
        runtime.load(folder / "gone")


@pytest.mark.parametrize("name", [MANIFEST, DECODER, SIGNATURE])
def test_a_file_that_cannot_be_read_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match=f"{name} is not a regular file"):
        runtime.load(folder)


def pem(key: object, *, private: bool = False) -> bytes:
    encoding, public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    if private:
        return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.public_key().public_bytes(encoding, public)


def wrong_keys() -> dict[str, bytes]:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    found = {
        "empty": b"",
        "text": b"no key",
        "private": pem(elliptic, private=True),
        "rsa": pem(rsa.generate_private_key(65537, 2048)),
        "curve": pem(ec.generate_private_key(ec.SECP256K1())),
        "cut": pem(elliptic)[:80],
    }
    der = serialization.Encoding.DER
    return {
        **found,
        "der": elliptic.public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo),
    }


@pytest.mark.parametrize(
    "name", ["empty", "text", "private", "rsa", "curve", "cut", "der", "gone", "folder", "pipe", ""]
)
def test_a_key_that_is_none_refuses_every_bundle(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name if name else ""
    if name in (contents := wrong_keys()):
        path.write_bytes(contents[name])
    elif name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    monkeypatch.setenv(VERIFY_KEY, str(path))
    with pytest.raises(KeyFileError, match=r"VOLVAE_VERIFY_KEY is '.*', which .*; allowed: the PEM file") as found:
        runtime.load(folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_keys_on_larger_curves_sign_too(
    linear_bundle: Path, tmp_path: Path, curve: ec.EllipticCurve, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(curve)
    (tmp_path / "key.pem").write_bytes(pem(key, private=True))
    (tmp_path / "key.pub").write_bytes(pem(key))
    monkeypatch.setenv(tamper.SIGNING_KEY, str(tmp_path / "key.pem"))
    text = tamper.signing_key().sign(linear_bundle, tmp_path).read_bytes()
    assert signature.signed_files(text, signature.public_key((tmp_path / "key.pub").read_bytes()))


@pytest.mark.slow
def test_the_runtime_loads_no_cryptography_without_a_key(signed: Signed) -> None:
    """And none of model-signing with one."""
    program = (
        "import sys; from vae import runtime; runtime.load(sys.argv[1], provider='cpu'); "
        "print('cryptography' in sys.modules, 'model_signing' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != VERIFY_KEY}
    for key, said in (({}, "False False\n"), ({VERIFY_KEY: str(signed.key)}, "True False\n")):
        done = subprocess.run(
            [sys.executable, "-c", program, signed.ours],
            env=environment | key, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == said


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(KeyFileError, match=r"needs cryptography: pip install 'volvae\[verify\]'"):
        runtime.load(folder)


@pytest.mark.slow
def test_model_signing_itself_verifies_and_signs_the_same(signed: Signed, folder: Path) -> None:
    """Its own command accepts our signature, and we accept its own; it refuses what we refuse."""
    tool = [str(Path(sys.executable).parent / "model_signing")]
    verify = [*tool, "verify", "key", str(folder), "--signature", str(folder / SIGNATURE)]
    verify += ["--public_key", str(signed.key)]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0

    sign = [*tool, "sign", "key", str(folder), "--signature", str(folder / SIGNATURE)]
    sign += ["--private_key", str(signed.key.with_suffix(".pem"))]
    (folder / SIGNATURE).unlink()
    subprocess.run(sign, check=True, capture_output=True)
    runtime.load(folder, provider="cpu")

    (folder / DECODER).write_bytes((signed.other / DECODER).read_bytes())
    assert subprocess.run(verify, check=False, capture_output=True).returncode != 0
    assert "decoder.onnx is not what was signed" in tamper.refusal(folder)
