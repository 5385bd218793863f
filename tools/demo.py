"""Make what `volvae demo` shows: a small model of simulated Heston surfaces, and quotes of other Heston models.

``python tools/demo.py FOLDER`` runs the stages in a folder, where a killed run goes on, and writes deploy/demo: the
bundle, its model card, the quotes, and the settings and versions that they were made with. It takes ten minutes on two
cores.
"""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML

from deploy.server.model_card import beside
from pipeline.files.atomic import copy_folder
from pipeline.files.dataset import Dataset
from pipeline.report.blocks import Card
from pipeline.report.model_card import Subject, model_card
from pipeline.report.verdict import Judged
from vae.pricing import heston_surfaces
from vae.runtime import SurfaceModel
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR, Z90, rmse_bp

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "deploy/demo"

SMALLER: dict[str, Any] = {  # than the settings of the project
    "prepare.surfaces": {"train": 40_000, "validation": 2000, "test": 2000},
    "prepare.grid.tenors_days": [14, 30, 60, 91, 182, 273, 365, 547],
    "prepare.grid.nodes": {"start": -0.5, "stop": 0.4, "count": 13},
    "train.model.basis": 24,
    "train.model.width": 48,
    "train.model.depth": 2,
    "train.model.residual_factors": 8,
    "train.epochs": 100,
    "train.batch": 512,
    "train.prior.components": [1, 10],
    "train.prior.flow_layers": 4,
    "train.prior.surfaces": 40_000,
}
STAGES = {
    "prepare": "--surfaces data --metrics prepare.json",
    "train": "--surfaces data --model model --metrics train.json --curve training.csv",
    "export": "--surfaces data --model model --bundle bundle --metrics export.json",
}

# The models that are quoted: v0, kappa, theta, vol of vol, rho.
QUIET, MOVED, STRESSED = (0.03, 2.0, 0.05, 0.5, -0.7), (0.045, 2.0, 0.05, 0.5, -0.75), (0.14, 3.0, 0.06, 0.8, -0.6)
WRONG = 12  # the row of wrong_quote.csv, counted from 0, that is 5 % of vol too high
DAYS = (dt.date(2026, 3, 2), dt.date(2026, 3, 3))
EXPIRIES = (
    dt.date(2026, 3, 20),
    dt.date(2026, 4, 17),
    dt.date(2026, 6, 19),
    dt.date(2026, 12, 18),
    dt.date(2027, 6, 18),
)
COMPLETED = 500  # held-out surfaces that the card's figures of completion are of
TENORS = {"1M": 30, "2M": 61, "3M": 91, "6M": 183, "1Y": 365}


def main(work: Path) -> None:
    """Run the stages in ``work`` that have not run there, and write deploy/demo."""
    work.mkdir(parents=True, exist_ok=True)
    write_settings(work / "params.yaml", SMALLER)
    for stage, paths in STAGES.items():
        if not (work / f"{stage}.json").exists():
            subprocess.run([sys.executable, "-m", "pipeline", stage, *paths.split()], cwd=work, check=True)
    copy_folder(work / "bundle", DEMO / "bundle")
    (DEMO / "params.yaml").write_bytes((work / "params.yaml").read_bytes())
    provenance = {
        "command": "python tools/demo.py FOLDER",
        "data": "simulated: Heston surfaces with noise of 1 bp, by the settings in params.yaml; no market data",
        "versions": {name: version(name) for name in ("volvae", "torch", "numpy", "onnx")},
        "train": json.loads((work / "train.json").read_text()),
        "export": json.loads((work / "export.json").read_text()),
    }
    (DEMO / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    write_quotes(DEMO / "quotes")
    write_card(work / "data", json.loads((work / "prepare.json").read_text()))


def write_card(surfaces: Path, prepared: dict[str, Any]) -> None:
    """The model card of the bundle, with figures on the test split of prepared surfaces."""
    model = SurfaceModel.load(DEMO / "bundle", provider="cpu")
    test = Dataset(surfaces).arrays("test")
    found = held_out_figures(model, test["iv"], test["clean"])
    clean = found["sample_arbitrage_free_rate"]
    main = [
        Card(f"{found['completion_hidden_mae_bp_10']:.1f} bp", "error of completion at hidden points, from 10 quotes"),
        Card(f"{found['interval_coverage_90']:.1%}", "of these points are in their 90 % interval", "90 % is right"),
        Card(
            f"{found['latent_reconstruction_rmse_bp']:.2f} bp", "error of the latents alone", "noise of a quote: 1 bp"
        ),
        Card(f"{clean:.1%}", "of 1,000 samples are free of static arbitrage"),
    ]
    facts = {
        "data": "simulated Heston surfaces with noise of 1 bp; no market data",
        "to rebuild": "python tools/demo.py FOLDER",
    }
    why = "it shows what volvae does and decides nothing"
    limits = ["a small model: `make run` trains the one of the project's settings, which the gate judges"]
    judged = Judged("volvae demo", None, why, (), limits, facts)
    card = model_card(Subject(judged, main, "heston", prepared, found, model.manifest))
    beside(DEMO / "bundle").write_text(card)


def held_out_figures(model: SurfaceModel, noisy: NDArray[np.floating], clean: NDArray[np.floating]) -> dict[str, float]:
    """Errors of a model on held-out surfaces [surface, tenor, node], with noise and without."""
    generator, points = np.random.default_rng(7), noisy[0].size
    k = model.grid.log_moneyness.ravel()
    tenor = np.repeat(model.grid.tenors, len(model.grid.nodes))
    errors, inside = [], []
    for quoted, true in zip(noisy[:COMPLETED].reshape(-1, points), clean[:COMPLETED].reshape(-1, points), strict=True):
        known = generator.choice(points, 10, replace=False)
        hidden = np.delete(np.arange(points), known)
        done = model.complete(quoted[known], tenor=tenor[known], log_moneyness=k[known])
        error = np.abs(done.iv.ravel() - true)[hidden]
        errors.append(error)
        inside.append(error <= Z90 * done.std.ravel()[hidden])
    drawn = arbitrage.violations(model.sample(1000, seed=7), model.grid)
    return {
        "latent_reconstruction_rmse_bp": float(rmse_bp(model.decode(model.encode(noisy)[0]), clean, (0, 1, 2))),
        "completion_hidden_mae_bp_10": float(BASIS_POINTS * np.mean(errors)),
        "interval_coverage_90": float(np.mean(inside)),
        "sample_arbitrage_free_rate": arbitrage.free_rate(drawn, tolerance=1e-6),
    }


def write_settings(path: Path, changes: dict[str, Any]) -> None:
    """The settings of the project with others, by the keys that lead to them, in their place."""
    yaml = YAML()
    yaml.width = 120
    settings = yaml.load(ROOT / "params.yaml")
    for key, value in changes.items():
        *blocks, last = key.split(".")
        block = settings
        for name in blocks:
            block = block[name]
        block[last] = value
    yaml.dump(settings, path)


def write_quotes(folder: Path) -> None:
    """Files of quotes in the layouts that people have, all simulated."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(7)
    rows = _smiles(QUIET, (30, 91, 365), (-0.13, -0.07, 0.0, 0.06), generator)
    _write(folder / "smile.csv", ("days", "log_moneyness", "iv"), rows)
    rows = _smiles(STRESSED, (30, 61, 91, 183, 365), (-0.13, -0.07, 0.0, 0.06, 0.1), generator)
    rows[WRONG] = (*rows[WRONG][:2], f"{float(rows[WRONG][2]) + 0.05:.4f}")
    _write(folder / "wrong_quote.csv", ("days", "log_moneyness", "iv"), rows)
    header = ("date", "expiry", "strike", "forward", "bid_iv", "ask_iv")
    chain = [row for day, model in zip(DAYS, (QUIET, MOVED), strict=True) for row in _chain(day, model, generator)]
    _write(folder / "chain.csv", header, chain)
    deltas = (0.15, 0.3, 0.5, 0.7, 0.85)
    grid = Grid(np.array(list(TENORS.values())) / DAYS_PER_YEAR, np.array(deltas), "delta")
    of_delta = _vols(STRESSED, grid)
    quoted = [
        (DAYS[0], tenor, delta, f"{100 * of_delta[i, j]:.2f}")
        for i, tenor in enumerate(TENORS)
        for j, delta in enumerate(deltas)
    ]
    _write(folder / "deltas_percent.csv", ("date", "tenor", "call_delta", "iv"), quoted)


def _smiles(
    model: Sequence[float], days: Sequence[int], k: Sequence[float], generator: np.random.Generator
) -> list[tuple[int, float, str]]:
    """Quotes at tenors and log-moneynesses, with noise of 1 bp."""
    exact = vols(model, days, np.array(k))
    quoted = exact + generator.standard_normal(exact.shape) / BASIS_POINTS
    return [(tenor, node, f"{quoted[i, j]:.4f}") for i, tenor in enumerate(days) for j, node in enumerate(k)]


def _chain(day: dt.date, model: Sequence[float], generator: np.random.Generator) -> Iterable[tuple[object, ...]]:
    """Bids and asks of listed strikes, wider in the wings; the noise of a mid is a quarter of its spread."""
    forward = 4000.0
    for expiry in EXPIRIES:
        days = (expiry - day).days
        reach = 0.35 * np.sqrt(days / DAYS_PER_YEAR)
        strikes = np.arange(2500.0, 5500.0, 100.0 if days > 60 else 50.0)
        k = np.log(strikes / forward)
        strikes, k = strikes[np.abs(k + 0.15 * reach) < reach], k[np.abs(k + 0.15 * reach) < reach]
        spread = (10.0 + 40.0 * np.abs(k / reach)) / BASIS_POINTS
        # the next day only because a grid has two tenors
        mid = vols(model, (days, days + 1), k)[0] + 0.25 * spread * generator.standard_normal(len(k))
        for strike, low, high in zip(strikes, mid - 0.5 * spread, mid + 0.5 * spread, strict=True):
            yield day, expiry, f"{strike:.0f}", f"{forward:.0f}", f"{low:.4f}", f"{high:.4f}"


def vols(model: Sequence[float], days: Sequence[float], k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact vols of a Heston model at tenors in days and log-moneynesses, [tenor, node]."""
    return _vols(model, Grid(np.array(days, np.float64) / DAYS_PER_YEAR, k, "log_moneyness"))


def _vols(model: Sequence[float], grid: Grid) -> NDArray[np.float64]:
    found = heston_surfaces.surfaces(torch.tensor([model], dtype=torch.float64), grid)
    exact: NDArray[np.float64] = found.vol[0].numpy()
    if np.isnan(exact).any():
        raise ValueError(f"a vol of {model} is not known; quote strikes that are nearer to the forward")
    return exact


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    lines = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
