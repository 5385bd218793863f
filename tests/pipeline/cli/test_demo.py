"""The demo: a model and quotes that ship, of which every file can be completed as the README says."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.server import model_card, run
from deploy.server.settings import Settings
from pipeline.cli import demo
from pipeline.settings.params import read_params
from pipeline.settings.prepare import HestonPathsPrepare
from tests.command import volvae
from tools import dated
from tools import demo as maker
from vae.runtime import SurfaceModel

DEMO = maker.DEMO


@pytest.fixture(scope="module")
def model() -> SurfaceModel:
    return SurfaceModel.load(DEMO / "bundle", provider="cpu")


def test_the_folder_is_written_once_and_its_page_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(run, "run", served.append)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    result = volvae("demo", "--port", "8123")
    assert result.exit_code == 0, result.output
    assert "http://127.0.0.1:8123 " in result.output
    assert "in another shell\n  . .venv/bin/activate\n  volvae complete demo/" in result.output
    for part in ("bundle", "quotes"):
        names = {path.name for path in (DEMO / part).iterdir()}
        assert {path.name for path in (tmp_path / "demo" / part).iterdir()} == names

    (tmp_path / "demo/quotes/smile.csv").write_text("mine")
    assert volvae("demo").exit_code == 0
    assert (tmp_path / "demo/quotes/smile.csv").read_text() == "mine"
    assert served == [Settings(tmp_path / "demo/bundle", port=8123), Settings(tmp_path / "demo/bundle")]


def test_the_model_has_a_card_which_the_page_finds(tmp_path: Path, model: SurfaceModel) -> None:
    demo.write(tmp_path / "demo")
    card = model_card.read(tmp_path / "demo/bundle", model.manifest)
    assert card is not None
    assert b"Not judged by a gate" in card
    assert card == model_card.read(DEMO / "bundle", model.manifest)


def test_the_figures_of_the_card_are_right_for_surfaces_of_the_model(model: SurfaceModel) -> None:
    """Samples have the law that its intervals are of."""
    clean = model.sample(60, seed=3).astype(np.float64)
    noise = np.random.default_rng(4).normal(scale=1e-4, size=clean.shape)
    found = maker.held_out_figures(model, clean + noise, clean)
    assert 0.85 < found["interval_coverage_90"] < 0.99
    assert 0.5 < found["completion_hidden_mae_bp_10"] < 4.0
    assert found["sample_arbitrage_free_rate"] == 1.0


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = volvae("demo", tmp_path)
    assert (result.exit_code, result.stderr) == (2, f"volvae: {tmp_path} holds notes.txt; name another folder\n")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_bundle_says_where_bundles_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = volvae("complete", DEMO / "quotes/smile.csv", "-o", tmp_path / "a.csv", "--bundle", tmp_path / "none")
    assert result.exit_code == 2
    assert result.stderr.endswith("; `make run` trains one, `volvae demo` writes a small one to demo/bundle\n")
    (tmp_path / "demo/bundle").mkdir(parents=True)
    result = volvae("complete", DEMO / "quotes/smile.csv", "-o", tmp_path / "a.csv")
    assert result.stderr.endswith("; `make run` trains one, demo/bundle is that of the demo\n")


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 1_200_000


@pytest.mark.slow
def test_the_commands_of_the_readme_complete_its_quotes(root: Path, tmp_path: Path) -> None:
    text = (root / "README.md").read_text("utf-8")
    commands = re.findall(r"^\$ volvae (complete demo/.*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert {command.split()[1].removeprefix("demo/quotes/") for command in commands} == {
        path.name for path in (DEMO / "quotes").iterdir()
    }
    for command in commands:
        output = tmp_path / "surface.csv"
        words = command.replace("demo/", f"{DEMO}/").replace("surface.csv", str(output)).split()
        result = volvae(*words, "--json")
        assert result.exit_code == 0, result.output
        figures = json.loads(result.stdout)
        assert figures["quotes_used"] == figures["quotes"]
        assert not figures["outside"], command
        wrong = "wrong_quote" in command
        assert figures["wild_rows"] == ([maker.WRONG + 1] if wrong else [])
        assert figures["quotes_mean_error_bp"] < 6.0  # half of bid to ask in the chain; without the wild quote
        assert output.with_suffix(".html").exists() == ("--plot" in command)
        output.with_suffix(".html").unlink(missing_ok=True)


def test_what_is_left_out_of_a_completion_is_said(tmp_path: Path) -> None:
    """A wild quote, and one beyond the grid."""
    lines = (DEMO / "quotes/wrong_quote.csv").read_text()
    (tmp_path / "quotes.csv").write_text(f"{lines.rstrip()}\n{lines.splitlines()[1].replace('30,', '3000,', 1)}\n")
    result = volvae("complete", tmp_path / "quotes.csv", "-o", tmp_path / "a.csv", "--bundle", DEMO / "bundle")
    assert result.stdout.startswith("24 of 26 quotes used (1 beyond the grid, 1 wild), ")


def test_its_completions_are_the_surfaces_that_the_quotes_are_of(model: SurfaceModel) -> None:
    """Of a Heston model at tenors and strikes that the quotes do not have."""
    table = np.genfromtxt(DEMO / "quotes/smile.csv", delimiter=",", names=True)
    found = model.complete(table["iv"], tenor=table["days"] / 365.0, log_moneyness=table["log_moneyness"])
    days, k = (45, 182, 270), np.array([-0.1, -0.03, 0.03, 0.08])
    exact = maker.vols(maker.QUIET, days, k)
    read = model.surfaces(found.iv[None]).at(np.tile(k, len(days)), np.repeat(days, len(k)) / 365.0)
    assert 1e4 * np.abs(read[0] - exact.ravel()).max() < 10.0


def test_the_dated_model_is_of_the_settings_that_make_it(tmp_path: Path) -> None:
    maker.write_settings(tmp_path / "params.yaml", dated.SETTINGS)
    settings = read_params(tmp_path / "params.yaml")
    model = SurfaceModel.load(dated.DATED, provider="cpu")
    assert isinstance(settings.prepare, HestonPathsPrepare)
    assert settings.prepare.grid.build().to_dict() == model.grid.to_dict()
    assert settings.train.model.latents == model.latents
    assert settings.train.dynamics is not None
    assert model.manifest["dynamics"]["underlying"] == settings.train.dynamics.underlying


def test_the_quotes_are_those_that_the_tool_writes(tmp_path: Path) -> None:
    maker.write_quotes(tmp_path)
    for path in (DEMO / "quotes").iterdir():
        assert path.read_text() == (tmp_path / path.name).read_text(), path.name
