import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.cli.common import extras_with, one_line_errors
from pipeline.cli.main import main
from pipeline.files import surface_tables
from tests.command import volvae
from tests.workspace import Workspace
from vae.runtime import SurfaceModel
from vae.surface import arbitrage
from vae.surface.grid import Grid


@pytest.fixture
def bundle(linear_bundle: Path) -> str:
    return str(linear_bundle)


@pytest.fixture
def trained(finished: Workspace) -> str:
    """A bundle whose grid has more tenors and nodes, and whose scores are of surfaces."""
    return str(finished.folder / "artifacts/bundle")


def test_sample_writes_one_row_a_point(bundle: str, tmp_path: Path) -> None:
    path = tmp_path / "surfaces.parquet"
    result = volvae("sample", "-n", "20", "--seed", "7", "-o", str(path), "--bundle", bundle, "--provider", "cpu")

    assert result.exit_code == 0, result.output
    model = SurfaceModel.load(bundle, provider="cpu")
    table = pq.read_table(path)
    assert table.column_names == ["surface", "tenor_years", "log_moneyness", "iv"]
    np.testing.assert_array_equal(table["iv"].to_numpy(), model.sample(20, seed=7).ravel())
    np.testing.assert_array_equal(table["surface"].to_numpy()[:: 2 * 4], np.arange(20))
    np.testing.assert_array_equal(table["log_moneyness"].to_numpy()[:8], model.grid.log_moneyness.ravel())
    np.testing.assert_array_equal(table["tenor_years"].to_numpy()[:8:4], model.grid.tenors)


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_the_same_seed_gives_the_same_file(bundle: str, tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        path = str(tmp_path / f"{name}.{ending}")
        assert volvae("sample", "-n", "5000", "--seed", "7", "-o", path, "--bundle", bundle).exit_code == 0
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_sample_as_npy_is_the_array(bundle: str, tmp_path: Path) -> None:
    path = tmp_path / "surfaces.npy"
    result = volvae("sample", "-n", "5000", "--seed", "3", "-o", str(path), "--bundle", bundle, "--json")

    model = SurfaceModel.load(bundle)
    np.testing.assert_array_equal(np.load(path), model.sample(5000, seed=3))
    assert json.loads(result.stdout) == {
        "path": str(path), "surfaces": 5000, "seed": 3, "provider": model.provider,
    }  # fmt: skip
    volvae("sample", "-n", "5", "--seed", "3", "--noise", "-o", str(path), "--bundle", bundle)
    np.testing.assert_array_equal(np.load(path), model.sample(5, seed=3, noise=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0", "-o", "a.npy"), "Invalid value for '-n': 0 is not in the range"),
        (("--seed", "-1", "-o", "a.npy"), "Invalid value for '--seed': -1 is not in the range"),
        (("-o", "a.csv"), "volvae: a.csv must end in .parquet or .npy"),
        (("-o", "a.npy", "--bundle", "nowhere"), "volvae: nowhere is not a bundle: nowhere/manifest.json cannot"),
        (("-o", "/dev/null/a.npy"), "volvae: /dev/null/a.npy cannot be written: Not a directory"),
        (("-o", "a.npy", "--market", "AUDUSD"), "volvae: this model has no condition market"),
        ((), "Missing option '-o'"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_code_2(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/bundle").symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    result = volvae("sample", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["artifacts"]


def test_every_command_has_help_with_an_example() -> None:
    for path in (
        ("sample",),
        ("complete",),
        ("score",),
        ("inspect",),
        ("init",),
        ("check",),
        ("doctor",),
        ("report",),
        ("flow", "run"),
    ):
        result = volvae(*path, "--help")
        assert result.exit_code == 0
        assert f"Example: volvae {' '.join(path)}" in result.stdout


def test_report_before_a_run_says_what_to_do(tmp_path: Path) -> None:
    result = volvae("report", "--results", str(tmp_path))
    assert result.exit_code == 2
    assert (
        "prepare.json cannot be read (No such file or directory); `make run` or `dvc repro` makes it" in result.stderr
    )


def requirements(root: Path) -> list[str]:
    """Those of pyproject.toml, in the form of the metadata of an installed package."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    return [*project["dependencies"], *(f"{name}; extra == '{extra}'" for extra, names in extras for name in names)]


def test_help_names_every_command_once_with_a_whole_summary() -> None:
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)
    listed = re.findall(r"^  ([a-z-]+)  +(\S.*)$", result.output.partition("--help")[2], re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(main.commands)
    assert not [summary for _, summary in listed if summary.endswith("...")]
    assert result.output.index("\nStart:") < result.output.index("\nUse a model:") < result.output.index("\nServe")


def test_help_waits_for_no_library() -> None:
    program = (
        "import sys, pipeline.cli.main; print(sorted({'numpy', 'pydantic', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "extras"),
    [
        ("prefect.client", ["schedule"]),
        ("starlette", ["serve"]),
        ("prometheus_client", ["serve"]),
        ("uvloop", ["serve"]),
        ("distributed", ["dask"]),
        ("torch", ["pipeline"]),
        ("sklearn.cluster", ["pipeline"]),
        ("ruamel", ["quotes", "pipeline"]),
        ("pydantic", ["quotes", "pipeline"]),
        ("onnx", ["pipeline"]),
        ("onnxruntime", ["cpu", "gpu"]),
        ("numpy", []),
        ("elsewhere", []),
    ],
)
def test_the_extras_with_a_module_are_those_that_require_its_package(
    root: Path, module: str, extras: list[str]
) -> None:
    assert extras_with(module, requirements(root)) == extras


@pytest.mark.slow
def test_every_package_that_the_code_imports_is_required(root: Path) -> None:
    """By volvae itself or by an extra, so that the line about a missing module always has a remedy."""
    required = requirements(root)
    known = {"vae", "pipeline", "deploy", "click", "numpy", "pyarrow"}
    known |= {"pandas", "pydantic_core"}  # what the user brings along; a part of pydantic
    imported = {
        name.partition(".")[0]
        for package in ("vae", "pipeline", "deploy")
        for path in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        )
    }  # fmt: skip
    foreign = imported - set(sys.stdlib_module_names) - known
    assert {"torch", "prefect", "onnxruntime"} <= foreign
    assert [module for module in foreign if not extras_with(module, required)] == []


def test_a_command_beyond_the_installed_extras_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pipeline.flow", raising=False)
    monkeypatch.setitem(sys.modules, "prefect", None)
    result = volvae("flow", "run")
    assert result.exit_code == 2
    assert result.stderr.endswith("; pip install 'volvae[schedule]' has what this command needs\n")
    assert len(result.stderr.splitlines()) == 1


WITH_CPU_AND_QUOTES = r"""
import json, re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def name(requirement):
    return re.sub(r"[._-]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()

def installed(requirement):
    return "extra ==" not in requirement or re.search("extra == .(cpu|quotes)", requirement)

allowed, found = set(), [r for r in json.loads(sys.argv[1]) if installed(r)]
while found:
    package = name(found.pop())
    if package not in allowed:
        allowed.add(package)
        try:
            found += [r for r in requires(package) or () if "extra ==" not in r]
        except PackageNotFoundError:
            pass
packages = {m for m, ds in packages_distributions().items() if any(name(d) in allowed for d in ds)}
packages |= {"vae", "pipeline", "deploy", *sys.stdlib_module_names}

class Refuse:
    def find_spec(self, module, path=None, target=None):
        top = module.partition(".")[0]
        if top not in packages and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

sys.meta_path.insert(0, Refuse())
from pipeline.cli.common import extras_with
from pipeline.cli.main import main
for line in sys.stdin.read().splitlines():
    try:
        main(line.split(), standalone_mode=False)
    except SystemExit as error:
        assert not error.code, line
"""


@pytest.mark.slow
def test_commands_that_the_readme_shows_with_cpu_and_quotes_need_no_other_extra(
    root: Path, trained: str, tmp_path: Path
) -> None:
    """Sampling, completing and scoring from a shell, without a law of motion."""
    section = (root / "README.md").read_text("utf-8").partition("## Sample surfaces")[2].partition("## Serve it")[0]
    lines = re.findall(r"^\$ volvae (.*?)$", section, re.MULTILINE)
    shown = ["sample", "complete", "complete", "score", "scenarios", "risk", "doctor"]
    assert [line.split()[0] for line in lines] == shown
    lines = [line for line in lines if line.split()[0] not in ("scenarios", "risk") and "--state" not in line]
    (tmp_path / "quotes.csv").write_text(QUOTES)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/bundle").symlink_to(trained)
    text = "\n".join([*lines, "arbitrage surfaces.parquet", "score surface.csv"])
    command = [sys.executable, "-c", WITH_CPU_AND_QUOTES, json.dumps(requirements(root))]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    found = subprocess.run(
        command, input=text, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert {path.name for path in tmp_path.iterdir()} >= {"surfaces.parquet", "surface.csv", "scores.csv"}


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_arbitrage_of_samples_beside_the_data(finished: Workspace, trained: str, tmp_path: Path, ending: str) -> None:
    path, results = str(tmp_path / f"a.{ending}"), str(finished.folder / "results")
    assert volvae("sample", "-n", "600", "-o", path, "--bundle", trained).exit_code == 0
    asked = volvae("arbitrage", path, "--bundle", trained, "--results", results, "--json")

    figures = json.loads(asked.stdout)
    model = SurfaceModel.load(trained)
    found = arbitrage.violations(model.sample(600, seed=0), model.grid)
    assert figures["surfaces"] == 600
    assert figures["free_rate"] == arbitrage.free_rate(found, tolerance=1e-6)
    metrics = json.loads((finished.folder / "results/evaluate.json").read_text())
    assert figures["data_free_rate"] == metrics["data_arbitrage_free_rate"]
    assert list(figures["kinds"]) == list(arbitrage.KINDS)
    for kind, row in figures["kinds"].items():
        limit = 1e-6 if kind in arbitrage.PRICE_KINDS else arbitrage.SHAPE_TOLERANCE
        largest = found.largest(kind)
        assert row["max"] == pytest.approx(largest[largest > limit].max(initial=0.0), rel=1e-9)
        assert row["data_free_rate"] == metrics[f"data_{kind}_free_rate"]


def test_arbitrage_as_text_says_where_and_what_it_does_not_know(tmp_path: Path) -> None:
    iv = np.full((2, 3, 9), 0.2, np.float32)
    iv[1, 1] = 0.1  # total variance falls at the second tenor
    grid = Grid(np.array([0.25, 0.5, 1.0]), np.linspace(-0.4, 0.4, 9), "log_moneyness")
    path = tmp_path / "mine.parquet"
    surface_tables.write_surfaces(path, [iv], grid, count=2)
    result = volvae("arbitrage", str(path), "--results", str(tmp_path))

    assert result.exit_code == 0, result.output
    assert "2 surfaces, 50.00% free of arbitrage beyond 1e-06 of the forward; data unknown" in result.output
    assert "evaluate.json has none" in result.output
    assert "calendar   0.25: 1" in result.output


def test_surfaces_come_back_from_parquet_with_their_grid(tmp_path: Path) -> None:
    iv = np.random.default_rng(1).uniform(0.1, 0.5, (3, 2, 4)).astype(np.float32)
    iv[1, 0, 2] = np.nan
    for convention in ("log_moneyness", "sqrt_time", "delta"):
        nodes = np.array([0.1, 0.4, 0.5, 0.9]) if convention == "delta" else np.array([-0.3, -0.1, 0.0, 0.2])
        grid = Grid(np.array([0.25, 1.0]), nodes, convention)
        path = tmp_path / f"{convention}.parquet"
        surface_tables.write_surfaces(path, [iv], grid, count=3)
        back, found = surface_tables.read_surfaces(path)
        np.testing.assert_array_equal(back, iv)
        assert found.convention == convention
        np.testing.assert_allclose(found.nodes, grid.nodes, rtol=1e-15)
        k = pq.read_table(path)["log_moneyness"].to_numpy().reshape(iv.shape)
        np.testing.assert_array_equal(k, np.broadcast_to(grid.log_moneyness_of(iv), iv.shape))


def _parquet(path: Path, **columns: list) -> None:
    table = {
        "surface": [0] * 4,
        "tenor_years": [0.5, 0.5, 1.0, 1.0],
        "log_moneyness": [0.0, 0.1, 0.0, 0.1],
        "iv": [0.2] * 4,
    }
    pq.write_table(pa.table({k: v for k, v in (table | columns).items() if v}), path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"iv": []}, "has no column 'iv'; needed: tenor_years, log_moneyness, iv"),
        ({"iv": ["a"] * 4}, "is not a table of surfaces"),
        ({"surface": [0, 0, 0, 1]}, "has surfaces with different points"),
        ({"tenor_years": [0.5, 0.5, 0.5, 1.0]}, "different numbers of points"),
        ({"tenor_years": [-0.5, -0.5, 1.0, 1.0]}, "tenors must be positive"),
        ({"log_moneyness": [0.0, 0.1, 0.0, 0.3]}, "is the same at each tenor"),
    ],
)
def test_a_table_that_holds_no_surfaces_is_one_line(tmp_path: Path, columns: dict, message: str) -> None:
    path = tmp_path / "bad.parquet"
    _parquet(path, **columns)
    result = volvae("arbitrage", str(path))
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_a_file_that_is_no_table_is_one_line(bundle: str, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3))
    (tmp_path / "text.npy").write_text("vols")
    (tmp_path / "text.parquet").write_text("vols")
    for name, message in {
        "flat.npy": "must hold an array of vols [surface, 2 tenors, 4 nodes]",
        "text.npy": "is not a npy file",
        "text.parquet": "is not a table of surfaces",
        "none.npy": "cannot be read: No such file",
        "none.parquet": "cannot be read",
    }.items():
        result = volvae("arbitrage", str(tmp_path / name), "--bundle", bundle)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
        assert message in result.output


QUOTES = "days,strike,forward,iv\n26,100,100,0.22\n182,90,100,0.26\n182,104,100,0.21\n900,100,100,0.2\n"


def test_complete_writes_the_surface_and_a_page(trained: str, tmp_path: Path) -> None:
    (tmp_path / "quotes.csv").write_text(QUOTES)
    output = tmp_path / "surface.csv"
    result = volvae(
        "complete", str(tmp_path / "quotes.csv"), "-o", str(output), "--plot", "--bundle", trained, "--json"
    )

    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["quotes"], figures["quotes_used"]) == (4, 3)
    model = SurfaceModel.load(trained)
    k = np.log([1.0, 0.9, 1.04, 1.0])
    expected = model.complete([0.22, 0.26, 0.21, 0.2], tenor=np.array([26, 182, 182, 900]) / 365, log_moneyness=k)
    said = {name: figures[name] for name in ("p_value", "outside", "cause", "warning")}
    assert said == {name: getattr(expected, name) for name in said}
    table = np.genfromtxt(output, delimiter=",", names=True)
    assert table.dtype.names == ("tenor_years", "log_moneyness", "iv", "std", "low_90", "high_90")
    np.testing.assert_allclose(table["iv"], expected.iv.ravel(), atol=1e-6)
    np.testing.assert_allclose(table["high_90"] - table["low_90"], 2 * 1.6449 * expected.std.ravel(), rtol=1e-3)
    page = (tmp_path / "surface.html").read_text()
    assert "3 of 4" in page
    assert "1 out of reach" in page


def test_complete_warns_of_quotes_that_do_not_fit(trained: str, tmp_path: Path) -> None:
    wild = [
        f"{days},{k},{0.1 + 0.8 * ((days + i) % 2)}" for days in (26, 183) for i, k in enumerate((-0.05, 0.0, 0.05))
    ]
    (tmp_path / "quotes.csv").write_text("\n".join(["days,log_moneyness,iv", *wild]))
    result = volvae(
        "complete", str(tmp_path / "quotes.csv"), "-o", str(tmp_path / "a.csv"), "--bundle", trained, "--json"
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["outside"], figures["cause"]) == (True, "unknown")
    assert result.stderr == f"warning: {figures['warning']}\n"
    assert figures["quotes_noise_bp"] > 1000
    assert not figures["quotes_weighted"]


def test_noise_stays_that_of_weight_1_where_weighted_quotes_do_not_fit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = root / "deploy/demo/bundle"
    learned = 1e4 * SurfaceModel.load(bundle).manifest["observation_scale_vol"]
    rows = [f"{days},{k},{0.2 + 0.05 * (k == 0.0)},0.25" for days in (60, 183) for k in (-0.05, 0.0, 0.05)]
    Path("quotes.csv").write_text("\n".join(["days,log_moneyness,iv,weight", *rows]))
    command = ("complete", "quotes.csv", "-o", "a.csv", "--bundle", str(bundle))
    figures, text = json.loads(volvae(*command, "--json").stdout), volvae(*command).stdout
    assert (figures["outside"], figures["quotes_weighted"]) == (True, True)
    assert figures["quotes_noise_bp"] == pytest.approx(learned)
    assert f"a quote of weight 1 has a noise of {learned:.1f} bp, as the model learned" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("days,strike,iv\n26,100,0.2\n", "strike needs forward, or spot, or prices of calls and puts"),
        ("days,iv\n26,0.2\n", "exactly one of log_moneyness, call_delta, delta, strike, moneyness must"),
        ("exdate,log_moneyness,iv\n2024-01-31,0,0.2\n", "guesses its columns, and `volvae init"),
        ("days,tenor_years,log_moneyness,iv\n26,0.1,0,0.2\n", "must be set, not tenor_years and days"),
        ("expiry,log_moneyness,iv\n2024-01-31,0,0.2\n", "has no column date: say the date of its quotes by --date"),
        ("a,b\n26,0\n", "has none of the canonical columns: `volvae inspect"),
        ("days,log_moneyness,iv\n9999,0,0.2\n", "no quote is within reach of the grid: tenors"),
        ("days,log_moneyness,iv\n26,0,20\n", "set prepare.quotes.vol_unit: percent where it is 20 %"),
        ("tenor_years,log_moneyness,iv\n182,0,0.2\n", "for days name it prepare.quotes.columns.days; here --set"),
        (
            "days,log_moneyness,iv\n26,0,\n26,0,0\n",
            "no usable quote: 1 missing_value (row 1), 1 vol_not_positive (row 2: 0)",
        ),
        (
            "days,log_moneyness,iv\n26,0,0.2\n26,0.1,\n26,0.2,\n",
            "67% of the rows are rejected: 2 missing_value (row 2, ...)",
        ),
        ("", "quotes.csv"),
    ],
)
def test_quotes_that_cannot_be_completed_are_named(bundle: str, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "quotes.csv").write_text(text)
    result = volvae("complete", str(tmp_path / "quotes.csv"), "-o", str(tmp_path / "a.csv"), "--bundle", bundle)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["quotes.csv"]


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_score_finds_the_broken_surface(trained: str, tmp_path: Path, ending: str) -> None:
    model = SurfaceModel.load(trained)
    iv = model.sample(20, seed=1)
    iv[7, 1, 4] += 0.1
    path, output = tmp_path / f"s.{ending}", tmp_path / "scores.csv"
    surface_tables.write_surfaces(path, [iv], model.grid, count=20)
    result = volvae("score", str(path), "-o", str(output), "--bundle", trained, "--json")

    outcome = json.loads(result.stdout)
    assert outcome["lowest_surface"] == outcome["largest_error_surface"] == 7
    assert outcome["with_odd_point"] >= 1
    table = np.genfromtxt(output, delimiter=",", names=True)
    np.testing.assert_allclose(table["nats"], model.score(iv).nats, rtol=1e-4)
    assert table["percentile"][7] == 0.0
    assert table["error_percentile"][7] == 100.0
    assert table["tenor_days"][7] == pytest.approx(365.0 * model.grid.tenors[1], rel=1e-4)
    assert table["node"][7] == pytest.approx(model.grid.nodes[4], abs=1e-4)


def test_score_and_arbitrage_read_what_complete_wrote_and_rows_in_any_order(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "quotes.csv").write_text(QUOTES)
    completed, shuffled = tmp_path / "surface.csv", tmp_path / "shuffled.parquet"
    assert volvae("complete", str(tmp_path / "quotes.csv"), "-o", str(completed), "--bundle", bundle).exit_code == 0
    model = SurfaceModel.load(bundle)
    iv = np.genfromtxt(completed, delimiter=",", names=True)["iv"].reshape(1, *model.grid.shape)
    scored = json.loads(volvae("score", str(completed), "--bundle", bundle, "--json").stdout)
    assert scored["median_nats"] == pytest.approx(float(model.score(iv).nats[0]), rel=1e-4)
    assert volvae("arbitrage", str(completed), "--results", str(tmp_path)).exit_code == 0

    drawn = model.sample(3, seed=1)
    surface_tables.write_surfaces(shuffled, [drawn], model.grid, count=3)
    table = pq.read_table(shuffled)
    pq.write_table(table.take(np.random.default_rng(1).permutation(len(table))), shuffled)
    np.testing.assert_array_equal(surface_tables.read_surfaces(shuffled)[0], drawn)


def test_quotes_are_scored_by_their_dates(bundle: str, tmp_path: Path) -> None:
    model = SurfaceModel.load(bundle)
    drawn = model.sample(2, seed=1)
    drawn[1, :, 2] += 0.1
    k = model.grid.log_moneyness.tolist()
    rows = [
        f"2024-01-0{2 + i},{tenor!r},{k[j][node]!r},{iv[j, node]}"
        for i, iv in enumerate(drawn) for j, tenor in enumerate(model.grid.tenors.tolist()) for node in range(4)
    ]  # fmt: skip
    path, scores = tmp_path / "q.csv", tmp_path / "scores.csv"
    path.write_text("\n".join(["date,T,k,vol", *rows]) + "\n")
    columns = "date=date,tenor_years=T,log_moneyness=k,iv=vol"
    result = volvae("score", str(path), "--columns", columns, "-o", str(scores), "--bundle", bundle)
    assert result.exit_code == 0, result.output
    lines = scores.read_text().splitlines()
    assert lines[0] == (
        "surface,nats,percentile,misfit_percentile,distance_percentile,error_percentile,largest_error,tenor_days,node,date"
    )
    assert [line.split(",")[-1] for line in lines[1:]] == ["2024-01-02", "2024-01-03"]
    np.testing.assert_allclose([float(line.split(",")[1]) for line in lines[1:]], model.score(drawn).nats, rtol=1e-3)


def test_surfaces_of_another_grid_are_not_scored(bundle: str, tmp_path: Path) -> None:
    grid = Grid(np.array([0.1, 1.0]), np.linspace(-0.2, 0.2, 5))
    surface_tables.write_surfaces(tmp_path / "s.parquet", [np.full((3, 2, 5), 0.2, np.float32)], grid, count=3)
    result = volvae("score", str(tmp_path / "s.parquet"), "--bundle", bundle)
    assert result.exit_code == 2
    assert "has surfaces on another grid than the model's 2 tenors x 4 nodes" in result.stderr


def test_doctor_finds_a_sound_bundle_and_a_damaged_one(bundle: str, tmp_path: Path) -> None:
    sound = volvae("doctor", "--bundle", bundle, "--json")
    assert sound.exit_code == 0
    assert {finding["name"] for finding in json.loads(sound.stdout)} >= {"wheels", "providers", "telemetry", "bundle"}
    shutil.copytree(bundle, tmp_path / "bundle")
    graph = tmp_path / "bundle/sampler.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    none = volvae("doctor", "--bundle", str(tmp_path / "none"))
    assert none.exit_code == 1
    assert "; `make run` trains one, `volvae demo` writes a small one to demo/bundle" in none.stdout
    damaged = volvae("doctor", "--bundle", str(tmp_path / "bundle"))
    assert damaged.exit_code == 1
    assert "FAULT bundle" in damaged.stdout
    assert "sampler.onnx was altered" in damaged.stdout


def test_what_does_not_fit_into_memory_is_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a command and of a stage."""

    def too_large(*_: object, **__: object) -> None:
        np.zeros(2**50)

    told = CliRunner().invoke(click.command()(one_line_errors(too_large)))
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert told.stderr.startswith("volvae: memory ran out: Unable to allocate 8.00 PiB")
    monkeypatch.setattr("pipeline.prepare.main", too_large)
    assert workspace.run("prepare") == 1
