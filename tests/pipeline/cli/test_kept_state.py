"""``volvae complete --state``: what is known is kept in a file from one call to the next."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import kept_state
from pipeline.cli.main import main
from pipeline.errors import InputError
from vae.motion_state import State
from vae.runtime import SurfaceModel

_HEAD = "date,tenor_years,log_moneyness,iv\n"


def _state(date: str, elapsed: float = 0.0) -> State:
    zero: Any = np.zeros(1)
    return State(dt.date.fromisoformat(date), *[zero] * 8, elapsed)


@pytest.mark.parametrize(
    ("state", "when", "given", "expected"),
    [
        (_state("2020-05-29"), "2020-06-01", None, 1.0),  # Friday to Monday
        (_state("2020-05-29"), "2020-06-03 10:00:00", None, 3.0),
        (_state("2020-05-29", 0.25), "2020-06-01", None, 0.75),
        (_state("2020-05-29"), "", None, 1.0),
        (_state("2020-05-29"), "2020-05-29", 0.1, 0.1),
    ],
)
def test_working_days_are_those_between_the_dates(
    state: State, when: str, given: float | None, expected: float
) -> None:
    assert kept_state.elapsed(state, when, given) == expected


@pytest.mark.parametrize("when", ["2020-05-29", "2020-05-28", "2020-05-31"])
def test_quotes_that_no_working_day_parts_from_the_state_are_refused(when: str) -> None:
    with pytest.raises(InputError, match=f"the quotes are of {when}, the state of 2020-05-29; --elapsed says"):
        kept_state.elapsed(_state("2020-05-29"), when, None)


def _complete(folder: Path, bundle: Path, *arguments: str) -> Result:
    path = [str(folder / "quotes.csv"), "-o", str(folder / "surface.csv"), "--bundle", str(bundle)]
    return CliRunner().invoke(main, ["complete", *path, *arguments], catch_exceptions=False)


@pytest.mark.slow
def test_a_file_keeps_the_state(moving_bundle: Path, tmp_path: Path) -> None:
    model, kept = SurfaceModel.load(moving_bundle, provider="cpu"), tmp_path / "state.json"
    rows = {"tenor": np.array([0.1, 0.5]), "log_moneyness": np.array([0.0, 0.05])}
    state = model.state
    for date, vols in (("2020-06-01", [0.181, 0.171]), ("2020-06-03", [0.183, 0.17])):
        lines = [f"{date},{tenor},{k},{vol}\n" for tenor, k, vol in zip(*rows.values(), vols, strict=True)]
        (tmp_path / "quotes.csv").write_text(_HEAD + "".join(lines))
        elapsed = float(np.busday_count(state.date, date))
        result = _complete(tmp_path, moving_bundle, "--state", str(kept), "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert (said["previous"], said["elapsed"]) == (state.date.isoformat(), elapsed)
        expected = model.complete(vols, **rows, previous=state, elapsed=elapsed)
        assert expected.state is not None
        state = expected.state
        found = model.state_of_plain(json.loads(kept.read_text()))
        assert found.date == state.date == dt.date.fromisoformat(date)
        np.testing.assert_array_equal(found.covariance, state.covariance)
        table = np.genfromtxt(tmp_path / "surface.csv", delimiter=",", names=True)
        np.testing.assert_allclose(table["iv"], expected.iv.ravel(), atol=1e-6)
    text = _complete(tmp_path, moving_bundle, "--state", str(kept), "--elapsed", "0.5", "--log-return", "-0.01").stdout
    assert "0.5 working days after the state of 2020-06-03, the new one is in" in text


@pytest.mark.slow
def test_quotes_far_outside_of_the_model_leave_the_file_as_it_was(moving_bundle: Path, tmp_path: Path) -> None:
    kept = tmp_path / "state.json"
    for day, vol in (("01", 0.181), ("02", 0.4)):
        (tmp_path / "quotes.csv").write_text(_HEAD + f"2020-06-{day},0.1,0.0,{vol}\n2020-06-{day},0.5,0.05,0.17\n")
        content = kept.read_bytes() if kept.exists() else None
        result = _complete(tmp_path, moving_bundle, "--state", str(kept), "--json")
        assert json.loads(result.stdout)["state_kept"] == (day == "01")
    assert kept.read_bytes() == content
    assert "no new state follows, and the previous one stays the newest" in result.stderr
    text = _complete(tmp_path, moving_bundle, "--state", str(kept)).stdout
    assert f"after the state of 2020-06-01, no new one follows, and {kept} is as it was" in text


@pytest.mark.slow
def test_what_is_no_state_is_refused_in_one_line(moving_bundle: Path, linear_bundle: Path, tmp_path: Path) -> None:
    kept = tmp_path / "state.json"
    (tmp_path / "quotes.csv").write_text(_HEAD + "2020-06-01,0.1,0.0,0.2\n")
    for content, message in (
        ("{}", "the state must have model, date, elapsed"),
        ("[]", "must hold a JSON object"),
        ("{", "state.json"),
    ):
        kept.write_text(content)
        result = _complete(tmp_path, moving_bundle, "--state", str(kept))
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert message in result.stderr
        assert kept.read_text() == content
    kept.unlink()
    refused = _complete(tmp_path, linear_bundle, "--state", str(kept))
    assert "no law of motion; one of dated data has it where train.dynamics is set" in refused.stderr
    alone = _complete(tmp_path, moving_bundle, "--elapsed", "2")
    assert "name its file with --state" in alone.stderr
    assert not kept.exists()


def _scenarios(folder: Path, bundle: Path, *arguments: str) -> Result:
    path = ["-o", str(folder / "paths.parquet"), "--bundle", str(bundle), "-n", "300", "--seed", "5"]
    return CliRunner().invoke(main, ["scenarios", *path, *arguments], catch_exceptions=False)


@pytest.mark.slow
def test_scenarios_start_at_a_kept_state_and_may_have_a_given_return(moving_bundle: Path, tmp_path: Path) -> None:
    model, kept = SurfaceModel.load(moving_bundle, provider="cpu"), tmp_path / "state.json"
    state = model.complete([0.21], tenor=0.1, log_moneyness=0.0, previous=model.state).state
    assert state is not None
    kept_state.write(kept, model, state)
    for given, log_return in (((), None), (("--given-return", "-0.01"), -0.01)):
        result = _scenarios(tmp_path, moving_bundle, "--state", str(kept), "--days", "2", *given, "--json")
        assert result.exit_code == 0, result.output
        expected = model.scenarios(state, 2, 300, seed=5, log_return=log_return)
        table = pq.read_table(tmp_path / "paths.parquet")
        np.testing.assert_allclose(table["iv"].to_numpy().reshape(expected.iv.shape), expected.iv, rtol=1e-6)
        said = json.loads(result.stdout)
        assert said["from"] == state.date.isoformat()
        assert said.get("effective_size") == expected.effective_size
        free = expected.arbitrage_free(model.grid)
        told = table["arbitrage_free"].to_numpy(zero_copy_only=False).reshape(expected.iv.shape)
        np.testing.assert_array_equal(told, np.broadcast_to(free[..., None, None], told.shape))
        assert said["with_arbitrage"] == (~free).sum() > 0
        assert f"warning: {said['with_arbitrage']} of 600 surfaces have static arbitrage" in result.stderr
    text = _scenarios(tmp_path, moving_bundle, "--given-return", "-0.01").stdout
    assert "from 2020-05-29 given a log return of -0.01, worth " in text
    for arguments, message in (
        (("--state", str(tmp_path / "none.json")), "none.json"),
        (("--state", str(kept), "--from", "one.parquet"), "--state and --from are two starts; name one"),
        (("--state", str(kept), "--log-return", "0"), "belong to a surface; name its file with --from"),
        (("--given-return", "-0.9"), "log_return is -0.9, and 0.0 of the paths"),
    ):
        refused = _scenarios(tmp_path, moving_bundle, *arguments)
        assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
        assert message in refused.stderr
