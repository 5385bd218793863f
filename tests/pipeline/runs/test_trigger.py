"""When a scheduled run trains: decisions on situations that are known, and the drift that the champion sees."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from chaos import tamper
from pipeline.cli.main import main as cli
from pipeline.errors import StageError
from pipeline.files import surface_tables
from pipeline.files.csv_tables import write_csv
from pipeline.registry import champion_model, registry
from pipeline.registry.champion_model import Champion
from pipeline.registry.registry import Version
from pipeline.runs import trigger
from pipeline.runs.trigger import Situation, decide
from pipeline.settings.retrain import RetrainParams
from tests.records import empty_store, own_registry, record  # noqa: F401
from tests.workspace import Workspace
from vae.bundle import VERIFY_KEY
from vae.runtime import SurfaceModel

CHANGED = {"prepare": ["data/quotes.parquet"], "train": ["train"]}


def settings(*when: str) -> RetrainParams:
    return RetrainParams(when=list(when), incoming="incoming.parquet", odd_share=0.05, age_days=30.0)


@pytest.mark.parametrize(
    ("when", "situation", "run", "reason"),
    [
        (("change",), Situation({}, "3", 99.0, 0.9), False, "nothing new: data, code and settings are those of"),
        (("change",), Situation({}, None, 0.0, None), True, "no version is registered yet"),
        (("change",), Situation(CHANGED, "3", 1.0, 0.0), True, "changed: prepare: data/quotes.parquet; train: train"),
        (("drift",), Situation(CHANGED, "3", 99.0, 0.04), False,
         "changed, but 4.0% of the incoming surfaces are unlikely: no reason"),
        (("drift",), Situation(CHANGED, "3", 1.0, 0.06), True, "6.0% of the incoming surfaces are unlikely; changed"),
        (("drift",), Situation(CHANGED, "3", 1.0, None), False, "changed, but no surfaces to watch: no reason"),
        (("age",), Situation(CHANGED, "3", 29.0, None), False, "changed, but version 3 is 29.0 days old: no reason"),
        (("age",), Situation(CHANGED, "3", 31.0, None), True, "version 3 is 31.0 days old; changed: prepare"),
        (("drift", "age"), Situation(CHANGED, "3", 31.0, 0.0), True, "0.0% of the incoming surfaces are unlikely; "),
    ],
)  # fmt: skip
def test_decisions(when: tuple[str, ...], situation: Situation, *, run: bool, reason: str) -> None:
    found = decide(situation, settings(*when))
    assert found.run is run
    assert found.reason.startswith(reason)


@pytest.mark.slow
def test_drift_is_what_the_champion_finds_unlikely(
    finished: Workspace, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bundle = finished.folder / "artifacts/bundle"
    model = SurfaceModel.load(bundle, provider="cpu")
    usual = model.sample(40, seed=1)
    broken = usual.copy()
    broken[:10, 1] *= 1.5
    files = {}
    for name, iv in (("usual", usual), ("broken", broken)):
        files[name] = workspace.folder / f"{name}.parquet"
        surface_tables.write_surfaces(files[name], [iv], model.grid, count=len(iv))
    with registry.opened(model="volvae", experiment="volvae") as models:
        assert champion_model.read(models) is None
        models.promote(models.register(record(bundle, "a")))
        champion = champion_model.read(models)
    share = partial(trigger.unlikely_share, champion, params=workspace.params(), folder=workspace.folder)
    page = workspace.folder / "results/drift.html"
    assert share(files["usual"]) < 0.05
    assert "<h2>No drift</h2>" in page.read_text()
    found = share(files["broken"])
    assert found == pytest.approx(0.25, abs=0.03)
    assert (
        f"<h2>The data drift</h2><p>The data drift: {found:.1%} of 40 incoming surfaces are unlikely"
        in page.read_text()
    )


def test_quotes_are_watched_by_the_settings_of_prepare(
    linear_bundle: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the columns, units and dates of the training file; the page has the dates, and the command the same share."""
    model = SurfaceModel.load(linear_bundle, provider="cpu")
    iv = model.sample(6, seed=1)
    iv[2] *= 1.5
    tenors, nodes = np.meshgrid(model.grid.tenors, model.grid.nodes, indexing="ij")
    k = nodes * (np.sqrt(tenors) if model.grid.convention == "sqrt_time" else 1.0)
    rows = [
        (f"2026-11-{9 + day:02d}", *(f"{value:.9g}" for value in point))
        for day, surface in enumerate(iv)
        for point in zip(tenors.ravel(), k.ravel(), 100.0 * surface.ravel(), strict=True)
    ]
    write_csv(workspace.folder / "today.csv", ("day", "years", "k", "vol"), rows)
    columns = {"date": "day", "tenor_years": "years", "log_moneyness": "k", "iv": "vol"}
    settings = {"path": "before.csv", "columns": columns, "vol_unit": "percent"}
    workspace.set(prepare__source="quotes", prepare__quotes=settings, retrain__incoming="today.csv")
    champion = Champion(Version("7", "run", datetime.now(UTC), {}), model)
    found = trigger.unlikely_share(champion, Path("today.csv"), workspace.params(), workspace.folder)
    assert found == float((model.score(iv).percentile < 1.0).mean()) > 0.0
    page = (workspace.folder / "results/drift.html").read_text()
    assert "volvae version 7" in page
    assert '<th scope="row">2026-11-11</th>' in page
    monkeypatch.chdir(workspace.folder)
    for file in ([], ["today.csv"]):
        done = CliRunner().invoke(cli, ["drift", *file, "--bundle", str(linear_bundle), "--json"])
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["odd_share"] == found


@pytest.mark.parametrize(
    ("changed", "watched", "refused"),
    [
        ({"train": ["train"]}, False, True),
        ({}, True, True),
        ({}, False, False),  # it would not train
    ],
)
def test_a_champion_that_cannot_be_trusted_ends_a_run_before_it_trains(
    own_registry: Path,  # noqa: F811
    linear_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    workspace: Workspace,
    *,
    changed: dict[str, list[str]],
    watched: bool,
    refused: bool,
) -> None:
    """The stage register would refuse what it trained. Whether drift is watched makes no difference."""
    with registry.opened(model="volvae", experiment="volvae") as models:
        models.promote(models.register(record(linear_bundle, "a")))
    monkeypatch.setenv(VERIFY_KEY, str(tamper.write_key(own_registry, "ours")[1]))
    monkeypatch.setattr(trigger, "changes", lambda *_: changed)
    if watched:
        workspace.set(retrain__incoming="incoming.csv")
    if refused:
        with pytest.raises(StageError, match=r"version 1 is refused: it has no model\.sig, and .* `volvae sign "):
            trigger.situation_in(own_registry, workspace.params())
    else:
        assert trigger.situation_in(own_registry, workspace.params()).newest == "1"


def test_bad_settings_are_named(workspace: Workspace) -> None:
    workspace.set(retrain__when=["drift"])
    with pytest.raises(Exception, match="when: drift needs incoming, the path of the surfaces that are watched"):
        workspace.params()
    workspace.set(retrain__when=["never"])
    with pytest.raises(Exception, match=r"retrain.when.*'change', 'drift' or 'age'"):
        workspace.params()
