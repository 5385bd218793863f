"""An MLflow store leaves the process as it was, and an embedded one finds its artifacts wherever it lies."""

import contextlib
import http.server
import json
import os
import re
import shutil
import sqlite3
import sys
import threading
import urllib.request
import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import OperationalError

from pipeline.errors import StageError
from pipeline.registry import mlflow_store, registry
from pipeline.registry.registry import BUNDLE, Registry
from tests.records import empty_store, record  # noqa: F401
from tests.services import answering, free_port, healthy
from vae.bundle import DECODER, MANIFEST


@pytest.fixture(scope="module")
def bundle(linear_bundle: Path) -> Path:
    return linear_bundle


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, made the current one; the environment names no store."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture
def with_store(here: Path, empty_store: Path) -> Path:  # noqa: F811
    """The same with an embedded store, which is empty."""
    shutil.copy(empty_store, here)
    return here


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "failures", "done"),
    [
        ("SQLITE_IOERR_FSYNC", 2, True),
        ("SQLITE_IOERR_DIR_FSYNC", 1, False),  # which may come after the commit
        ("SQLITE_IOERR_FSYNC", 99, False),
        ("SQLITE_IOERR_WRITE", 1, False),
    ],
)
def test_a_sync_that_a_signal_interrupts_is_made_again(
    with_store: Path, linear_bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str, failures: int, *, done: bool
) -> None:
    """A few times, as a disk that fails has no other error; whoever reads finds one promotion or none."""
    with opened() as models:
        version = models.register(record(linear_bundle, "a"))
    whole, calls = SqlAlchemyStore.set_registered_model_alias, []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > failures:
            return whole(*arguments)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = name
        cause = OperationalError("COMMIT", None, error)
        raise MlflowException(cause, TEMPORARILY_UNAVAILABLE) from cause

    monkeypatch.setattr(SqlAlchemyStore, "set_registered_model_alias", interrupted)
    refusal = pytest.raises(StageError, match=r"sqlite:///mlflow\.db refused: .*disk I/O error[^\n]*$")
    with contextlib.nullcontext() if done else refusal, opened() as models:
        models.promote(version)
    assert len(calls) == {2: 3, 99: 3}.get(failures, 1 + done)
    with opened() as models:
        assert [entry.version for entry in models.history()] == ["1"] * done
        assert (models.get("champion") is not None) is done


@pytest.mark.parametrize("heard", [True, False])
def test_what_the_store_heard_is_logged_though_its_answer_was_lost(
    with_store: Path, linear_bundle: Path, monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    """MLflow's client asks again then; a refusal of what the store does not have ends the command."""
    log_outputs = mlflow.MlflowClient.log_outputs

    def lost(*arguments: object) -> None:
        if heard:
            log_outputs(*arguments)
            log_outputs(*arguments)
        raise MlflowException("no such table")

    monkeypatch.setattr(mlflow.MlflowClient, "log_outputs", lost)
    refused = contextlib.nullcontext() if heard else pytest.raises(StageError, match="refused: no such table")
    with refused, opened() as models:
        assert models.register(record(linear_bundle, "a")).number == "1"


class OfTheBucketError(Exception):
    """As botocore's errors, which are no OSError."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OfTheBucketError("Unable to locate credentials"), "OfTheBucketError: Unable to locate credentials"),
        (KeyError("run"), "KeyError: 'run'"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), "the Python module boto3 is not installed"),
    ],
)
def test_errors_of_libraries_below_mlflow_are_one_line(
    with_store: Path, linear_bundle: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    with opened() as models:
        version = models.register(record(linear_bundle, "a"))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", fail)
    with opened() as models, pytest.raises(StageError, match=rf"bundle of m version 1 cannot be read .*{told}"):
        models.load(version)
    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", fail)
    with pytest.raises(StageError, match=rf"sqlite:///mlflow\.db refused: {told}"), opened() as models:
        models.register(record(linear_bundle, "b"))


@pytest.mark.parametrize("uri", ["http://[bad", "foo://x", "http://", "postgresql+nothing://host/db"])
def test_an_address_that_is_none_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StageError, match=rf"^the MLflow store {re.escape(uri)} refused: .+") as refusal, opened() as m:
        m.find("champion")
    assert "\n" not in str(refusal.value)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("answer", [b"<html>", b'{"run": 3}', b"[]", b"null", b'{"model_version": {"version": {}}}'])
def test_what_another_server_answers_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with (
            pytest.raises(StageError, match=rf"^the MLflow store {address} refused: .+") as refusal,
            opened() as models,
        ):
            models._store.figures("1")
            models.find("champion")
    assert "\n" not in str(refusal.value)


def opened() -> contextlib.AbstractContextManager[Registry]:
    return registry.opened(model="m", experiment="m")


def store_in(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder}/mlflow.db"


def shared_state() -> tuple[object, ...]:
    """The state that all threads of the process share."""
    return Path.cwd(), dict(os.environ), mlflow.get_tracking_uri(), list(warnings.filters)


@pytest.mark.slow
@pytest.mark.parametrize("place", [None, "elsewhere"])
def test_an_open_store_changes_nothing_that_the_process_shares(
    here: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    if place:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store_in(here.parent / place))
    before = shared_state()
    with opened() as models:
        assert shared_state() == before
        models.promote(models.register(record(bundle, "a")))
        assert shared_state() == before
    assert shared_state() == before
    assert {path.name for path in here.iterdir()} == (set() if place else {"mlflow.db", "mlartifacts"})


@pytest.mark.slow
def test_two_threads_work_with_two_stores_at_once(
    here: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opens its store before the other has closed its own, and finds its own files."""
    stores, found, wrong = [tmp_path / "one 100%41", tmp_path / "two"], {}, []
    both, turn = threading.Barrier(2, timeout=300), threading.Lock()

    def work(folder: Path) -> None:
        try:
            turn.acquire()
            os.environ["MLFLOW_TRACKING_URI"] = store_in(folder)
            with opened() as models:
                turn.release()
                both.wait()
                version = models.register(record(bundle, folder.name))
                both.wait()
                models.promote(version)
                models.fetch(models.find("champion"), folder / "fetched")
                found[folder] = (version.number, version.tags["volvae.content"])
                both.wait()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            wrong.append(error)
            both.abort()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    threads = [threading.Thread(target=work, args=(folder,)) for folder in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert found == {folder: ("1", folder.name) for folder in stores}
    for folder in stores:
        assert len(list(folder.glob(f"mlartifacts/*/artifacts/bundle/{MANIFEST}"))) == 1
        assert (folder / "fetched" / DECODER).read_bytes() == (bundle / DECODER).read_bytes()
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_a_copy_of_a_store_has_files_of_its_own(
    with_store: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs have the same names in both, within one process."""
    with opened() as models:
        models.promote(models.register(record(bundle, "a")))
    copy = with_store.parent / "copy"
    shutil.copytree(with_store, copy)
    shutil.rmtree(with_store / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}/mlflow.db")
    with opened() as models:
        models.fetch(models.find("champion"), with_store / "fetched")
        models.register(record(bundle, "b"))
    assert (with_store / "fetched" / DECODER).read_bytes() == (bundle / DECODER).read_bytes()
    assert not (with_store / "mlartifacts").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with (
        pytest.raises(StageError, match=r"bundle of m version 1 cannot be read from sqlite:///mlflow\.db"),
        opened() as models,
    ):
        models.load(models.find("champion"))


def test_a_version_that_is_asked_for_twice_is_there_once(
    with_store: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow's client asks again where a server's answer is lost."""
    with opened() as models:
        create = models._client.create_model_version

        def twice(*arguments: Any, **options: Any) -> object:
            create(*arguments, **options)
            return create(*arguments, **options)

        monkeypatch.setattr(models._client, "create_model_version", twice)
        assert models.register(record(bundle, "a")).number == "1"
        assert models._known() == "versions 1"


def test_mlflow_loads_the_registered_decoder_in_the_folder_of_the_store(with_store: Path, bundle: Path) -> None:
    with opened() as models:
        models.register(record(bundle, "a"))
    uri = f"sqlite:///{with_store}/mlflow.db"
    with contextlib.closing(sqlite3.connect(with_store / "mlflow.db")) as database:
        (location,) = database.execute("SELECT storage_location FROM model_versions").fetchone()
    assert location.startswith("mlartifacts/")
    client = mlflow.MlflowClient(uri)
    assert client.get_model_version_download_uri("m", "1") == location
    (model,) = client.search_logged_models(["1"])
    assert str(model.status) == "READY"
    assert [metric.key for metric in model.metrics] == ["evaluate/elbo_nats"]
    loaded = mlflow.models.Model.load(location)
    assert loaded.signature.inputs.input_names() == ["z"]
    assert loaded.run_id == models.find("1").run_id


@pytest.mark.slow
def test_the_page_of_mlflow_in_the_folder_shows_the_artifacts(with_store: Path, bundle: Path) -> None:
    with opened() as models:
        run = models.register(record(bundle, "a")).run_id
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlflow.db"]
    command += ["--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    with healthy(url, command, with_store / "mlflow.log", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}):
        address = f"{url}/get-artifact?run_uuid={run}&path={BUNDLE}/{MANIFEST}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.read() == (bundle / MANIFEST).read_bytes()


def test_files_come_through_a_server_that_offers_addresses_of_its_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are of a network that the model server of deploy/compose.yaml is not on."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            offer = {"multipart_uploads_enabled": True, "multipart_downloads_enabled": True}
            run = {"run": {"info": {"run_id": "1", "artifact_uri": "mlflow-artifacts:/1/artifacts"}}}
            answers = {"server-info": offer, "runs/get": run, "presigned": {"url": "http://s3.invalid/", "headers": {}}}
            found = [json.dumps(answer).encode() for name, answer in answers.items() if name in self.path]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(found[0] if found else b"of the server")

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with mlflow_store.opened() as store:
            files = store._repository(store.client.get_run("1").info.artifact_uri)
            files._download_file("bundle/manifest.json", str(tmp_path / "manifest.json"))
    assert (tmp_path / "manifest.json").read_bytes() == b"of the server"
    assert not [path for path in asked if "presigned" in path]


def test_a_long_reason_keeps_its_start_and_its_end() -> None:
    text = mlflow_store.reason(OSError(f"cannot open the store: {'and so on, ' * 100}\nno space left on device"))
    assert text.startswith("cannot open the store: and so on")
    assert text.endswith("no space left on device")
    assert len(text) < 450


@pytest.mark.slow
def test_a_new_store_deletes_what_a_killed_process_left_and_nothing_else(here: Path) -> None:
    left, begun = (here / f".mlflow.db.{uuid4()}" for _ in range(2))
    backup, odd = here / ".mlflow.db.bak", here / ".mlflow.db.2026-11-25"
    for path in (left, begun, backup, odd):
        path.touch()
    for path in (left, backup, odd):
        os.utime(path, (0, 0))
    with opened():
        pass
    assert {path.name for path in here.iterdir()} == {"mlflow.db", begun.name, backup.name, odd.name}
