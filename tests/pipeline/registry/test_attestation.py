"""List of packages and provenance of a version: as their specifications say, and the same each time."""

import copy
import importlib.metadata
import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement

from pipeline.registry import attestation

FILES = {"decoder.onnx": "1" * 64, "manifest.json": "2" * 64}
CODE = {"commit": "3" * 40, "remote": "https://git.example.com/volvae.git"}
INPUTS = {"data/surfaces": "4" * 32 + ".dir", "quotes.csv": "5" * 32}


def made(**changes: Any) -> dict[str, Any]:
    parts = {
        "builder": "me@here", "code": CODE, "settings": {"train": {"seed": 7}}, "inputs": INPUTS,
        "texts": {"requirements.lock": "6" * 64}, "files": FILES,
    }  # fmt: skip
    return attestation.provenance(**(parts | changes))


def check_packages(document: dict[str, Any]) -> None:
    """Hold a document to the strict schema of CycloneDX."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None


def check_provenance(statement: dict[str, Any]) -> provenance_pb2.Provenance:
    """Read a statement as in-toto's own classes do, which refuse unknown fields; the predicate."""
    parsed = ParseDict(statement, Statement([], "", {}).pb)
    Statement.copy_from_pb(parsed).validate()
    return ParseDict(statement["predicate"], provenance_pb2.Provenance())


def test_the_list_of_packages_is_of_the_schema_and_of_this_environment() -> None:
    installed = attestation.packages()
    found = attestation.sbom("volvae", "7" * 64, FILES, installed)
    check_packages(found)
    with pytest.raises(AssertionError):
        check_packages({**found, "more": 1})
    assert json.dumps(found) == json.dumps(attestation.sbom("volvae", "7" * 64, FILES, dict(installed)))
    purls = {each["purl"] for each in found["components"]}
    for name in ("torch", "numpy", "scikit-learn", "ruamel.yaml"):
        assert f"pkg:pypi/{name.replace('.', '-')}@{importlib.metadata.version(name)}" in purls
    assert len(purls) == len(found["components"]) == len(installed) + 1


def test_the_provenance_says_what_made_which_files() -> None:
    statement = made()
    assert {each["name"]: each["digest"]["sha256"] for each in statement["subject"]} == FILES
    found = check_provenance(statement)
    assert {each.name: dict(each.digest) for each in found.build_definition.resolved_dependencies} == {
        "code": {"gitCommit": "3" * 40},
        "requirements.lock": {"sha256": "6" * 64},
        "data/surfaces": {"dvcFolderMd5": "4" * 32},
        "quotes.csv": {"md5": "5" * 32},
    }
    assert found.build_definition.resolved_dependencies[0].uri == f"git+{CODE['remote']}@{CODE['commit']}"
    assert found.run_details.builder.id == "urn:volvae:me@here"
    assert json.dumps(statement, sort_keys=True) == json.dumps(made(), sort_keys=True)
    wrong = copy.deepcopy(statement)
    wrong["predicate"]["runDetails"]["builder"]["name"] = "no such field"
    with pytest.raises(ParseError):
        check_provenance(wrong)


def test_outside_of_a_repository_the_provenance_names_no_commit() -> None:
    statement = made(code={"commit": "none", "remote": "none"}, texts={})
    names = [each.name for each in check_provenance(statement).build_definition.resolved_dependencies]
    assert names == list(INPUTS)
