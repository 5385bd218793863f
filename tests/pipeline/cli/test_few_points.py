"""Quotes that reach few points of the model's grid: what cannot be judged from them is said, and not called usual."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import score_report
from pipeline.cli.common import json_text
from pipeline.cli.main import main
from pipeline.report import drift
from tools.demo import DEMO
from vae.runtime import Scores, SurfaceModel

SMILES = [(days, k, vol) for days, vol in ((30, 0.4), (91, 0.2)) for k in (-0.1, 0.0, 0.1)]


def volvae(command: str, path: Path, *more: str) -> Result:
    arguments = [command, str(path), "--bundle", str(DEMO / "bundle"), *more]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def quotes(folder: Path, rows: list[tuple[float, ...]]) -> Path:
    path = folder / "quotes.csv"
    path.write_text("\n".join(["days,log_moneyness,iv", *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_surface_of_few_points_is_not_called_usual(tmp_path: Path) -> None:
    """Total variance falls with the tenor, which no held-out surface does: it is far from usual."""
    said = volvae("score", quotes(tmp_path, SMILES), "-o", str(tmp_path / "scores.csv"))
    assert said.exit_code == 0
    assert "none can be compared with held-out surfaces, which needs more known points" in said.stdout
    assert "0 are odder" not in said.stdout
    found = json.loads(volvae("score", tmp_path / "quotes.csv", "--json").stdout)
    assert found["surfaces"] == found["unranked_surfaces"] == 1
    counts = ("odd_surfaces", "fit_worse", "fit_better", "rarer", "with_odd_point")
    assert [found[name] for name in counts] == [None] * len(counts)
    assert "1970" not in said.output
    assert "date" not in (tmp_path / "scores.csv").read_text()


@pytest.mark.parametrize("command", ["score", "drift", "arbitrage"])
def test_a_mark_for_a_gap_is_not_taken_for_a_vol(tmp_path: Path, command: str) -> None:
    """It was counted among surfaces of too few points, and its data did not drift."""
    surfaces = SurfaceModel.load(DEMO / "bundle", provider="cpu").sample(3, seed=1)
    surfaces[1, 2, 3] = 1e38
    np.save(tmp_path / "surfaces.npy", surfaces)
    refused = volvae(command, tmp_path / "surfaces.npy")
    assert refused.exit_code == 2
    assert "surface 1: the vol 1e+38 at tenor 2, node 3" in refused.stderr


def test_a_vector_beyond_floating_point_is_odd_and_its_json_is_json() -> None:
    """JSON has no NaN (RFC 8259, section 6)."""
    zeros, worst = np.zeros(2), np.array([0.0, np.inf])
    ranks = np.array([50.0, 100.0])
    scores = Scores(-worst, 100.0 - ranks, worst, ranks, worst, ranks, np.stack([zeros, worst], axis=1), ranks)
    found = score_report.figures(scores, "vector")
    assert (found["odd_vectors"], found["unranked_vectors"]) == (1, 0)
    assert drift.unlikely_share(scores) == 0.5

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(json_text(found), parse_constant=refuse)
    assert read["lowest_nats"] is read["largest_error"] is None
    assert read["lowest_vector"] == read["largest_error_vector"] == 1
    assert "median -inf nats" in score_report.text(found, "vector")


def test_arbitrage_says_at_how_many_points_it_was_measured(tmp_path: Path) -> None:
    said = volvae("arbitrage", quotes(tmp_path, SMILES))
    assert said.stdout.startswith("1 surface, 0.00% free of arbitrage beyond 1e-06 of the forward at the 2")
    assert "of the points that are known" in said.stdout.splitlines()[0]
    assert "calendar      0.00%" in said.stdout


def test_arbitrage_of_no_smile_is_refused(tmp_path: Path) -> None:
    """One point a tenor has neither butterflies nor strikes that two tenors share."""
    grid = SurfaceModel.load(DEMO / "bundle", provider="cpu").grid
    path = quotes(
        tmp_path, [(365 * years, k[6], 0.2) for years, k in zip(grid.tenors, grid.log_moneyness, strict=True)]
    )
    refused = volvae("arbitrage", path)
    assert refused.exit_code == 2
    assert "no two of one tenor: there is no arbitrage to measure" in refused.stderr


@pytest.mark.parametrize("command", ["arbitrage", "score"])
def test_quotes_without_a_date_have_none_in_messages(tmp_path: Path, command: str) -> None:
    said = volvae(command, quotes(tmp_path, [*SMILES, (91, 0.0, 0.3)]))
    assert said.exit_code == 2
    assert "quoted again at another level: 0.2 and 0.3, which cannot be" in said.stderr


@pytest.mark.parametrize("command", ["complete", "score"])
@pytest.mark.parametrize("name", ["quotes.csv", "link.csv"])
def test_no_command_writes_over_the_file_that_it_reads(tmp_path: Path, command: str, name: str) -> None:
    path = quotes(tmp_path, SMILES)
    (tmp_path / "link.csv").symlink_to(path)
    before = path.read_bytes()
    refused = volvae(command, path, "-o", str(tmp_path / name))
    assert refused.exit_code == 2
    assert f"{name} is the file that is read, which would be lost: name another one by -o" in refused.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", ["score", "arbitrage"])
def test_quotes_with_the_names_of_surfaces_are_read_by_their_dates(tmp_path: Path, command: str) -> None:
    """A date or a market makes quotes of years, log-moneyness and vol, which complete reads too."""
    rows = [f"2026-03-0{day},{days / 365},{k},{vol}" for day in (2, 3) for days, k, vol in SMILES]
    path = tmp_path / "quotes.csv"
    path.write_text("\n".join(["date,tenor_years,log_moneyness,iv", *rows]) + "\n")
    assert volvae(command, path).stdout.splitlines()[0].startswith("2 surfaces")


@pytest.mark.slow
def test_a_surface_may_have_other_columns_beside(tmp_path: Path) -> None:
    path = tmp_path / "surface.csv"
    usual = [(days, k, 0.2 - 0.2 * k) for days in (30, 91) for k in (-0.1, -0.05, 0.0, 0.05)]
    volvae("complete", quotes(tmp_path, usual), "-o", str(path))
    header, *lines = path.read_text().splitlines()
    alone = volvae("score", path).stdout
    path.write_text("\n".join([f"{header},note", *(f"{line},mine" for line in lines)]) + "\n")
    assert volvae("score", path).stdout == alone
    dated = pa.csv.read_csv(path).append_column("date", pa.array(["2026-03-02"] * len(lines)))
    pa.csv.write_csv(dated, path)
    pq.write_table(dated.append_column("bid", dated["iv"]), tmp_path / "surface.parquet")
    assert volvae("score", path).stdout == volvae("score", tmp_path / "surface.parquet").stdout == alone
    arguments = ["arbitrage", str(path), "--bundle", str(tmp_path / "none")]
    assert CliRunner().invoke(main, arguments).stdout.startswith("1 surface,")


def test_quotes_of_a_date_on_a_grid_of_their_own_are_put_on_the_one_of_the_model(tmp_path: Path) -> None:
    rows = [f"2026-03-02,{days / 365},{k},{vol}" for days, k, vol in SMILES]
    path = tmp_path / "quotes.csv"
    path.write_text("\n".join(["date,tenor_years,log_moneyness,iv", *rows]) + "\n")
    assert volvae("score", path).stdout.startswith("1 surface,")
