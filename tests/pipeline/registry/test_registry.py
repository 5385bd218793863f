"""The registry over the embedded store and over a server with PostgreSQL: gate, champion, roll back, errors."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline import register
from pipeline.errors import InputError, StageError
from pipeline.files import formats
from pipeline.files.dataset import Dataset
from pipeline.register import HeldOut, decide, trusted_champion
from pipeline.registry import embedded_store, gate, mlflow_store, registry
from pipeline.registry.registry import CHAMPION, Registry
from pipeline.settings.params import Params
from tests.bundles import with_scenarios
from tests.command import volvae
from tests.records import empty_store, record  # noqa: F401
from tests.services import free_port, mlflow_server, postgres
from tests.workspace import Workspace
from vae.bundle import DECODER, ENCODER, MANIFEST, SCENARIOS, SCORER
from vae.runtime import SurfaceModel

FIGURES = {
    "parity_decoder_max_vol": 1e-7, "interval_coverage_90": 0.9, "data_arbitrage_free_rate": 1.0,
    "sample_arbitrage_free_rate": 0.9995, "opponent_error_ratio": 1.2,
    "decode_ms": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server whose store is PostgreSQL."""
    folder = tmp_path_factory.mktemp("server")
    with postgres(folder) as database, mlflow_server(folder, store=database) as url:
        yield url


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def empty(embedded: None, workspace: Workspace, empty_store: Path) -> None:  # noqa: F811
    shutil.copy(empty_store, workspace.folder)


@pytest.fixture(params=["sqlite", pytest.param("server", marks=[pytest.mark.slow, pytest.mark.xdist_group("mlflow")])])
def store(request: pytest.FixtureRequest, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty registry, which the environment names; the current folder is a workspace."""
    if request.param == "sqlite":
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        shutil.copy(request.getfixturevalue("empty_store"), workspace.folder)
        return mlflow_store.DEFAULT_STORE
    url = request.getfixturevalue("server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    name = f"volvae-{workspace.folder.parent.name}-{workspace.folder.name}"
    workspace.set(register__model=name, register__experiment=name)
    return url


@pytest.fixture(scope="module")
def bundles(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model of the finished run, and one that says every other vol 10 % too high, and the rest too low."""
    good, worse = finished.folder / "artifacts/bundle", tmp_path_factory.mktemp("worse") / "bundle"
    shutil.copytree(good, worse)
    (center,) = {
        tensor.raw_data
        for tensor in onnx.load(good / ENCODER).graph.initializer
        if np.prod(tensor.dims) == 27
        and tensor.raw_data in {t.raw_data for t in onnx.load(good / DECODER).graph.initializer}
    }
    bent = np.frombuffer(center, np.float32) * np.where(np.arange(27) % 2, 0.9, 1.1).astype(np.float32)
    manifest = json.loads((worse / MANIFEST).read_text())
    for name in (DECODER, ENCODER, SCORER):
        graph = onnx.load(worse / name)
        shifted = [tensor for tensor in graph.graph.initializer if tensor.raw_data == center]
        assert shifted
        for tensor in shifted:
            tensor.raw_data = bent.tobytes()
        content = graph.SerializeToString(deterministic=True)
        (worse / name).write_bytes(content)
        manifest["files"][name] = {"sha256": formats.sha256(content), "bytes": len(content)}
    (worse / MANIFEST).write_text(json.dumps(manifest))
    return {"good": good, "worse": worse}


@pytest.fixture
def held_out(finished: Workspace) -> HeldOut:
    test = Dataset(finished.folder / "data/surfaces").arrays("test")
    return HeldOut(test["iv"], test["clean"])


def opened(params: Params):
    return registry.opened(model=params.register_.model, experiment=params.register_.experiment)


def add(models: Registry, bundle: Path, content: str, held_out: HeldOut, params: Params) -> dict:
    version = models.register(record(bundle, content))
    loaded, champion = SurfaceModel.load(bundle, provider="cpu"), trusted_champion(models, content)
    return {"version": version.number, **decide(models, version, champion, loaded, FIGURES, held_out, params.register_)}


def with_gate(params: Params, **changes: float | None) -> Params:
    gate = params.register_.gate.model_copy(update=changes)
    return params.model_copy(update={"register_": params.register_.model_copy(update={"gate": gate})})


def champion(models: Registry) -> str:
    return models.find(CHAMPION).number


def same_files(folder: Path, other: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names == {path.name for path in other.iterdir()} and all(
        (folder / name).read_bytes() == (other / name).read_bytes() for name in names
    )


@pytest.mark.slow
def test_a_worse_model_is_refused_a_better_one_promoted_and_rollback_restores(
    store: str, workspace: Workspace, bundles: dict[str, Path], held_out: HeldOut
) -> None:
    params = workspace.params()
    with opened(params) as models:
        first = add(models, bundles["worse"], "a", held_out, params)
        assert (first["verdict"], champion(models)) == ("accepted", first["version"])
        better = add(models, bundles["good"], "b", held_out, params)
        assert (better["verdict"], champion(models)) == ("accepted", better["version"])
        assert better["beside_champion_nats"] > 100.0
        assert better["beside_champion_bp"] < -5.0
        assert better["beside_champion_surfaces"] == 64
        worse = add(models, bundles["worse"], "c", held_out, params)
        assert (worse["verdict"], champion(models)) == ("refused", better["version"])
        assert "gain_nats_low -" in worse["reason"]
        assert "wanted at least -2" in worse["reason"]
        tags = models.find(worse["version"]).tags
        assert tags["gate.verdict"] == "refused"
        assert tags["gate.loss_bp_high"].startswith("fail: loss_bp_high ")
        assert tags["gate.interval_coverage_90"] == "pass: interval_coverage_90 0.9, wanted 0.5 to 1"
        assert tags["volvae.parent"] == better["version"]

    assert volvae("fetch", "-o", "before").exit_code == 0
    assert same_files(workspace.folder / "before", bundles["good"])
    refused = volvae("promote")
    assert refused.exit_code == 2
    assert f"version {worse['version']} was refused: gain_nats_low" in refused.stderr
    forced = volvae("promote", "--force")
    assert forced.stdout == (
        f"{params.register_.model} version {worse['version']} is champion, after version {better['version']}\n"
    )
    with opened(params) as models:
        unjudged = models.register(record(bundles["good"], "nobody judged it")).number
    refused = volvae("promote", unjudged)
    assert refused.exit_code == 2
    assert f"version {unjudged} was not judged by the gate; `dvc repro" in refused.stderr
    back = volvae("rollback")
    assert back.stdout == (
        f"{params.register_.model} version {better['version']} is champion again, after version {worse['version']}\n"
    )
    assert volvae("fetch", "-o", "after").exit_code == 0
    assert same_files(workspace.folder / "after", bundles["good"])
    assert volvae("rollback").exit_code == 0
    assert volvae("fetch", "champion", "-o", "first").exit_code == 0
    assert same_files(workspace.folder / "first", bundles["worse"])
    ended = volvae("rollback")
    assert ended.exit_code == 2
    assert "is the first champion; there is none to go back to" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("during_the_comparison", [False, True])
def test_a_version_is_judged_beside_the_champion_of_now(
    empty: None,
    workspace: Workspace,
    bundles: dict[str, Path],
    held_out: HeldOut,
    monkeypatch: pytest.MonkeyPatch,
    *,
    during_the_comparison: bool,
) -> None:
    """Somebody promotes the better model after the worse champion was read: the worse one again is refused."""
    params = workspace.params()
    with opened(params) as models:
        add(models, bundles["worse"], "a", held_out, params)
        read = trusted_champion(models, "c")
        better = models.register(record(bundles["good"], "b"))
        version = models.register(record(bundles["worse"], "c"))
        loaded = SurfaceModel.load(bundles["worse"], provider="cpu")
        compare = register.compare

        def compare_meanwhile(*given: Any) -> dict[str, gate.Comparison]:
            if champion(models) != better.number:
                models.promote(better)
            return compare(*given)

        if during_the_comparison:
            monkeypatch.setattr(register, "compare", compare_meanwhile)
        else:
            models.promote(better)
        outcome = decide(models, version, read, loaded, FIGURES, held_out, params.register_)
        assert (outcome["verdict"], outcome["champion"], champion(models)) == ("refused", better.number, better.number)
        assert models.find(version.number).tags["volvae.parent"] == better.number
        models.promote(version)
        itself = decide(models, version, read, loaded, FIGURES, held_out, params.register_)
        assert itself["reason"] == "it is champion already"


@pytest.mark.slow
def test_what_was_rolled_back_is_not_promoted_by_the_next_run(
    store: str, workspace: Workspace, bundles: dict[str, Path], held_out: HeldOut
) -> None:
    params = workspace.params()
    with opened(params) as models:
        first = add(models, bundles["worse"], "a", held_out, params)
        second = add(models, bundles["good"], "b", held_out, params)
        models.roll_back()
        again = add(models, bundles["good"], "b", held_out, params)
        assert (again["version"], again["verdict"]) == (second["version"], "accepted")
        assert champion(models) == first["version"]
        models.promote(models.find(second["version"]))
        assert champion(models) == second["version"]
        assert not models.find(second["version"]).rolled_back


def test_a_changed_threshold_judges_the_same_version_again(
    empty: None, workspace: Workspace, bundles: dict[str, Path], held_out: HeldOut
) -> None:
    strict = with_gate(workspace.params(), decode_ms=FIGURES["decode_ms"] / 2.0)
    loose = with_gate(workspace.params(), decode_ms=FIGURES["decode_ms"] * 2.0, arbitrage_rate=None)
    with opened(strict) as models:
        refused = add(models, bundles["good"], "a", held_out, strict)
        assert (refused["version"], refused["verdict"]) == ("1", "refused")
        accepted = add(models, bundles["good"], "a", held_out, loose)
        assert (accepted["version"], accepted["verdict"], champion(models)) == ("1", "accepted", "1")
        tags = models.find("1").tags
        assert tags["gate.verdict"] == "accepted"
        assert tags["gate.decode_ms"].startswith("pass: ")
        assert "gate.sample_arbitrage_free_rate" not in tags


@pytest.mark.slow
def test_a_champion_without_files_stops_the_decision_and_promote_mends_it(
    store: str,
    workspace: Workspace,
    bundles: dict[str, Path],
    held_out: HeldOut,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Its files deleted behind MLflow's back: nothing is promoted unseen, and the alias stays."""
    params = workspace.params()
    with opened(params) as models:
        first = add(models, bundles["worse"], "a", held_out, params)
        run = models.find(first["version"]).run_id
    servers = {path.resolve() for path in tmp_path_factory.getbasetemp().glob("server*/artifacts")}
    (folder,) = [path for root in (workspace.folder, *servers) for path in root.rglob(f"{run}/artifacts/bundle")]
    folder.rename(folder.with_name("hidden"))
    with pytest.raises(StageError, match=r"bundle of .* version \d+ cannot be read"), opened(params) as models:
        add(models, bundles["good"], "b", held_out, params)
    with pytest.raises(StageError, match="cannot be read"), opened(params) as models:
        models.fetch(models.find(CHAMPION), workspace.folder / "got")
    assert not (workspace.folder / "got").exists()
    with opened(params) as models:
        assert champion(models) == first["version"]
        models.promote(models.find("challenger"))
        better = models.find(CHAMPION)
        assert better.number != first["version"]
    with pytest.raises(StageError, match="cannot be read"), opened(params) as models:
        models.roll_back()
    with opened(params) as models:
        assert champion(models) == better.number
        models._client.delete_model_version(models.model, better.number)
        assert models.get(CHAMPION) is None
        again = add(models, bundles["good"], "b", held_out, params)
        assert champion(models) == again["version"]


@pytest.mark.slow
def test_a_champion_of_another_format_is_replaced_without_a_comparison(
    empty: None, workspace: Workspace, bundles: dict[str, Path], held_out: HeldOut, capsys: pytest.CaptureFixture[str]
) -> None:
    params = workspace.params()
    with opened(params) as models:
        add(models, bundles["worse"], "a", held_out, params)
        (manifest,) = workspace.folder.glob(f"mlartifacts/*/artifacts/bundle/{MANIFEST}")
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
        outcome = add(models, bundles["good"], "b", held_out, params)
        assert champion(models) == outcome["version"] == "2"
    assert not any(name.startswith("beside_champion") for name in outcome)
    assert "register: no comparison with the champion: " in capsys.readouterr().err
    with opened(params) as models, pytest.raises(StageError, match=r"of another version of volvae: .* has format 2; "):
        models.roll_back()


@pytest.mark.slow
def test_files_that_are_not_those_registered_do_not_become_champion(
    empty: None, workspace: Workspace, bundles: dict[str, Path]
) -> None:
    params = workspace.params()
    with opened(params) as models:
        version = models.register(record(bundles["good"], "a"))
    (decoder,) = workspace.folder.glob(f"mlartifacts/*/artifacts/bundle/{DECODER}")
    content = decoder.read_bytes()
    decoder.write_bytes(content[:-1])
    with pytest.raises(StageError, match=r"version 1 is damaged: .*decoder.onnx"), opened(params) as models:
        models.promote(version)
    shutil.rmtree(decoder.parent)
    shutil.copytree(bundles["worse"], decoder.parent)
    with pytest.raises(StageError, match=r"its manifest\.json has another checksum"), opened(params) as models:
        models.promote(version)
    with opened(params) as models:
        assert models.get(CHAMPION) is None


@pytest.mark.parametrize("damage", [lambda graph: graph.write_bytes(b"no graph"), Path.unlink])
def test_fetch_refuses_a_bundle_whose_graph_of_scenarios_is_damaged(
    empty: None, workspace: Workspace, bundles: dict[str, Path], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Which only a bundle with a law of motion has."""
    bundle = with_scenarios(shutil.copytree(bundles["good"], tmp_path / "moves"))
    with opened(workspace.params()) as models:
        version = models.register(record(bundle, "a"))
        models.fetch(version, tmp_path / "out")
        assert same_files(tmp_path / "out", bundle)
    (graph,) = workspace.folder.glob(f"mlartifacts/*/artifacts/bundle/{SCENARIOS}")
    damage(graph)
    damaged = rf"bundle of volvae version 1 is damaged: .*{SCENARIOS} (was altered|cannot be read)"
    with opened(workspace.params()) as models, pytest.raises(StageError, match=damaged):
        models.fetch(version, tmp_path / "out")
    assert same_files(tmp_path / "out", bundle)


@pytest.mark.slow
def test_the_embedded_registry_moves_with_its_folder(
    empty: None,
    workspace: Workspace,
    bundles: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = workspace.params()
    with opened(params) as models:
        models.promote(models.register(record(bundles["good"], "a")))
    moved = tmp_path_factory.mktemp("moved") / "project"
    workspace.folder.rename(moved)
    workspace.folder.mkdir()
    monkeypatch.chdir(moved)
    fetched = volvae("fetch", "-o", "got")
    assert fetched.exit_code == 0, fetched.output
    assert same_files(moved / "got", bundles["good"])
    with opened(params) as models:
        models.register(record(bundles["worse"], "b"))
    assert not list(workspace.folder.iterdir())
    places = (
        "SELECT artifact_location FROM experiments WHERE name = 'volvae' UNION SELECT artifact_uri FROM runs UNION "
    )
    places += "SELECT artifact_location FROM logged_models UNION SELECT storage_location FROM model_versions"
    found = [row[0] for row in sqlite3.connect(moved / "mlflow.db").execute(places)]
    assert [place for place in found if place and not place.startswith("mlartifacts")] == []


def test_a_run_that_was_cut_off_is_closed_and_its_whole_model_used(
    store: str, workspace: Workspace, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = workspace.params()

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with opened(params) as models, monkeypatch.context() as patch:
        patch.setattr(mlflow_store.Store, "add_version", killed)
        with pytest.raises(Killed):
            models.register(record(bundles["good"], "a"))
    with opened(params) as models:
        whole = models.register(record(bundles["good"], "a"))
        experiment = models._client.get_experiment_by_name(models.experiment).experiment_id
        assert [run.info.run_id for run in models._client.search_runs([experiment])] == [whole.run_id]
        begun = models._client.create_run(experiment, tags={"volvae.content": "b"}).info.run_id
        models.register(record(bundles["good"], "b"))
        assert models._client.get_run(begun).info.status == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [100, 700])
def test_a_full_disk_is_one_line_and_a_rerun_repairs(
    embedded: None, workspace: Workspace, bundles: dict[str, Path], tmp_path: Path, kilobytes: int
) -> None:
    """Files may not grow beyond so much: the new store does not fit, or an artifact does not."""
    params = workspace.params()
    if kilobytes > 100:
        with opened(params) as models:
            assert models.get("1") is None
    big = workspace.folder / "big"
    big.write_bytes(bytes(1024 * (kilobytes + 1)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, limits[1]))
    try:
        asked = record(bundles["good"], "a")._replace(artifacts={bundles["good"]: registry.BUNDLE, big: "big"})
        refused = r"the MLflow store sqlite:///mlflow\.db refused: "
        with pytest.raises(StageError, match=refused), opened(params) as models:
            models.register(asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with opened(params) as models:
        version = models.register(asked)
        assert (version.number, models.promote(version)) == ("1", None)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////dev/null/mlflow.db", "the MLflow store sqlite:////dev/null/mlflow.db refused: .*Not a directory"),
        ("http://127.0.0.1:{port}", "the MLflow store http://127.0.0.1:{port} refused: .*"),
        ("http://me:secret@127.0.0.1:{port}", r"the MLflow store http://127.0.0.1:{port} refused: .*"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line_without_the_password(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=port))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = volvae("promote", "1")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr
    with pytest.raises(StageError, match=message.format(port=port)), opened(workspace.params()) as models:
        models.find("1")


@pytest.mark.slow
def test_wrong_credentials_are_one_clear_line(
    workspace: Workspace,
    empty_store: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    store = f"sqlite:///{shutil.copy(empty_store, workspace.folder / 'server.db')}"
    with mlflow_server(workspace.folder, store=store, password="a long password") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with (
            pytest.raises(StageError, match=rf"the MLflow store {url} refused: .*401"),
            opened(workspace.params()) as models,
        ):
            models.find("1")


def test_a_store_of_another_version_of_mlflow_is_one_clear_line(
    empty: None, workspace: Workspace, bundles: dict[str, Path]
) -> None:
    params = workspace.params()
    with opened(params) as models:
        models.register(record(bundles["good"], "a"))
    store = workspace.folder / "mlflow.db"
    kept = store.read_bytes()
    with sqlite3.connect(store) as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    database.close()
    mlflow_store.mlflow.tracking._tracking_service.utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    with pytest.raises(StageError, match=r"refused: .*database schema"), opened(params) as models:
        models.find("1")
    store.write_bytes(kept)
    with opened(params) as models:
        assert models.find("1").number == "1"


def test_an_unknown_version_is_named_with_those_there_are(
    empty: None, workspace: Workspace, bundles: dict[str, Path]
) -> None:
    with opened(workspace.params()) as models:
        with pytest.raises(InputError, match="it has none; `dvc repro` registers one"):
            models.find("1")
        models.register(record(bundles["good"], "a"))
        with pytest.raises(InputError, match=r"volvae has no version '7' in sqlite:///mlflow\.db; it has versions 1"):
            models.find("7")
        for name in ("9" * 30, "\N{ARABIC-INDIC DIGIT ONE}", "../1", "1\n"):
            with pytest.raises(InputError, match="volvae has no version"):
                models.find(name)


def test_a_store_that_refuses_within_a_promotion_is_one_line(
    empty: None, workspace: Workspace, bundles: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow also logs what it raises, with a traceback."""
    with opened(workspace.params()) as models:
        version = models.register(record(bundles["good"], "a"))
        models.judge(version, accepted=True, reason="all checks passed", tags={})
    with contextlib.closing(sqlite3.connect(workspace.folder / "mlflow.db")) as database, database:
        refusal = "BEFORE INSERT ON registered_model_aliases BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        database.execute(f"CREATE TRIGGER full {refusal}")
    refused = volvae("promote", "1")
    assert refused.exit_code == 1
    line = r"volvae: the MLflow store sqlite:///mlflow\.db refused: \(sqlite3\.\w+\) disk I/O error.*\n"
    assert re.fullmatch(line, refused.stderr), refused.stderr
    assert "sqlalche.me" not in refused.stderr
    assert capfd.readouterr().err == ""


def test_one_process_at_a_time_changes_who_is_champion(
    empty: None, workspace: Workspace, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it ends, in whatever way: its lock needs nobody."""
    monkeypatch.setattr(embedded_store, "_PATIENCE", 0.0)
    with opened(workspace.params()) as models:
        version = models.register(record(bundles["good"], "a"))
    holder = ["flock", str(workspace.folder), "cat"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdin.write(b"held")
        other.stdin.flush()
        assert other.stdout.read(4) == b"held"
        for change in (Registry.roll_back, lambda models: models.promote(version)):
            held = r"^the MLflow store sqlite:///mlflow\.db is held by another process$"
            with opened(workspace.params()) as models, pytest.raises(StageError, match=held):
                change(models)
        other.kill()
        other.stdin.close()
    subprocess.run(["flock", str(workspace.folder), "true"], check=True)  # when the child of flock has ended too
    with opened(workspace.params()) as models:
        assert models.promote(version) is None


def test_roll_backs_end_at_the_first_champion(
    empty: None, workspace: Workspace, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Also where an older version was promoted again, which made a ring; and from where no line was kept yet."""
    with opened(workspace.params()) as models:
        versions = [models.register(record(bundles["good"], content)) for content in "abc"]
        for place in (0, 1, 2, 0):
            models.promote(versions[place])
        left = []
        with pytest.raises(InputError, match="is the first champion; there is none to go back to"):
            left.extend(models.roll_back()[1].number for _ in range(9))
        assert left == ["3", "2", "1"]
        models._client.delete_registered_model_tag(models.model, "volvae.champions")
        for number, before in (("3", "2"), ("2", "1"), ("1", "3")):
            models._client.set_model_version_tag(models.model, number, "volvae.succeeds", before)
        assert models.roll_back()[1].number == "3"
        assert models.roll_back()[1].number == "2"
        with pytest.raises(InputError, match="is the first champion"):
            models.roll_back()


def test_fetch_deletes_no_file_that_is_of_no_bundle(
    empty: None, workspace: Workspace, bundles: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(bundles["good"], tmp_path / "mine")
    (tmp_path / "mine/notes.txt").write_text("a year of work")
    with opened(workspace.params()) as models:
        version = models.register(record(bundles["good"], "a"))
        with pytest.raises(InputError, match=r"mine holds notes\.txt, which would be deleted; name another folder"):
            models.fetch(version, tmp_path / "mine")
        (tmp_path / "mine/notes.txt").unlink()
        models.fetch(version, tmp_path / "mine")


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_as_such(
    empty: None, workspace: Workspace, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(workspace.params()) as models:
        version = models.register(record(bundles["good"], "a"))
    monkeypatch.setattr(shutil, "copyfile", full)  # with which MLflow copies from a folder
    monkeypatch.setattr(shutil, "copy2", full)
    for use in (models.load, lambda version: models.fetch(version, tmp_path / "out")):
        with (
            pytest.raises(StageError, match=r"^no space left on device for the files of a version, in /\S+$"),
            opened(workspace.params()),
        ):
            use(version)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
