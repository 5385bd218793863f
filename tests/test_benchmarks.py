import datetime as dt
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import QuantLib as ql
import torch
from click.testing import CliRunner

from benchmarks import __main__ as bench
from benchmarks import gpu, history, machine, scale, server, static_arbitrage
from benchmarks.frames import FRAMES, HEIGHT, WIDTH, film
from benchmarks.off_grid import exact_quotes
from benchmarks.outside import sabr
from benchmarks.started import end
from pipeline.errors import InputError
from pipeline.files import atomic
from vae.pricing import compiled, heston_surfaces
from vae.pricing.heston_surfaces import Kernels
from vae.runtime import SurfaceModel
from vae.surface.arbitrage import violations
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces


def test_quotes_off_the_grid_are_of_the_surface() -> None:
    """Inside the grid, and on the surface of the same parameters, which is read there to a basis point."""
    grid = Grid(np.array([26, 52, 104, 182, 260, 364]) / 365, np.linspace(-0.4, 0.4, 17))
    parameters = np.array([0.04, 2.0, 0.05, 0.4, -0.6])
    k, tenor, iv = exact_quotes(parameters, grid, 12, np.random.default_rng(1))
    surface = heston_surfaces.surfaces(torch.from_numpy(parameters[None]), grid).vol.numpy()
    assert len(np.unique(tenor)) == 12
    np.testing.assert_allclose(Surfaces(surface, grid).at(k, tenor)[0], iv, rtol=0.0, atol=1e-4)


def test_sabr_vols_are_those_of_quantlib() -> None:
    grid = Grid(np.array([0.1, 0.5, 1.0]), np.linspace(-0.4, 0.4, 9))
    alpha, rho, nu = np.random.default_rng(3).uniform((0.1, -0.85, 0.3), (0.4, -0.1, 1.5)).tolist()
    expected = [
        [ql.sabrVolatility(float(np.exp(k)), 1.0, tenor, alpha, 1.0, nu, rho) for k in smile]
        for tenor, smile in zip(grid.tenors.tolist(), grid.log_moneyness, strict=True)
    ]
    np.testing.assert_allclose(sabr(grid, np.random.default_rng(3)), expected, rtol=1e-6)


def test_a_film_is_smooth_in_time_but_for_its_noise() -> None:
    frames = film(seed=1)
    assert frames.shape == (FRAMES, HEIGHT * WIDTH)
    assert frames.min() >= 0.0
    assert frames.max() <= 255.0
    apart = [np.abs(frames[lag:] - frames[:-lag]).mean() for lag in (1, 10, 100)]
    assert apart[0] < apart[1] < apart[2], "frames near in time are alike"
    noise = np.abs(np.diff(frames, axis=0))
    bright, dark = frames.mean(0) > 150.0, frames.mean(0) < 50.0
    assert noise[:, bright].mean() > 1.5 * noise[:, dark].mean()


def test_arbitrage_of_samples_is_judged_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of all seeds count; those of the last one are the shares of a run of one seed."""
    monkeypatch.setattr(static_arbitrage, "_BLOCK", 30)
    monkeypatch.setattr(static_arbitrage, "_TOLERANCE", 1e-8)
    monkeypatch.setattr(static_arbitrage, "free_by_fast_vollib", lambda iv, grid: iv.shape == grid.shape)
    bundle = Path(__file__).parents[1] / "deploy/demo/bundle"
    model = SurfaceModel.load(bundle, provider="cpu")
    free = np.array([violations(model.sample(50, seed=seed), model.grid).profit <= 1e-8 for seed in (3, 5)])

    found = static_arbitrage.results(bundle=bundle, count=50, seeds=(3, 5), judged=10, workers=1)

    assert found["arbitrage_samples"] == 100.0
    assert found["arbitrage_free_rate"] == free.mean()
    assert found["arbitrage_free_rate_of_50"] == free[1].mean()
    assert found["arbitrage_free_se_rate"] == pytest.approx(free.std() / 10.0)
    assert found["arbitrage_free_rate_of_worst"] == 1.0 - min(10, (~free).sum()) / 10.0
    assert found["arbitrage_free_rate_of_others_fast_vollib"] == 1.0


def test_nobody_is_told_of_a_benchmark(tmp_path: Path) -> None:
    """onnxruntime keeps what it is about to send in the user's folder."""
    environment = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", "import benchmarks, onnxruntime"], env=environment, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_each_part_is_a_module() -> None:
    assert all(importlib.util.find_spec(f"benchmarks.{name}") for name in bench.PARTS)
    assert set(bench._OF_A_BUNDLE) <= set(bench.PARTS)


@pytest.mark.parametrize("name", ["benchmarks.risk", "benchmarks.card", "pipeline.errors", "vae.bundle"])
def test_a_broken_import_of_the_project_is_no_package_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(bench.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match=name):
        bench.measured("risk")


@pytest.mark.slow
def test_what_a_benchmark_multiplies_by_is_held_to_one_core() -> None:
    """scipy's library too where the benchmark alone imports it; in a process that did not import it before."""
    code = """
import types
from threadpoolctl import threadpool_info
from benchmarks import __main__ as bench

def results():
    import scipy.linalg
    return {found["filepath"]: found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}

bench.importlib = types.SimpleNamespace(import_module=lambda name: types.SimpleNamespace(results=results))
print(*bench.measured("risk")[0].values())
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "1"]  # numpy's and scipy's


@pytest.mark.slow
def test_what_a_gpu_does_is_measured_on_the_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_PRICED", {"cpu": 4})
    monkeypatch.setattr(gpu, "_BATCHES", (3,))
    monkeypatch.setattr(gpu, "_TRAININGS", (("bfloat16", 32),))
    monkeypatch.setattr(compiled, "kernels", no_compiler)
    found: dict[str, float] = {}
    for part in gpu.results(torch.device("cpu"), Path("deploy/demo/bundle"), seconds=0.01, trained=128):
        found |= part
    onnx = {"onnx, decoded, batch 3", "onnx, decoded, bound, batch 3", "onnx, sampled, batch 3"}
    assert set(found) == {"priced, eager", "trained, bfloat16, batch 32", "decoded, batch 3", *onnx}
    assert all(value > 0.0 for value in found.values())
    assert gpu.table({"cpu": found})[2].count("|") == 3


def no_compiler(device: torch.device) -> Kernels:
    raise compiled.CompilerError(f"none for {device}")


INTEL = "processor : 0\nmodel name : Intel(R) Xeon(R)\nflags : avx2 avx512f amx_tile\n" * 2


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (INTEL, "Intel(R) Xeon(R), amx_tile, 2 cores"),
        (INTEL.replace(" amx_tile", ""), "Intel(R) Xeon(R), avx512f, 2 cores"),
        ("processor : 0\nFeatures : fp asimd\n", f"{machine.platform.machine()}, asimd, 2 cores"),
    ],
)
def test_a_class_of_machines_is_told_by_what_speed_depends_on(cpuinfo: str, expected: str) -> None:
    assert machine.described_as(cpuinfo, 2) == expected


def test_a_ratio_that_fell_by_more_than_a_fifth_is_named(tmp_path: Path) -> None:
    """Below its last value on such a machine, whichever run had it; other figures and other machines do not count."""
    path, day = tmp_path / "history.jsonl", dt.date(2026, 11, 1)
    for here, figures in (
        ("a", {"x_ratio_to_numpy": 9.0, "x_share_of_peak": 0.5, "x_per_second": 100.0}),
        ("a", {"x_ratio_to_numpy": 2.0}),
        ("b", {"x_ratio_to_numpy": 100.0}),
    ):
        history.record(figures, here, commit="c", date=day, path=path)
    entries = history.read(path)
    assert entries[0]["ratios"] == {"x_ratio_to_numpy": 9.0, "x_share_of_peak": 0.5}

    assert not history.falls({"x_ratio_to_numpy": 1.6, "x_share_of_peak": 0.4, "x_per_second": 1.0}, entries, "a")
    assert not history.falls({"x_ratio_to_numpy": 0.1}, entries, "c")
    slow, unknown = history.falls({"x_ratio_to_numpy": 1.59, "x_share_of_peak": float("nan")}, entries, "a")
    assert str(slow) == "x_ratio_to_numpy fell from 2 to 1.59, by more than 20 %"
    assert unknown.name == "x_share_of_peak"


@pytest.mark.parametrize("line", ["{", "[]", '{"machine": "a"}', '{"machine": "a", "ratios": 3}'])
def test_a_line_that_is_no_run_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "h.jsonl").write_text('{"machine": "a", "ratios": {}}\n' + line)
    with pytest.raises(InputError, match="line 2 of"):
        history.read(tmp_path / "h.jsonl")


def test_a_part_alone_is_written_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what lacks its input, or a package that it is compared with, is left out with a reason."""
    monkeypatch.setattr(bench, "BUNDLE", tmp_path / "bundle")
    speed = {"values_ratio": 50.0, "seconds": 1.0}
    monkeypatch.setattr("benchmarks.risk.results", lambda: speed)
    for name in ("benchmarks.training", "benchmarks.recipes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pythae", None)
    files = ["--json", str(tmp_path / "out" / "b.json"), "--history", str(tmp_path / "h.jsonl")]
    arguments = ["risk", "serving", "training", *files]

    first = CliRunner().invoke(bench.main, [*arguments, "--record"])
    assert first.exit_code == 0
    assert "serving was left out" in first.stderr
    assert "training was left out: pythae is not installed; `make bench` installs it" in first.stderr
    written = json.loads((tmp_path / "out" / "b.json").read_text())
    assert written["figures"] == speed
    assert written["machine"] == machine.machine()

    speed["values_ratio"] = 30.0
    second = CliRunner().invoke(bench.main, arguments)
    assert second.exit_code == 1
    assert "values_ratio fell from 50 to 30" in second.stderr
    assert len(history.read(tmp_path / "h.jsonl")) == 1


def test_a_server_that_does_not_end_is_killed_with_its_children() -> None:
    deaf = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $!; wait; wait"
    with subprocess.Popen(["/bin/sh", "-c", deaf], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        int(process.stdout.readline())  # the child lives
        end(process, seconds=0.1)
        assert process.returncode == -signal.SIGKILL
        assert process.stdout.read() == b""  # returns once no process holds the pipe


def test_a_child_that_ended_since_it_was_listed_took_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        ended = psutil.Process(process.pid)
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: [ended])
    assert server._seconds_of_children() == 0.0


def rows_of(costs: dict[int, float]) -> list[scale.Row]:
    """Rows of a benchmark of scale in which a part, `epoch`, costs so many seconds by surfaces."""
    memory = scale.Memory()
    return [scale.Row(size, {"epoch": cost}, memory, memory, 0) for size, cost in costs.items()]


def test_growth_is_judged_without_what_a_few_surfaces_cost() -> None:
    linear = rows_of({1000: 60.0, 11_000: 61.0, 101_000: 70.0, 1_001_000: 160.0})
    assert scale.growth("epoch", linear) == pytest.approx(1.0)
    assert scale.exponents("epoch", linear) == pytest.approx([1.0, 1.0])
    assert scale.verdict("epoch", linear).endswith("exponent 1.000 to 1.000; a surface costs 1.00 times one among "
                                                   "11,000: linear")  # fmt: skip

    steep = rows_of({1000: 60.0, 11_000: 61.0, 101_000: 60.0 + 10.0**1.2})
    assert scale.growth("epoch", steep) == pytest.approx(10.0**0.2)
    assert scale.exponents("epoch", steep) == pytest.approx([1.2])
    assert scale.verdict("epoch", steep).endswith("not linear, the limit is 1.25")
    assert scale.verdict("epoch", linear[:2]).endswith("one size says nothing about growth")
    noise = rows_of({4_096: 5.0, 20_000: 4.8, 30_000: 4.9})
    assert math.isnan(scale.growth("epoch", noise))
    assert "not known" in scale.verdict("epoch", noise)


def test_a_disk_without_space_ends_the_benchmark_of_scale_before_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A million surfaces, 4,000 held-out ones and a shard of 18 x 41 vols twice in 4 bytes, and 5 parameters in 8."""
    monkeypatch.setattr(atomic, "free_space", lambda _: 0)
    monkeypatch.setattr(scale, "measured", lambda *_: pytest.fail("it ran"))
    ended = CliRunner().invoke(scale.main, ["--surfaces", "1000000", "--folder", str(tmp_path)])
    bytes_needed = (1_004_000 + 4096) * (2 * 4 * 18 * 41 + 5 * 8)
    assert ended.exit_code == 1
    assert ended.output.startswith(f"1,000,000 surfaces need {bytes_needed / 1e9:.2f} GB, but the disk of ")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_stages_cost_is_measured_by_size(tmp_path: Path) -> None:
    changes = {
        "prepare": {"surfaces": {"validation": 16, "test": 16}, "workers": 1, "surfaces_per_shard": 256}
        | {"grid": {"tenors_days": [26, 182, 364], "nodes": {"start": -0.4, "stop": 0.3, "count": 9}}},
        "train": {"model": {"latents": 3, "basis": 12, "width": 16, "depth": 1, "residual_factors": 0}, "batch": 4}
        | {"device": "cpu", "epochs": 6, "checkpoint_epochs": 1, "arbitrage": {"epochs": 0}, "scaffold_latents": 0}
        | {"prior": {"components": [1], "flow_layers": 0}},
    }
    row = scale.measured(512, changes, tmp_path, [])
    assert row.surfaces == 512
    assert list(row.cost) == ["prepare", "start", "epoch"]
    assert all(cost > 0.0 for cost in row.cost.values())
    assert row.disk > 544 * (2 * 4 * 27 + 8 * 5)
    assert min(row.prepare.largest, row.train.largest, row.train.mapped) > 0
    assert not list(tmp_path.iterdir())
