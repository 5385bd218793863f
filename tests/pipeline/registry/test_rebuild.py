"""The lineage of a version: commands that make it again, and addresses without credentials."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import main as cli
from pipeline.credentials import without_credentials
from pipeline.registry import git_state, registry
from tests.records import empty_store, record  # noqa: F401
from tests.workspace import Workspace

_LOCK = """schema: '2.0'
stages:
  train:
    deps: [{path: data/surfaces, md5: 1111.dir}]
    outs: [{path: artifacts/model, md5: 2222.dir}]
"""


def register(bundle: Path, *, remote: str) -> None:
    """Register a version with the tags and files of a lineage."""
    made = record(bundle, "a")
    tags = {"git.commit": "c0ffee", "git.remote": remote, "git.dirty": "false", "device": "cpu", "lock.sha256": "none"}
    texts = {"lineage/dvc.lock": _LOCK, "lineage/runs.json": "{}"}
    with registry.opened(model="volvae", experiment="volvae") as models:
        models.register(made._replace(tags={**made.tags, **tags}, texts=texts))


def printed_lineage() -> dict[str, object]:
    result = CliRunner().invoke(cli, ["lineage", "1", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "elsewhere"])
def test_without_a_remote_the_code_is_cloned_from_the_project_and_not_from_the_store(
    linear_bundle: Path,
    workspace: Workspace,
    empty_store: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    folder = workspace.folder / place
    folder.mkdir(exist_ok=True)
    shutil.copy(empty_store, folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    register(linear_bundle, remote="none")
    _, code, check = printed_lineage()["rebuild"]
    assert code.startswith(f"git clone {workspace.folder} volvae-1 && ")
    assert f"MLFLOW_TRACKING_URI=sqlite:///{folder}/mlflow.db volvae lineage 1 --check" in check


def test_a_token_that_an_older_version_recorded_is_not_printed(
    linear_bundle: Path,
    workspace: Workspace,
    empty_store: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, workspace.folder)
    register(linear_bundle, remote="https://me:token@host.example/volvae.git")
    found = printed_lineage()
    assert found["remote"] == "https://host.example/volvae.git"
    assert "git clone https://host.example/volvae.git volvae-1 && " in found["rebuild"][1]


def test_the_token_in_the_address_of_the_remote_is_not_recorded(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    address = "https://me:ghp_token@host.example/volvae.git"
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", address], check=True)
    assert git_state.read(tmp_path).remote == "https://host.example/volvae.git"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:token@host.example/a.git", "https://host.example/a.git"),
        ("https://token@host.example/a.git", "https://host.example/a.git"),
        ("https://:token@host.example/a.git", "https://host.example/a.git"),
        ("https://me:to/k@en@host.example:443/a.git", "https://host.example:443/a.git"),
        ("postgresql+psycopg2://me:secret@host/db", "postgresql+psycopg2://host/db"),
        ("ssh://git:secret@host.example:22/a.git", "ssh://git@host.example:22/a.git"),
        ("git+ssh://git@host.example/a.git", "git+ssh://git@host.example/a.git"),
        ("git@host.example:a/b.git", "git@host.example:a/b.git"),
        ("https://host.example:8443/a@b.git", "https://host.example:8443/a@b.git"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("no route to http://a:b@one and https://c@two", "no route to http://one and https://two"),
        ("https://me:to ken@host.example/a.git", "https://host.example/a.git"),
        ("mysql://me:12/token@host/db", "mysql://host/db"),
        ("me:token@host.example:5000", "host.example:5000"),
        ("postgresql:///db?host=/run&password=token&x=1", "postgresql:///db?host=/run&password=***&x=1"),
        ("https://host.example/a?X-Amz-Signature=token", "https://host.example/a?X-Amz-Signature=***"),
        (
            "https://a.blob.core.windows.net/c?sv=1&sig=token%3D&se=2",
            "https://a.blob.core.windows.net/c?sv=1&sig=***&se=2",
        ),
        ("mssql:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dtoken", "mssql:///?odbc_connect=***"),
        ("https://host.example/?private_token=token#a", "https://host.example/?private_token=***#a"),
        ("cannot reach (http://host:5000) for a@b", "cannot reach (http://host:5000) for a@b"),
        ("http://mlflow:5000 has no models:/volvae@champion", "http://mlflow:5000 has no models:/volvae@champion"),
        ("http://mlflow:5000 models:/volvae@champion", "http://mlflow:5000 models:/volvae@champion"),
        ("https://localhost:8443/a@b.git", "https://localhost:8443/a@b.git"),
        ("https://[::1]:8443/a@b.git", "https://[::1]:8443/a@b.git"),
        ("host.example:a/b@c.git", "host.example:a/b@c.git"),
        ("https://me:12/34@host.example/a.git", "https://host.example/a.git"),
        ("https://me:12 34@host.example/a.git", "https://host.example/a.git"),
        ("postgresql://me:12 34@host/db", "postgresql://host/db"),
        ("ssh://git:12?34@host.example/a.git", "ssh://git@host.example/a.git"),
        ("https://me@corp.example:to/ken@host.example/a.git", "https://host.example/a.git"),
        ("me:12/34@host.example:5000", "host.example:5000"),
        ("me:to:k@en@host.example:5000", "host.example:5000"),
    ],
)
def test_credentials_are_removed_from_addresses(address: str, expected: str) -> None:
    assert without_credentials(address) == expected


@given(
    scheme=st.sampled_from(["https", "http", "git", "ssh", "s3", "postgresql", "mysql+pymysql"]),
    user=st.sampled_from(["me", "", "a-b", "me%40x"]),
    password=st.from_regex(r"[a-z0-9/:@?#,;'\")(\[\]%=&+.]{1,12}|[0-9]{1,5} [a-z0-9/]{1,9}", fullmatch=True),
    rest=st.sampled_from(["host.example/a.git", "host:5432/db", "localhost", "127.0.0.1:80", "[::1]:5000"]),
)
def test_no_password_stays_in_an_address(scheme: str, user: str, password: str, rest: str) -> None:
    """But for a user whose name has a dot: that is a host, and what looks like a port is one."""
    kept = f"{user}@" if scheme == "ssh" else ""
    assert without_credentials(f"{scheme}://{user}:{password}@{rest}") == f"{scheme}://{kept}{rest}"
