"""The packages and the provenance of a version, in the forms that tools for supply chains read.

Both hold no time and nothing random, so that the same version has the same bytes.

References: CycloneDX 1.6; in-toto Statement v1 with the predicate SLSA Provenance v1.
"""

import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.registry import dsse
from vae.bundle import BundleError, read_file
from vae.signature import FaultError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SBOM, PROVENANCE = "sbom.cdx.json", "provenance.json"  # files of the lineage
SIGNED_PROVENANCE = "provenance.intoto.jsonl"  # beside them, where a key is set
_STATEMENT, _PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
_FOLDER = ".dir"  # suffix of DVC's hash of a folder


def packages() -> dict[str, str]:
    """Versions of all packages of this environment, by their normalised name."""
    found: dict[str, str] = {}
    for each in distributions():
        if each.metadata["Name"]:  # a package that is half removed has none; of two of a name the first is imported
            found.setdefault(_normalised(each.metadata["Name"]), each.version)
    return dict(sorted(found.items()))


def sbom(model: str, content: str, files: Mapping[str, str], installed: Mapping[str, str]) -> dict[str, Any]:
    """The packages that made a version, as a CycloneDX document.

    Args:
        model: name of the registered model.
        content: that identifies the version.
        files: sha256 of the files of the bundle, by name.
        installed: versions of packages, by name.
    """
    components = [
        {"type": "library", "bom-ref": reference, "name": name, "version": number, "purl": reference}
        for name, number in installed.items()
        if (reference := f"pkg:pypi/{name}@{number}")
    ]
    python = f"pkg:generic/python@{platform.python_version()}"
    components.append(
        {"type": "platform", "bom-ref": python, "name": "python", "version": platform.python_version(), "purl": python}
    )
    parts = [{"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": d}]} for name, d in files.items()]
    made = {"type": "machine-learning-model", "bom-ref": "model", "name": model, "version": content}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**made, "components": parts}},
        "components": components,
        "dependencies": [{"ref": "model", "dependsOn": [each["bom-ref"] for each in components]}],
    }


def provenance(
    *,
    builder: str,
    code: Mapping[str, str],
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    texts: Mapping[str, str],
    files: Mapping[str, str],
) -> dict[str, Any]:
    """Who made the files of a bundle, by what and from what, as an in-toto statement.

    Args:
        builder: user and machine.
        code: ``commit`` and ``remote`` of the code; ``none`` where it has none.
        settings: that can change the files, by stage.
        inputs: DVC's hashes of the data and models, by path.
        texts: sha256 of the lock, the patch and the like, by name.
        files: sha256 of the files of the bundle, by name.
    """
    made_from: list[dict[str, Any]] = []
    if code["commit"] != "none":
        source = {} if code["remote"] == "none" else {"uri": f"git+{code['remote']}@{code['commit']}"}
        made_from.append({"name": "code", **source, "digest": {"gitCommit": code["commit"]}})
    made_from += [{"name": name, "digest": {"sha256": digest}} for name, digest in texts.items()]
    made_from += [{"name": path, "digest": _dvc_digest(digest)} for path, digest in inputs.items()]
    volvae = version("volvae")
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()],
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"pkg:pypi/volvae@{volvae}#dvc-repro",
                "externalParameters": dict(settings),
                "resolvedDependencies": made_from,
            },
            "runDetails": {
                "builder": {
                    "id": f"urn:volvae:{builder}",
                    "version": {"python": platform.python_version(), "volvae": volvae},
                }
            },
        },
    }


def check_subjects(statement: bytes, files: Mapping[str, str]) -> None:
    """Refuse a text that does not state who made exactly these files.

    Args:
        statement: content of ``PROVENANCE``.
        files: sha256 of the files of the bundle, by name.

    Raises:
        FaultError: it is no such statement, or one about other files.
    """
    try:
        found = json.loads(statement)
        kind = found["_type"], found["predicateType"]
        named = [(each["name"], each["digest"]["sha256"]) for each in found["subject"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FaultError("is no provenance") from error
    if kind != (_STATEMENT, _PREDICATE):  # the key signs other statements, too
        raise FaultError("is no provenance")
    if sorted(named) != sorted(files.items()):
        raise FaultError("is of other files than those of the bundle")


def check_signed(lineage: Path, files: Mapping[str, str], key: "EllipticCurvePublicKey") -> None:
    """Refuse the provenance in a folder of lineage that this key did not sign, or that is not of these files.

    Raises:
        FaultError: the message says what is wrong with it.
    """
    envelope, plain = _read(lineage / SIGNED_PROVENANCE), stated(lineage)
    statement = dsse.opened(envelope, key)
    if statement != plain:
        raise FaultError(f"differs from what {SIGNED_PROVENANCE} states")
    check_subjects(statement, files)


def is_sound(lineage: Path, files: Mapping[str, str]) -> bool:
    """Whether the plain provenance in a folder of lineage is of exactly these files, so that it can be signed."""
    try:
        check_subjects(stated(lineage), files)
    except FaultError:
        return False
    return True


def stated(lineage: Path) -> bytes:
    """The plain provenance in a folder of lineage.

    Raises:
        FaultError: it cannot be read.
    """
    return _read(lineage / PROVENANCE)


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError as error:
        raise FaultError(f"has no {path.name}") from error
    except (OSError, BundleError) as error:
        raise FaultError(f"cannot be read ({error})") from error


def _dvc_digest(digest: str) -> dict[str, str]:
    """The hash of a file, or, of a folder, the hash of DVC's list of its files."""
    return {"dvcFolderMd5": digest.removesuffix(_FOLDER)} if digest.endswith(_FOLDER) else {"md5": digest}


def _normalised(name: str) -> str:
    """The name of a package as indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
