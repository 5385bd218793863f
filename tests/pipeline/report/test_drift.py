"""The verdict on drift is that of a scheduled run, and the page shows what it rests on."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli.main import main as cli
from pipeline.files import surface_tables
from pipeline.report import drift
from pipeline.report.charts import Mark
from pipeline.report.drift import Rule, Watched
from pipeline.runs.trigger import Situation, decide
from pipeline.settings.retrain import RetrainParams
from tests.workspace import Workspace
from vae.runtime import Scores, SurfaceModel

_DEMO = Path(__file__).parents[3] / "deploy/demo/bundle"
_RULE = Rule(0.05, watched=True)


def watched(percentile: list[float], first: int | None = None) -> Watched:
    """Surfaces of these percentiles, dated from a day on, if it is given."""
    found, zeros = np.array(percentile), np.zeros(len(percentile))
    scores = Scores(zeros, found, zeros, 100.0 - found, zeros, found, np.zeros((len(found), 1, 1)), found)
    return Watched(scores, None if first is None else first + np.arange(len(found)))


@pytest.mark.parametrize(
    ("percentile", "share"),
    [
        ([50.0] * 100, 0.0),
        ([0.5] * 5 + [50.0] * 95, 0.05),
        ([0.5] * 6 + [50.0] * 94, 0.06),
        ([1.0] * 100, 0.0),  # the bound itself is not unlikely
        ([0.0, np.nan, np.nan, 2.0], 0.5),  # those without percentile do not count
        ([np.nan], None),
    ],
)
def test_the_verdict_is_that_of_a_scheduled_run(percentile: list[float], share: float | None) -> None:
    incoming = watched(percentile)
    assert drift.unlikely_share(incoming.scores) == share
    settings = RetrainParams(when=["drift"], incoming="a", odd_share=_RULE.allowed_share, age_days=1.0)
    decision = decide(Situation({"train": ["train"]}, "1", 0.0, share), settings)
    page = drift.drift_page("volvae version 1", None, incoming, _RULE)
    assert decision.run == ("<h2>The data drift</h2>" in page)
    assert (share is None) == ("<h2>Drift cannot be judged</h2>" in page)
    assert ("drift:" in drift.text(incoming, _RULE)) == (share is not None)


def test_the_line_counts_what_can_be_ranked() -> None:
    few = drift.text(watched([0.5] * 10 + [np.nan] * 990), _RULE)
    assert few == (
        "the data drift: 100.0% of 10 incoming surfaces that can be ranked are unlikely, 5.0% may be; "
        "990 cannot be ranked"
    )
    assert drift.text(watched([0.5] + [50.0] * 999), _RULE) == (
        "no drift: 0.1% of 1,000 incoming surfaces are unlikely, 5.0% may be"
    )


def test_surfaces_that_cannot_be_ranked_are_not_in_the_moving_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two unlikely ones of three make 67 %, whatever stands between them, at the place of the third."""
    drawn: list[Mark] = []
    monkeypatch.setattr(drift, "chart", lambda marks, *_, **__: drawn.extend(marks) or "")
    drift._shares([("incoming", "own", watched([0.5, np.nan, np.nan, 50.0, np.nan, 0.5, np.nan]))], _RULE)
    drift._shares([("incoming", "own", watched([np.nan]))], _RULE)
    assert [mark.y for mark in drawn] == [pytest.approx([200.0 / 3.0])]
    assert drawn[0].x.tolist() == [5.0]


def test_the_page_says_whether_runs_watch_and_names_the_least_likely_dates() -> None:
    test, incoming = watched([50.0] * 30, 20_000), watched([40.0] * 20 + [0.2, 0.1, 0.3], 20_030)
    page = drift.drift_page("a <model>", test, incoming, _RULE)
    assert page == drift.drift_page("a <model>", test, incoming, _RULE)
    assert "what a &lt;model&gt; learned" in page
    assert "test dates: 0.0%" in page
    assert page.index("2024-11-24") < page.index("2024-11-23</th>") < page.index("2024-11-25</th>")
    assert "A scheduled run trains, if data, code or settings changed." in page
    assert "not in retrain.when" in drift.drift_page("a", test, incoming, _RULE._replace(watched=False))


def test_without_dates_surfaces_stand_in_their_order() -> None:
    test, incoming = watched([50.0] * 3, 20_000), watched([40.0, np.nan])
    shown = [("test", "own", test), ("incoming", "own", incoming)]
    assert drift._places(test, shown).tolist() == [0.0, 1.0, 2.0]
    assert drift._places(incoming, shown).tolist() == [3.0, 4.0]
    dated = [("test", "own", test), ("incoming", "own", watched([40.0], 20_003))]
    assert drift._places(test, dated)[0] == 20_000  # days


def test_a_bundle_needs_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, or beside those of another project, the usual share is the bound, as the page says."""
    model = SurfaceModel.load(_DEMO, provider="cpu")
    surfaces = model.sample(40, seed=1)
    monkeypatch.chdir(tmp_path)
    surface_tables.write_surfaces(Path("newer.parquet"), [surfaces], model.grid, count=40)
    quotes = "{path: other.csv, columns: {tenor: a, log_moneyness: k, iv: v}, date: 2026-03-02}"
    for settings in (None, "lr: 0.1\n", f"prepare:\n  quotes: {quotes}\n"):  # the last as `volvae init` writes it
        if settings is not None:
            Path("params.yaml").write_text(settings)
        done = CliRunner().invoke(cli, ["drift", "newer.parquet", "--bundle", str(_DEMO), "--json"])
        assert done.exit_code == 0, done.stderr
        assert (json.loads(done.stdout)["allowed"], json.loads(done.stdout)["surfaces"]) == (0.05, 40)
        assert "No settings of scheduled runs are here" in Path("results/drift.html").read_text()
    refused = CliRunner().invoke(cli, ["drift", "--bundle", str(_DEMO)])
    assert (refused.exit_code, "nothing else" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_the_command_scores_what_is_watched_beside_the_test_split(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = finished.folder / "artifacts/bundle"
    model = SurfaceModel.load(bundle, provider="cpu")
    iv = model.sample(40, seed=1)
    iv[:10, 1] *= 1.5
    surface_tables.write_surfaces(tmp_path / "newer.parquet", [iv], model.grid, count=40)
    monkeypatch.chdir(finished.folder)
    options = ["--bundle", str(bundle), "-o", str(tmp_path / "drift.html")]
    done = CliRunner().invoke(cli, ["drift", str(tmp_path / "newer.parquet"), *options, "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    percentile = model.score(iv).percentile
    assert found["odd_share"] == (percentile < 1.0).mean() >= 0.25
    assert (found["surfaces"], found["drift"]) == (40, True)
    assert "test dates: " in (tmp_path / "drift.html").read_text()
    refused = CliRunner().invoke(cli, ["drift", *options])
    assert refused.exit_code == 2
    assert "retrain.incoming of params.yaml names none" in refused.stderr
