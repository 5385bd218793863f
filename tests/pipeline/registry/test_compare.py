"""Two versions or two folders side by side: what is better beyond the gate's margins, and what may not be compared."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from pipeline.cli.main import main as cli
from pipeline.headlines import HEADLINES
from pipeline.registry import compare, compare_text, dvc_lock, registry, sides
from pipeline.registry.compare import compared
from pipeline.registry.sides import Side
from pipeline.settings.params import read_params
from tests.records import record

ROOT = Path(__file__).parents[3]
GATE = read_params(ROOT / "params.yaml").register_.gate
GRID = {"convention": "delta", "tenors": [0.25, 1.0], "nodes": [0.25, 0.5, 0.75]}
SIDE = Side("one", "", {"grid": GRID, "markets": ["A"]}, {}, {"train.seed": 7}, "1" * 32, {})


def figure(name: str, first: float, second: float, **errors: float) -> compare.Figure:
    """A headline of two models of the same data; ``errors`` are standard errors of both."""
    sides = (SIDE._replace(figures={name: value, **errors}) for value in (first, second))
    return compared(*sides, GATE).figures[0]


@pytest.mark.parametrize(
    ("name", "first", "second", "allowed", "better", "beyond"),
    [
        ("elbo_nats", 10.0, 12.0, GATE.worse_nats, None, 0.0),
        ("elbo_nats", 10.0, 13.0, GATE.worse_nats, "second", 1.0),
        ("elbo_gap_to_oracle_nats", 10.0, 13.0, GATE.worse_nats, "first", 1.0),
        ("completion_hidden_mae_bp_10", 2.0, 1.5, GATE.worse_bp, "second", 0.4),
        ("completion_mae_10", 2.0, 2.01, 0.02, None, 0.0),
        ("opponent_error_ratio", 2.0, 3.0, 0.02, "second", 0.98),
        ("interval_coverage_90", 0.86, 0.94, 0.05, None, 0.0),
        ("interval_coverage_90", 0.90, 0.98, 0.05, "first", 0.03),
        ("sample_arbitrage_free_rate", 1.0, 0.99, GATE.arbitrage_rate, "first", 0.008),
        ("elbo_nats", 10.0, math.nan, GATE.worse_nats, None, 0.0),
    ],
)
def test_a_figure_is_better_beyond_what_the_gate_allows(
    name: str, first: float, second: float, allowed: float, better: str | None, beyond: float
) -> None:
    found = figure(name, first, second)
    assert (found.allowed, found.beyond) == (pytest.approx(allowed), pytest.approx(beyond))
    assert found.better == better


def test_without_a_margin_of_the_gate_two_standard_errors_count() -> None:
    found = figure("sample_boosting_accuracy", 0.50, 0.53, sample_boosting_accuracy_se=0.01)
    assert found.allowed == pytest.approx(2.0 * math.sqrt(2.0) * 0.01)
    assert (found.better, found.beyond) == ("first", pytest.approx(0.03 - found.allowed))


@pytest.mark.parametrize("name", HEADLINES)
def test_each_headline_is_judged_but_the_number_of_active_latents(name: str) -> None:
    assert (figure(name, 1.0, 2.0).gain is None) == (name == "active_units")


@pytest.mark.parametrize(
    ("changes", "samples", "words"),
    [
        ({"data": "2" * 32}, True, "data/surfaces is 111111111111 in A, 222222222222 in B; samples can be compared"),
        ({"data": ""}, True, "the data of one is not known: no dvc.lock around it records this bundle; samples can"),
        ({"data": "", "verdict": "accepted"}, True, "the data of one is not known: its dvc.lock has no data/"),
        ({"settings": {"train.seed": 7, "evaluate.seed": 8}}, True, "evaluate.seed is None in A, 8 in B; samples can"),
        ({"manifest": {"grid": GRID, "markets": ["B"]}}, False, "the markets differ: A has A, B B; nor are samples"),
        (
            {"manifest": {"grid": {**GRID, "nodes": [0.1, 0.5, 0.9]}, "markets": ["A"]}},
            False,
            "the grids differ: A has 2 tenors x 3 nodes (delta 0.25 to 0.75, tenors to 1 years), "
            "B 2 tenors x 3 nodes (delta 0.1 to 0.9, tenors to 1 years)",
        ),
        ({"manifest": {"dimension": 3, "likelihood": "gaussian"}}, False, "A is of surfaces, B of vectors"),
    ],
)
def test_figures_of_different_data_are_not_ranked(changes: dict[str, Any], *, samples: bool, words: str) -> None:
    first = SIDE._replace(figures={"elbo_nats": 10.0})
    found = compared(first, first._replace(figures={"elbo_nats": 20.0}, **changes), GATE)
    assert (found.samples, found.figures[0].better) == (samples, None)
    told = compare_text.text(found)
    assert "figures are not comparable: " in told
    assert words in told
    assert "better" not in told


def test_vectors_of_another_length_are_not_compared() -> None:
    first = SIDE._replace(manifest={"dimension": 3, "likelihood": "gaussian"})
    found = compared(first, first._replace(manifest={"dimension": 4, "likelihood": "gaussian"}), GATE)
    assert (found.samples, found.obstacle) == (False, "A has dimension 3, B 4")


def test_what_two_models_of_vectors_share_is_named() -> None:
    first = SIDE._replace(manifest={"dimension": 3, "likelihood": "gaussian"})
    same = compare_text.text(compared(first, first, GATE))
    assert "comparable: the same dimension, likelihood, held-out data (" in same
    other = compare_text.text(compared(first, first._replace(data="2" * 32), GATE))
    assert "samples can be compared, as dimension and likelihood agree\n" in other


def test_what_has_no_figures_is_called_what_it_is() -> None:
    told = compare_text.text(compared(SIDE, SIDE._replace(verdict="accepted"), GATE))
    assert "the figures and settings of A are not known: a bundle does not carry them" in told
    assert "the figures of B are not known: it was registered without those of evaluate" in told


def test_a_folder_does_not_take_the_place_of_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("champion", "challenger", "3", "mine"):
        Path(name).mkdir()
        assert sides.is_folder(f"./{name}")
        assert sides.is_folder(name) == (name == "mine")
        assert sides.hidden_folder(name) == (name != "mine")
        assert not sides.hidden_folder(f"./{name}")
    assert not sides.hidden_folder("4")


def test_a_figure_that_is_not_known_is_null_in_json() -> None:
    first, second = (SIDE._replace(figures={"completion_mae_10": value}) for value in (math.nan, 2.0))
    found = json.loads(json.dumps(compare.record(compared(first, second, GATE)), allow_nan=False))
    assert found["figures"]["completion_mae_10"] == {
        "first": None, "second": 2.0, "difference": None, "allowed": None, "better": None, "beyond": 0.0,
    }  # fmt: skip


def test_long_settings_are_cut_before_they_differ() -> None:
    first, second = (SIDE._replace(settings={"prepare.tenors": list(range(days))}) for days in (18, 19))
    told = compare_text.text(compared(first, second, GATE))
    assert re.split(" {2,}", told.splitlines()[-1])[1:] == ["..., 15, 16, 17]", "..., 15, 16, 17, 18]"]


def lock(data: str, latents: int) -> str:
    """A dvc.lock with the settings of a stage."""
    return f"""\
schema: '2.0'
stages:
  prepare: {{outs: [{{path: data/surfaces, md5: {data}.dir}}]}}
  train:
    deps: [{{path: data/surfaces, md5: {data}.dir}}]
    params: {{params.yaml: {{train.seed: 7, train.model: {{latents: {latents}, basis: 8}}, train.precision: null}}}}
    outs: [{{path: artifacts/model, md5: 2222.dir}}]
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["compare", *arguments])


@pytest.mark.slow
@pytest.mark.usefixtures("own_registry")
def test_versions_of_a_registry_are_compared_by_what_was_kept_with_them(linear_bundle: Path) -> None:
    figures = {"evaluate/elbo_nats": 10.0, "evaluate/interval_coverage_90": 0.9, "train/elbo_nats": 1.0}
    with registry.opened(model="volvae", experiment="volvae") as models:
        for name, elbo, data, latents in (("a", 10.0, "11", 5), ("b", 15.0, "11", 6), ("c", 15.0, "33", 5)):
            made = record(linear_bundle, name)
            models.register(
                made._replace(
                    tags={**made.tags, "git.commit": name, "version.torch": "2"},
                    metrics={**figures, "evaluate/elbo_nats": elbo},
                    texts={"lineage/dvc.lock": lock(data, latents)},
                )
            )
        models.judge(models.find("2"), accepted=False, reason="too slow", tags={})
    found = json.loads(call("1", "2", "--json").stdout)
    assert found["figures_comparable"]
    assert found["figures"]["elbo_nats"] == {
        "first": 10.0, "second": 15.0, "difference": 5.0, "allowed": 2.0, "better": "second", "beyond": 3.0,
    }  # fmt: skip
    assert found["settings"] == {"train.model.latents": [5, 6]}
    assert found["code"] == {"git.commit": ["a", "b"]}
    assert found["second"] == {"name": "volvae version 2", "verdict": "refused: too slow", "data": "11.dir"}

    told = call("1", "2").stdout
    assert told.startswith("A  volvae version 1, not judged\nB  volvae version 2, refused: too slow\n\ncomparable: ")
    assert [line.split() for line in told.splitlines() if line.startswith("elbo_nats")] == [
        ["elbo_nats", "10.00", "15.00", "+5.00", "2.00", "B", "3.00"]
    ]
    other = call("1", "challenger").stdout
    assert "not comparable: data/surfaces is 11.dir in A, 33.dir in B; samples can be compared" in other
    assert "no setting differs" in other
    assert call("1", "9").stderr == (
        "volvae: volvae has no version '9' in sqlite:///mlflow.db; it has versions 1, 2, 3\n"
    )


def test_folders_are_compared_with_what_their_projects_record(
    linear_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where results or bundle are others than dvc.lock records: they may be of another model."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name, elbo in (("one", 10.0), ("two", 15.0)):
        project = tmp_path / name
        shutil.copytree(linear_bundle, project / "artifacts/bundle")
        (project / "results").mkdir()
        (project / "results/evaluate.json").write_text(json.dumps({"elbo_nats": elbo}))
        made = {
            "artifacts/bundle": project / "artifacts/bundle",
            "results/evaluate.json": project / "results/evaluate.json",
        }
        stages = YAML(typ="safe").load(lock("11", 5))
        stages["stages"]["evaluate"] = {"outs": [{"path": path, "md5": dvc_lock.md5(at)} for path, at in made.items()]}
        YAML().dump(stages, project / "dvc.lock")
    told = call("one/artifacts/bundle", "two/artifacts/bundle").stdout
    assert told.startswith("A  one/artifacts/bundle\nB  two/artifacts/bundle\n\ncomparable: the same grid, ")
    assert "no setting differs" in told

    (tmp_path / "two/results/evaluate.json").write_text('{"elbo_nats": 16.0}')
    stale = call("one/artifacts/bundle", "two/artifacts/bundle").stdout
    assert "the data of two/artifacts/bundle is not known" in stale
    assert "the figures and settings of B are not known" in stale
    assert call("one", "two").stderr.startswith("volvae: one is not a bundle: ")


def test_folders_are_compared_beside_a_params_yaml_that_only_reads_quotes(
    linear_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    without = call(str(linear_bundle), str(linear_bundle))
    Path("params.yaml").write_text("prepare: {quotes: {path: fx.csv, columns: {iv: Vol}}}\n")
    assert (without.exit_code, without.stderr) == (0, "")
    assert call(str(linear_bundle), str(linear_bundle)).stdout == without.stdout
    refused = call("1", "2")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("volvae: params.yaml says how to read a file of quotes and nothing else")
