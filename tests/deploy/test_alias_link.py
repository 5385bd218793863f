"""The folder that follows an alias of the registry, and the server over it."""

import contextlib
import itertools
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.registry import alias_link, registry
from pipeline.registry.alias_link import _Mirror, mirrored
from pipeline.registry.registry import CHAMPION, Registry, Version
from tests.deploy.serving import Server, decoder_request, ready, started, variant
from tests.records import empty_store, record  # noqa: F401
from tests.services import free_port, wait_for
from vae.bundle import MANIFEST
from vae.runtime import SurfaceModel

_NAME = "mirrored"
_ADDRESS = f"models:/{_NAME}@{CHAMPION}"
_FACTORS = (1.0, 2.0, 0.5)
_WAITS = "the registry gives no model, the server waits for one"


def opened() -> contextlib.AbstractContextManager[Registry]:
    return registry.opened(model=_NAME, experiment=_NAME)


@pytest.fixture(scope="module")
def filled(bundle: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A folder with an embedded store: three versions, no champion."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_store, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for number, factor in enumerate(_FACTORS, 1):
            made = variant(bundle, folder / f"bundle-{number}", factor=factor)
            with opened() as models:
                kept = record(made, str(number))
                card = {"report/model_card.md": f"card of {number}"} if number > 1 else {}  # older versions have none
                assert models.register(kept._replace(texts={**kept.texts, **card})).number == str(number)
    return folder


@pytest.fixture
def store(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a copy of it, which the environment names."""
    shutil.copytree(filled, tmp_path / "store")
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Messages and reasons."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(alias_link.logs, "warning", lambda message, *, reason: found.append((message, reason)))
    monkeypatch.setattr(alias_link.logs, "configure", lambda: None)
    return found


def promote(number: str) -> Version | None:
    with opened() as models:
        return models.promote(models.find(number))


def roll_back() -> None:
    with opened() as models:
        models.roll_back()


def versions(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()}


def cards(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in folder.glob("*.md"))


@pytest.mark.slow
def test_the_link_moves_with_the_alias_and_two_versions_are_kept(
    store: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    followed = _Mirror(folder, _NAME, CHAMPION)
    with pytest.raises(InputError, match=f"{_NAME} has no version '{CHAMPION}' in .*; it has versions 1, 2, 3"):
        followed.update()
    assert not list(folder.iterdir())
    for number, kept in (("1", {"1"}), ("2", {"1", "2"}), ("3", {"2", "3"})):
        promote(number)
        followed.update()
        assert followed.link.is_symlink()
        assert followed.link.resolve() == folder / number
        assert versions(folder) == kept
        assert cards(folder) == [f"card of {name}" for name in sorted(kept - {"1"})]
        for path in (filled / f"bundle-{number}").iterdir():
            assert (followed.link / path.name).read_bytes() == path.read_bytes()
    monkeypatch.setattr(Registry, "fetch", None)  # what is there is not fetched again
    followed.update()
    roll_back()
    followed.update()
    assert followed.link.resolve() == folder / "2"
    assert versions(folder) == {"2", "3"}


@pytest.mark.slow
def test_the_link_is_never_gone_and_never_to_half_a_bundle(store: str, tmp_path: Path) -> None:
    promote("1")
    followed, done, wrong, looks = _Mirror(tmp_path, _NAME, CHAMPION), threading.Event(), [], itertools.count()
    followed.update()

    def look() -> None:
        while not done.is_set():
            try:
                SurfaceModel.load(followed.link.resolve(), provider="cpu", threads=1)
                next(looks)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                wrong.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in ("2", "1", "2", "1"):
            promote(number)
            followed.update()
    finally:
        done.set()
        reader.join()
    assert wrong == []
    assert next(looks) > 4


@pytest.mark.slow
def test_a_registry_that_cannot_be_reached_is_told_once_and_the_former_stays(
    store: str, warnings: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    looks, update = [], _Mirror.update
    monkeypatch.setattr(_Mirror, "update", lambda self: (looks.append(1), update(self))[1])
    promote("1")
    with mirrored(_ADDRESS, poll=0.01) as link:
        wait_for(link.exists, seconds=60, what="the first version")
        assert warnings == []
        for times in (1, 2):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
            before = len(looks)
            wait_for(lambda before=before: len(looks) > before + 4, seconds=60, what="looks at no registry")
            assert len(warnings) == times
            assert link.resolve().name == "1"
            monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
            before = len(looks)
            wait_for(lambda before=before: len(looks) > before + 4, seconds=60, what="looks at the registry")
        message, reason = warnings[0]
        assert message == "the registry gives no model, the former stays"
        assert reason.startswith("the MLflow store http://127.0.0.1:")
        promote("2")
        wait_for(lambda: link.resolve().name == "2", seconds=60, what="the second version")
    assert not link.parent.exists()


@pytest.mark.slow
def test_whatever_goes_wrong_it_looks_again(
    store: str, warnings: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("1")
    with mirrored(_ADDRESS, poll=0.01) as link:
        wait_for(link.exists, seconds=60, what="the first version")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            promote("2")
            wait_for(lambda: bool(warnings), seconds=60, what="the warning")
        assert warnings == [("the registry gives no model, the former stays", "[Errno 28] No space left on device")]
        wait_for(lambda: link.resolve().name == "2", seconds=60, what="the second version")


@pytest.mark.slow
def test_following_an_alias_needs_neither_torch_nor_onnx(store: str, tmp_path: Path) -> None:
    """The image of the server has neither."""
    promote("1")
    program = (
        "import sys; sys.modules |= {'torch': None, 'onnx': None}\n"
        "from pathlib import Path\n"
        "from pipeline.registry.alias_link import _Mirror\n"
        f"_Mirror(Path(sys.argv[1]), {_NAME!r}, {CHAMPION!r}).update()"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "models"], check=True, cwd=tmp_path)
    assert (tmp_path / "models/current" / MANIFEST).exists()


@pytest.mark.parametrize(
    "address", ["models:/", "models:/volvae", "models:/volvae/3", "models:/@champion", "models:/a@b@c", "models:/a@"]
)
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(InputError) as caught, mirrored(address, poll=1.0):
        pass
    assert str(caught.value) == f"{address} is not the address of a model; allowed: a folder or models:/NAME@ALIAS"


def answered(server: Server, latents: int) -> tuple[str, np.ndarray]:
    """The version that answers, and its vols."""
    found = server.ask("POST", "/v2/models/decoder/infer", decoder_request(np.ones((1, latents), np.float32))).json()
    (output,) = found["outputs"]
    return found["model_version"], np.array(output["data"], np.float32)


@pytest.mark.slow
def test_the_server_waits_for_a_champion_and_follows_it(store: str, model: SurfaceModel, tmp_path: Path) -> None:
    vols = model.decode(np.ones((1, model.latents), np.float32)).ravel()
    with started(_ADDRESS, tmp_path, "--poll", "0.1") as waiting:
        wait_for(lambda: bool(waiting.said(_WAITS)), seconds=60, what="the line that says what it waits for")
        assert waiting.process.poll() is None
        assert not waiting.said("listens")
        promote("1")
        server = ready(waiting)
        (line,) = server.said(_WAITS)
        assert f"{_NAME} has no version '{CHAMPION}' in {store}" in line["reason"]
        for number in ("1", "2", "3"):
            promote(number)
            wait_for(lambda number=number: server.version() == number, seconds=60, what=f"version {number}")
            found, values = answered(server, model.latents)
            assert found == number
            np.testing.assert_array_equal(values, np.float32(_FACTORS[int(number) - 1]) * vols)
        roll_back()
        wait_for(lambda: server.version() == "2", seconds=60, what="the former version")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


@pytest.mark.slow
def test_the_server_ends_at_once_while_it_waits(store: str, tmp_path: Path) -> None:
    with started(_ADDRESS, tmp_path, "--poll", "3600") as server:
        wait_for(lambda: bool(server.said(_WAITS)), seconds=60, what="the line that says what it waits for")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert [line["message"] for line in server.lines()] == [_WAITS]


@pytest.mark.slow
def test_a_registry_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with started(_ADDRESS, tmp_path, environment={"MLFLOW_TRACKING_URI": uri}) as server:
            silent.settimeout(60)
            connection, _ = silent.accept()  # it has asked
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0
            connection.close()


@pytest.mark.slow
def test_a_champion_that_is_not_fit_is_not_served_at_first(store: str, tmp_path: Path) -> None:
    with opened() as models:
        run = models.find("1").run_id
    (manifest,) = tmp_path.rglob(f"{run}/artifacts/bundle/{MANIFEST}")
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b'"format": 4', b'"format": 5'))
    with pytest.raises(registry.StageError):
        promote("1")
    with opened() as models:
        models._client.set_registered_model_alias(_NAME, CHAMPION, "1")
    with started(_ADDRESS, tmp_path, "--poll", "0.1") as server:
        wait_for(lambda: bool(server.said(_WAITS)), seconds=60, what="the line that says what is wrong")
        assert "has format 5; this version of volvae reads format 4" in server.said(_WAITS)[0]["reason"]
        manifest.write_bytes(content)
        assert ready(server).version() == "1"
