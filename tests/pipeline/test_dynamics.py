"""The law of motion in the stages: fitted where data are dated, measured on the test dates, refused in one line."""

import csv
import datetime
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.cli.main import main as command
from pipeline.files import formats, motion_file
from pipeline.files.dataset import Dataset
from pipeline.files.surface_tables import write_surfaces
from tests.workspace import Workspace
from vae.dynamics.law import Law, LawState
from vae.runtime import SurfaceModel
from vae.surface.smile_features import functionals

_TENORS, _NODES = (0.25, 1.0), (-0.1, 0.0, 0.1)


def _quoted(workspace: Workspace, dates: int, *, weekly: bool = False, **train: Any) -> None:
    """Settings and a file of quotes whose level wanders from one working day to the next, against the spot."""
    random, day = np.random.default_rng(3), datetime.date(2020, 1, 1)
    with Path("quotes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["date", "tenor_years", "log_moneyness", "iv", "spot"])
        level, skew, spot = np.log(0.2), -0.3, 100.0
        for place in range(dates):
            shock = random.standard_normal(2)
            level, skew, spot = level + 0.03 * shock[0], skew + 0.01 * shock[1], spot * np.exp(-0.008 * shock[0])
            for tenor in _TENORS:
                for k in _NODES:
                    vol = np.exp(level + skew * k / tenor**0.5 + 0.002 * random.standard_normal())
                    rows.writerow([day.isoformat(), tenor, k, f"{vol:.8f}", "" if place == 270 else f"{spot:.8f}"])
            day += datetime.timedelta(7 if weekly else 1 if day.weekday() < 4 else 3)
    path = workspace.folder / "params.yaml"
    settings = YAML(typ="safe").load(path)
    settings["prepare"] |= {
        "source": "quotes",
        "grid": {"convention": "log_moneyness", "tenors_days": [365 * t for t in _TENORS], "nodes": list(_NODES)},
        "quotes": {
            "path": "quotes.csv",
            "columns": {"date": "date", "tenor_years": "tenor_years", "log_moneyness": "log_moneyness", "iv": "iv"},
            "conditions": {"index": "spot"},
        },
    }
    model = {"latents": 2, "basis": 6, "width": 8, "depth": 1, "transform": "log", "residual_factors": 5}
    settings["train"] |= {"model": model, "scaffold_latents": 0, "hidden_share": 0.0} | train
    settings["train"]["prior"] = {"components": [1], "flow_layers": 0, "surfaces": 256}
    settings["evaluate"]["completion_points"] = [2]
    YAML().dump(settings, path)


@pytest.mark.slow
def test_a_law_is_fitted_and_measured_on_dates_that_it_did_not_know(workspace: Workspace) -> None:
    _quoted(workspace, 300, dynamics={"underlying": "index"}, conditions=["atm_level"])
    for stage in ("prepare", "train", "evaluate"):
        assert workspace.run(stage) == 0, stage
    motion = motion_file.read(Path("artifacts/model"))
    assert motion is not None
    dates = Dataset(Path("data/surfaces")).date("validation")
    assert dates is not None
    assert motion.date == dates[-1]
    assert motion.law.has_return
    shocks = motion.law.shocks
    assert np.corrcoef(shocks[:, 0], shocks[:, -1])[0, 1] < -0.9
    figures = formats.read_json(Path("results/evaluate.json"))
    assert figures["scenario_dates"] == figures["test_surfaces"] - 1 == 44  # no spot on one date
    assert figures["scenario_energy_score"] == pytest.approx(figures["fhs_energy_score"], rel=0.1)
    assert 0.75 < figures["scenario_coverage_90"] < 1.0
    assert figures["scenario_arbitrage_free_rate"] > 0.95
    page = Path("results/evaluate.html").read_text()
    assert f'<th scope="row">filtered historical simulation</th><td>{figures["fhs_energy_score"]:.2f}</td>' in page
    assert figures["scenario_skew_stickiness_91"] == pytest.approx(figures["data_skew_stickiness_91"], rel=0.2)
    row = (figures[f"{name}_skew_stickiness_91"] for name in ("data", "scenario"))
    assert all(f"<td>{ratio:.2f}</td>" in page for ratio in row)
    assert {"scenario_coverage_90_5_days", "scenario_coverage_90_lowest_20_days"} <= figures.keys()
    assert {"memory_known_hidden_mae_bp_2", "static_rotating_coverage_90_2", "kalman_same_hidden_mae_bp_2"} <= set(
        figures
    )

    assert workspace.run("export") == 0
    assert formats.read_json(Path("results/export.json"))["parity_scenarios_max_vol"] < 1e-5
    _check_scenarios(SurfaceModel.load("artifacts/bundle"), motion)

    _check_command(SurfaceModel.load("artifacts/bundle"))
    _check_risk()
    _check_condition(SurfaceModel.load("artifacts/bundle"))


def _check_condition(model: SurfaceModel) -> None:
    """The whole bundle, written by the stage, draws samples of the level that they are asked for."""
    assert model.conditions == ("atm_level",)
    read = functionals(model.conditions, model.grid)[0]
    low, high = (model.sample(500, seed=1, conditions={"atm_level": level}) for level in (0.20, 0.22))
    assert ((high - low) * read).sum((1, 2)).mean() == pytest.approx(0.02, rel=0.2)


def _check_command(model: SurfaceModel) -> None:
    """The file holds what the runtime draws, from the bundle's state and from a newer surface."""
    call = CliRunner().invoke
    drawn = call(command, ["scenarios", "-n", "300", "--days", "2", "--seed", "5", "-o", "paths.parquet", "--json"])
    assert drawn.exit_code == 0, drawn.output
    assert json.loads(drawn.stdout)["from"] == str(model.state.date)
    expected = model.scenarios(n=300, days=2, seed=5)
    table = pq.read_table("paths.parquet")
    np.testing.assert_allclose(table["iv"].to_numpy().reshape(expected.iv.shape), expected.iv, rtol=1e-6)
    assert table["date"].to_pylist()[6] == expected.dates[1]
    np.testing.assert_allclose(table["log_return"].to_numpy()[::6].reshape(300, 2), expected.log_return, atol=1e-7)

    write_surfaces(Path("one.parquet"), [expected.iv[:1, 0]], model.grid, count=1)
    newer = ["scenarios", "-n", "2", "-o", "later.parquet", "--from", "one.parquet"]
    date, change = str(expected.dates[0]), f"--log-return={expected.log_return[0, 0]}"
    assert call(command, [*newer, "--date", date, change]).exit_code == 0
    for arguments, line in (
        (newer, "--date must say of which date one.parquet is"),
        ([*newer, "--date", date], "log_return is None; allowed: a number"),
        ([*newer[:5], "--date", date], "name its file with --from"),
        (["scenarios", "-o", "paths.csv"], "paths.csv must end in .parquet"),
    ):
        refused = call(command, arguments)
        assert refused.exit_code == 2
        assert line in refused.stderr


def _check_risk() -> None:
    """A straddle that is sold loses what the scenarios say; what cannot be valued is refused in one line."""
    call = CliRunner().invoke
    Path("book.csv").write_text("type,strike,days,quantity\ncall,100,180,-10\nput,100,180,-10\nstock,,,1\n")
    arguments = ["risk", "book.csv", "--spot", "100", "-n", "2000", "--seed", "5"]
    found = json.loads(call(command, [*arguments, "--json"]).stdout)
    assert found["has_return"]
    assert found["risk"]["0.99"]["value_at_risk"] > found["risk"]["0.95"]["value_at_risk"] > 0.0
    assert found["explained"]["gamma"]["mean"] < 0.0 < found["explained"]["time"]["mean"]
    assert found["hedge"]["left_with_straddle"] <= found["hedge"]["left"] <= 1.0
    assert "value at risk" in call(command, arguments).stdout
    asked = [*arguments, "--given-return", "-0.005", "--stress", "spot=-0.05,level=0.02"]
    given = call(command, asked)
    assert "the log return is -0.005, and the scenarios are worth " in given.stdout
    assert [line.split(":")[0] for line in given.stdout.splitlines()[-2:]] == [
        f"stress     spot -5 %, level +2 points (sticky {rule})" for rule in ("strike", "delta")
    ]
    assert json.loads(call(command, [*asked, "--json"]).stdout)["stress"][0]["pnl"] < 0.0
    Path("book.csv").write_text("type,strike,days,quantity\ncall,100,900,1\ncall,100,180,1\ncall,200,180,1\n")
    refused = call(command, arguments)
    assert refused.exit_code == 2
    assert "the surface does not enclose the options of rows 1, 3: it reaches from 91 to 365 days" in refused.stderr


def _check_scenarios(model: SurfaceModel, motion: motion_file.FittedMotion) -> None:
    data = Dataset(Path("data/surfaces"))
    dates, spot = data.date("test"), data.conditions("test")["index"]
    assert dates is not None
    priced = np.isfinite(spot)
    dates, price, surfaces = dates[priced], np.log(spot[priced]), data.arrays("test")["iv"][priced]
    newest = datetime.date(1970, 1, 1) + datetime.timedelta(int(dates[-1]))
    assert model.state.date == newest

    found = model.scenarios(n=300, days=3, seed=7)
    assert found.iv.shape == (300, 3, 2, 3)
    assert all(before < after for before, after in itertools.pairwise([newest, *found.dates]))
    again = model.scenarios(n=10, days=3, seed=7, offset=5)
    np.testing.assert_array_equal(found.shocks[5:15], again.shocks)
    np.testing.assert_allclose(found.iv[5:15], again.iv, rtol=1e-6)
    assert not np.array_equal(found.shocks, model.scenarios(n=300, days=3, seed=8).shocks)
    assert not np.array_equal(found.shocks[:, 0], found.shocks[:, 1])
    level = np.log(found.iv.mean((2, 3)))
    assert np.corrcoef(level[:, 2], found.log_return[:, 2])[0, 1] < -0.9
    assert 1.3 < level[:, 2].std() / level[:, 0].std() < 2.2  # about the root of 3

    start = datetime.date(1970, 1, 1) + datetime.timedelta(motion.date)
    parts = (part.astype(np.float32) for part in motion.state)
    state = model.state._replace(date=start, **dict(zip(motion.state._fields, parts, strict=True)))
    before = np.log(data.conditions("validation")["index"][-1])
    for iv, day, change in zip(surfaces, dates, np.diff(price, prepend=before), strict=True):
        date = datetime.date(1970, 1, 1) + datetime.timedelta(int(day))
        state = model.next_state(iv, date, log_return=float(change), state=state)
    for one, two in zip(state[1:], model.state[1:], strict=True):  # export filtered through the same dates
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(model.state.iv, surfaces[-1], atol=1e-3)  # but for the noise that the model leaves

    with pytest.raises(ValueError, match=r"log_return is None; allowed: a number"):
        model.next_state(surfaces[-1], newest + datetime.timedelta(1))
    with pytest.raises(ValueError, match=rf"date is {newest}; allowed: after {newest}"):
        model.next_state(surfaces[-1], newest, log_return=0.0)
    with pytest.raises(ValueError, match="dates that rise"):
        model.scenarios(days=[newest], seed=1)
    with pytest.raises(ValueError, match="n is 0"):
        model.scenarios(n=0, seed=1)
    holed = surfaces[-1].copy()
    holed[0, 0] = np.nan
    with pytest.raises(ValueError, match="missing points"):
        model.next_state(holed, newest + datetime.timedelta(1), log_return=0.0)


@pytest.mark.parametrize(
    ("dates", "train", "line"),
    [
        (80, {"dynamics": {}}, "train.dynamics is set, but train and validation have 68 dates, fewer than 100"),
        (120, {"dynamics": {}, "weekly": True}, "half of the dates are 5 or more working days apart"),
        (160, {"dynamics": {"underlying": "spot"}}, "underlying is spot, which is not among the numbers of the data"),
    ],
)
def test_what_no_law_fits_is_one_clear_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], dates: int, train: dict[str, Any], line: str
) -> None:
    _quoted(workspace, dates, **train)
    assert workspace.run("prepare") == 0
    assert workspace.run("train") == 2
    assert line in capsys.readouterr().err.splitlines()[-1]
    assert not Path("artifacts/model").exists()


def test_data_without_dates_have_no_law(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.set(train__dynamics={}, train__model__transform="log")
    assert workspace.run("prepare") == 0
    assert workspace.run("train") == 2
    assert "train.dynamics is set, but the data have no dates; allowed: null" in capsys.readouterr().err


def test_a_law_without_the_fields_that_have_come_since_is_read(tmp_path: Path) -> None:
    """Such as elasticity: their defaults are what the version before did."""
    required = {name: np.full((1, 2), 0.5 + place) for place, name in enumerate(Law._fields) if name != "elasticity"}
    state = {name: np.zeros(2) for name in LawState._fields}
    facts = {"facts": json.dumps({"date": 20000, "form": "reverting", "underlying": None})}
    formats.write_arrays(tmp_path / "dynamics.safetensors", required | state, facts)
    motion = motion_file.read(tmp_path)
    assert motion is not None
    np.testing.assert_array_equal(motion.law.elasticity, [[0.0]])
    for name, value in required.items():
        np.testing.assert_array_equal(getattr(motion.law, name), value)
    motion_file.write(tmp_path, motion)
    assert motion_file.read(tmp_path) is not None

    del required["shocks"]
    formats.write_arrays(tmp_path / "dynamics.safetensors", required | state, facts)
    with pytest.raises(motion_file.InputError, match="shocks"):
        motion_file.read(tmp_path)


def test_a_damaged_law_is_named(tmp_path: Path) -> None:
    assert motion_file.read(tmp_path) is None
    formats.write_arrays(tmp_path / "dynamics.safetensors", {"basis": np.eye(2)}, {"facts": "{}"})
    with pytest.raises(motion_file.InputError, match=r"dynamics\.safetensors holds no law of motion"):
        motion_file.read(tmp_path)
