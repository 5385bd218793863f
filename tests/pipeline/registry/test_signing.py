"""Versions that are signed when they are registered, and verified before they are used."""

import copy
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chaos import tamper
from deploy.server import model_card
from pipeline.cli.main import main as cli
from pipeline.errors import InputError, StageError
from pipeline.register import trusted_champion
from pipeline.registry import registry
from pipeline.registry.attestation import PROVENANCE, SIGNED_PROVENANCE
from pipeline.registry.registry import BUNDLE, CHAMPION, LINEAGE
from pipeline.registry.signing import SIGNING_KEY, SigningKey, signing_key
from tests.records import record
from tests.vae.test_signature import wrong_keys
from vae import bundle
from vae.bundle import DECODER, MANIFEST, SIGNATURE, VERIFY_KEY


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    return {name: tamper.write_key(tmp_path, name) for name in ("ours", "foreign")}


@pytest.fixture
def our_keys(keys: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles are signed, and must be."""
    monkeypatch.setenv(SIGNING_KEY, str(keys["ours"][0]))
    monkeypatch.setenv(VERIFY_KEY, str(keys["ours"][1]))


def test_a_manifest_that_takes_the_place_of_the_checked_one_is_not_signed(
    linear_bundle: Path, keys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = shutil.copytree(linear_bundle, tmp_path / "bundle"), bundle.read_whole
    content = json.loads((folder / MANIFEST).read_text())

    def read_and_exchange(*arguments: object, **named: object) -> object:
        found = whole(*arguments, **named)
        (folder / MANIFEST).write_text(json.dumps(content | {"observation_scale_vol": 1.0}))
        return found

    monkeypatch.setattr(bundle, "read_whole", read_and_exchange)
    monkeypatch.setenv(SIGNING_KEY, str(keys["ours"][0]))
    with pytest.raises(bundle.BundleError, match="changed while it was read"):
        signing_key().sign(folder, tmp_path)
    assert not (tmp_path / SIGNATURE).exists()


def opened():
    return registry.opened(model="volvae", experiment="volvae")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("own_registry")
def test_the_card_of_a_fetched_version_lies_beside_it(linear_bundle: Path, tmp_path: Path) -> None:
    made = record(linear_bundle, "a")
    text = f"library_name: volvae\n{json.loads((linear_bundle / MANIFEST).read_text())['weights_sha256']}"
    with opened() as models:
        models.register(made._replace(texts={**made.texts, "report/model_card.md": text}))
    folder, card = tmp_path / "got", tmp_path / "got.md"
    for before in (None, "library_name: volvae\nof an earlier one"):
        if before:
            card.write_text(before)
        assert call("fetch", "1", "-o", str(folder)).exit_code == 0
        assert model_card.read(folder, bundle.read_manifest(folder)) == text.encode()
    card.write_text("notes of a year")
    told = call("fetch", "1", "-o", str(folder))
    assert (told.exit_code, card.read_text()) == (0, "notes of a year")
    assert f"{card} is no model card of volvae and stays" in told.stderr
    card.unlink()
    card.mkdir()
    told = call("fetch", "1", "-o", str(folder))
    assert (told.exit_code, told.stderr.count("no model card of volvae and stays")) == (0, 1)


def stored(store: Path, run_id: str) -> Path:
    (found,) = store.glob(f"mlartifacts/{run_id}/artifacts/{BUNDLE}")
    return found


@pytest.mark.slow
def test_with_a_key_only_signed_versions_are_promoted_and_fetched(
    own_registry: Path, linear_bundle: Path, keys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as models:
        version = models.register(record(linear_bundle, "a"))
        models.judge(version, accepted=True, reason="all checks passed", tags={})
    monkeypatch.setenv(VERIFY_KEY, str(keys["ours"][1]))
    for arguments in (["promote"], ["fetch", "1", "-o", str(tmp_path / "out")]):
        refused = call(*arguments)
        assert refused.exit_code == 1
        assert refused.stderr.startswith("volvae: the bundle of volvae version 1 is refused: it has no model.sig, and ")
        assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

    monkeypatch.setenv(SIGNING_KEY, str(keys["ours"][0]))
    assert call("sign").stdout == "volvae version 1 is signed\n"
    assert call("promote").exit_code == 0
    assert call("fetch", "-o", str(tmp_path / "out")).exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {p.name for p in linear_bundle.iterdir()} | {
        SIGNATURE
    }
    before = (stored(own_registry, version.run_id) / SIGNATURE).read_bytes()
    assert call("sign", "champion").exit_code == 0
    assert (stored(own_registry, version.run_id) / SIGNATURE).read_bytes() == before  # a signature by this key stays

    monkeypatch.setenv(VERIFY_KEY, str(keys["foreign"][1]))
    assert "model.sig was made by another key" in call("fetch", "-o", str(tmp_path / "out")).stderr
    monkeypatch.setenv(SIGNING_KEY, str(keys["foreign"][0]))
    assert call("sign", "champion").exit_code == 0  # a new key takes the place of the old one
    assert call("fetch", "-o", str(tmp_path / "out")).exit_code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("our_keys")
def test_provenance_is_signed_with_the_bundle_and_refused_when_it_was_changed(
    own_registry: Path, linear_bundle: Path, keys: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the change is another statement that the key signed, or one that another key signed."""
    with opened() as models:
        version = models.register(record(linear_bundle, "a"))
        models.judge(version, accepted=True, reason="all checks passed", tags={})
        with pytest.raises(
            StageError, match=r"1 is refused: it has no provenance\.intoto\.jsonl; look at `volvae lineage 1`: if"
        ):
            models.check_provenance(version, linear_bundle)
        models.sign(version, signing_key(), linear_bundle)
        folder = stored(own_registry, version.run_id).with_name(LINEAGE)
        signed, plain = folder / SIGNED_PROVENANCE, folder / PROVENANCE
        envelope, statement = signed.read_bytes(), plain.read_bytes()
        models.sign(version, signing_key(), linear_bundle)
        assert signed.read_bytes() == envelope, "a signature by this key stays"
        check = partial(models.check_provenance, version, linear_bundle)
        check()

        ours, foreign = (
            signing_key(),
            SigningKey(keys["foreign"][0], load_pem_private_key(keys["foreign"][0].read_bytes(), None)),
        )
        other = json.dumps({**json.loads(statement), "predicateType": "https://model_signing/signature/v1.0"}).encode()
        for faulty, content, fault in (
            (foreign.sealed(statement), statement, "was signed by another key"),
            (ours.sealed(other), other, "is no provenance"),
            (ours.sealed(b"[]"), b"[]", "is no provenance"),
            (envelope, statement + b" ", "differs from what provenance.intoto.jsonl states"),
            *((envelope, edited, "differs from") for edited in edits(json.loads(statement))),
        ):
            signed.write_bytes(faulty)
            plain.write_bytes(content)
            with pytest.raises(StageError, match=f"the provenance of volvae version 1 is refused: it {fault}"):
                check()
        signed.write_bytes(envelope)
        plain.write_bytes(statement)
        check()
        for path in (plain, signed):
            content = path.read_bytes()
            path.unlink()
            with pytest.raises(StageError, match=f"it has no {path.name}") as refusal:
                check()
            assert ("`volvae sign 1` signs it" in str(refusal.value)) == (path == signed)  # nothing else can be signed
            assert ("force register` in the folder that made" in str(refusal.value)) == (path == plain)
            path.write_bytes(content)

        for name, add in (("file", Path.touch), ("folder", Path.mkdir)):
            more = shutil.copytree(linear_bundle, own_registry / name)
            add(more / "more.onnx")
            with pytest.raises(StageError, match="is of other files than those of the bundle"):
                models.check_provenance(version, more)
        plain.write_text("{}")
        for refused in (call("promote"), call("verify", "1"), call("fetch", "1", "-o", "out")):
            assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
            assert "the provenance of volvae version 1 is refused" in refused.stderr
        assert not (own_registry / "out").exists()
        refused = call("sign", "1")
        assert "it is no provenance; `dvc repro" in refused.stderr
        plain.write_bytes(statement)
        verified = call("verify", "1")
        assert verified.stdout == "volvae version 1: bundle and provenance are as they were signed\n"
        monkeypatch.delenv(VERIFY_KEY)
        assert call("verify", "1").stderr.startswith("volvae: VOLVAE_VERIFY_KEY is not set")


def edits(statement: object) -> Iterator[bytes]:
    """The statement with each of its texts changed, one at a time."""

    def paths(value: object) -> Iterator[tuple]:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from ((key, *rest) for rest in paths(inner))
        else:
            yield ()

    for path in paths(statement):
        edited = copy.deepcopy(statement)
        place = edited
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = f"{place[path[-1]]}x"
        yield json.dumps(edited, indent=2, sort_keys=True).encode()


def test_a_version_whose_files_were_changed_is_not_signed(
    own_registry: Path, linear_bundle: Path, keys: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the checksums of its manifest are right."""
    monkeypatch.setenv(SIGNING_KEY, str(keys["ours"][0]))
    with opened() as models:
        version = models.register(record(linear_bundle, "a"))
        tamper._remake(stored(own_registry, version.run_id), lambda content: content + b"\x9a\x06\x00")
        with pytest.raises(StageError, match="is not what was registered"):
            models.sign(version, signing_key())
    assert not (stored(own_registry, version.run_id) / SIGNATURE).exists()


@pytest.mark.usefixtures("our_keys")
def test_register_signs_its_own_provenance_and_not_that_of_the_store(own_registry: Path, linear_bundle: Path) -> None:
    with opened() as models:
        version = models.register(record(linear_bundle, "a"))
        plain = stored(own_registry, version.run_id).with_name(LINEAGE) / PROVENANCE
        made = plain.read_bytes()
        plain.write_bytes(made.replace(b"urn:", b"urn:x:"))
        assert plain.read_bytes() != made
        models.sign(version, signing_key(), linear_bundle, made)
        assert plain.read_bytes() == made
        models.check_provenance(version, linear_bundle)


@pytest.mark.slow
def test_a_champion_without_signature_is_refused_before_a_version_is_registered(
    own_registry: Path, linear_bundle: Path, keys: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own content is registered all the same, and so signed."""
    with opened() as models:
        trusted_champion(models, "a")
        version = models.register(record(linear_bundle, "a"))
        models.promote(version)
        monkeypatch.setenv(VERIFY_KEY, str(keys["ours"][1]))
        monkeypatch.setenv(SIGNING_KEY, str(keys["ours"][0]))
        trusted_champion(models, "a")
        with pytest.raises(StageError, match=r"the bundle of volvae version 1 is refused: it has no model\.sig"):
            trusted_champion(models, "b")
        models.sign(version, signing_key())
        envelope = stored(own_registry, version.run_id).with_name(LINEAGE) / SIGNED_PROVENANCE
        envelope.unlink()  # as of a version that was signed before provenance was
        with pytest.raises(StageError, match="`volvae sign 1` signs it"):
            trusted_champion(models, "b")
        models.sign(version, signing_key())
        trusted_champion(models, "b")


@pytest.mark.slow
@pytest.mark.usefixtures("our_keys")
def test_a_champion_that_was_changed_with_its_signature_is_not_rolled_back_to(
    own_registry: Path, linear_bundle: Path
) -> None:
    with opened() as models:
        versions = [models.register(record(linear_bundle, name)) for name in "ab"]
        for version in versions:
            models.sign(version, signing_key(), linear_bundle)
            models.promote(version)
        (stored(own_registry, versions[0].run_id) / "more.onnx").write_bytes(b"")
        with pytest.raises(StageError, match=r"version 1 is refused: more\.onnx was added to what was signed"):
            models.roll_back()
        assert models.find(CHAMPION).number == "2"


@pytest.mark.parametrize("name", ["empty", "text", "rsa", "public", "protected", "gone", "folder"])
def test_a_signing_key_that_is_none_is_refused_in_one_line(
    tmp_path: Path, keys: dict, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    if name in ("empty", "text", "rsa"):
        path.write_bytes(wrong_keys()[name])
    elif name == "public":
        path = keys["ours"][1]
    elif name == "protected":
        path.write_bytes(protected())
    elif name == "folder":
        path.mkdir()
    monkeypatch.setenv(SIGNING_KEY, str(path))
    fault = {
        "protected": "is protected by a password",
        "folder": "cannot be read",
    }
    words = fault.get(name, "cannot be read" if name == "gone" else "is not the PEM file of a private key")
    with pytest.raises(InputError, match=rf"VOLVAE_SIGNING_KEY is '.*', which {words}.*; allowed: the PEM file of a p"):
        signing_key()


def protected() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )


def test_without_a_key_nothing_is_signed(monkeypatch: pytest.MonkeyPatch, own_registry: Path) -> None:
    monkeypatch.delenv(SIGNING_KEY, raising=False)
    assert signing_key() is None
    refused = call("sign", "1")
    assert refused.exit_code == 2
    assert "VOLVAE_SIGNING_KEY is not set" in refused.stderr


def test_a_signature_names_no_other_file(linear_bundle: Path, keys: dict, tmp_path: Path, monkeypatch) -> None:
    """A file that lies beside those of a bundle is not vouched for."""
    monkeypatch.setenv(SIGNING_KEY, str(keys["ours"][0]))
    folder = shutil.copytree(linear_bundle, tmp_path / "bundle")
    (folder / "notes.txt").write_text("mine")
    text = signing_key().sign(folder, folder).read_text()
    assert json.loads(text)["mediaType"].startswith("application/vnd.dev.sigstore.bundle")
    monkeypatch.setenv(VERIFY_KEY, str(keys["ours"][1]))
    assert "notes.txt was added to what was signed" in tamper.refusal(folder)
    (folder / "notes.txt").unlink()
    assert tamper.refusal(folder) == ""
    assert (folder / DECODER).exists()


def test_a_server_does_not_start_with_a_key_that_is_none(linear_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it wait for a version of an alias."""
    monkeypatch.setenv(VERIFY_KEY, "/gone/key.pub")
    for model in (str(linear_bundle), "models:/volvae@champion"):
        refused = call("serve", "--model", model)
        assert refused.exit_code == 2
        assert refused.stderr.startswith("volvae: VOLVAE_VERIFY_KEY is '/gone/key.pub', which cannot be read (No such")


def test_a_repository_for_triton_is_made_of_signed_graphs_alone(
    linear_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tamper.signed_bundles(linear_bundle, tmp_path)
    monkeypatch.setenv(VERIFY_KEY, str(known.key))
    refused = call("export-triton", str(tmp_path / "models"), "--bundle", str(known.foreign))
    assert (refused.exit_code, (tmp_path / "models").exists()) == (2, False)
    assert "model.sig was made by another key" in refused.stderr
    assert call("export-triton", str(tmp_path / "models"), "--bundle", str(known.ours)).exit_code == 0
