"""Evaluation of data of several markets, with a model made without training.

Fewer than 50 test surfaces are not compared with samples, which takes seconds and which test_evaluate_samples.py tests.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluate import evaluate
from pipeline.files import formats, trained_model
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.files.trained_model import Prior, TrainedModel
from pipeline.market_figures import by_market, name_of
from pipeline.report import opponent_table
from pipeline.report.page import report_page
from pipeline.settings.evaluate import EvaluateParams
from tests import bundles
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components
from vae.model.mixture import Mixture

SETTINGS = EvaluateParams(
    seed=7, importance_samples=[1, 2], prior_samples=100, completion_points=[2, 4], arbitrage_tolerance=1e-6
)
MODEL = TrainedModel(bundles.linear_model(), Prior(Mixture.standard_normal(3)))
FIGURES = (
    "test_surfaces", "elbo_nats", "reconstruction_rmse_bp", "latent_reconstruction_rmse_bp",
    "pca_reconstruction_rmse_bp", "completion_mae_bp_2",
    "pca_completion_mae_bp_4", "opponent_completion_hidden_mae_bp_4", "opponent_log_likelihood_nats",
    "completion_hidden_mae_bp_2", "interval_coverage_90", "interval_coverage_90_2", "data_arbitrage_free_rate",
)  # fmt: skip


def write(folder: Path, *markets: torch.Tensor, names: tuple[str, ...] = ()) -> Dataset:
    """The same training surfaces in every data set; test surfaces [surface, D] of each market, in turns by date."""
    folder.mkdir()
    data = Dataset(folder)
    data.write_grid(bundles.GRID)
    test = torch.stack(markets, dim=1).flatten(0, 1)
    market = np.tile(np.arange(len(markets)), len(markets[0]))
    for split in SPLITS:
        rows = test if split == "test" else bundles.data()[: len(market)]
        surfaces = rows.unflatten(1, bundles.GRID.shape).float().numpy()
        dates = np.arange(len(rows), dtype=np.int32) // len(markets)
        data.write_surfaces(split, surfaces, dates, {}, market=market if names else None)
    if names:
        data.write_markets(names)
    return data


def test_one_market_under_two_names_has_the_same_figures_twice(tmp_path: Path) -> None:
    surfaces = bundles.data()[:24]
    data = write(tmp_path / "twice", surfaces, surfaces, names=("AUD/USD", "AUDUSD"))
    result = evaluate(MODEL, data, SETTINGS)
    for name in FIGURES:
        found = by_market(result.figures, name, data.markets)
        assert found["AUD/USD"] == found["AUDUSD"], name
    page = report_page(result, data.grid, {"epoch": [], "train_objective_nats": [], "validation_elbo_nats": []})
    assert (
        page.count('<th scope="row">AUD/USD</th><td>24</td>')
        == page.count('<th scope="row">AUDUSD</th><td>24</td>')
        == 1
    )


def test_a_reconstruction_is_compared_with_pca_of_as_many_numbers(tmp_path: Path) -> None:
    """Three latents with PCA of three numbers, and with three residual factors with PCA of six, by numpy's."""
    sizes = Architecture(8, 8, 3, 16, 2, residual_factors=3)
    model = Vae.from_components(sizes, principal_components(bundles.data()))
    data = write(tmp_path / "data", bundles.data()[:24])
    result = evaluate(TrainedModel(model, MODEL.prior), data, SETTINGS)
    test, fit = data.points("test").astype(float), data.points("train").astype(float)
    centre = fit.mean(0)
    directions = np.linalg.svd(fit - centre, full_matrices=False)[2]
    for name, numbers in (("pca", 3), ("whole_pca", 6)):
        v = directions[:numbers]
        error = np.square(1e4 * (centre + (test - centre) @ v.T @ v - test)).reshape(-1, *bundles.GRID.shape)
        assert result.figures[f"{name}_reconstruction_rmse_bp"] == pytest.approx(np.sqrt(error.mean()), rel=1e-6)
        by_tenor = result.error_by_tenor[f"{name}_reconstruction"]
        np.testing.assert_allclose(by_tenor, np.sqrt(error.mean((0, 2))), rtol=1e-6)
    for name in ("latent_reconstruction", "reconstruction"):
        whole = np.sqrt(np.mean(np.square(result.error_by_tenor[name])))
        assert result.figures[f"{name}_rmse_bp"] == pytest.approx(whole, rel=1e-9)
    assert result.figures["reconstruction_numbers"] == 6
    page = report_page(result, data.grid, {"epoch": [], "train_objective_nats": [], "validation_elbo_nats": []})
    legend = ("latents alone, 3 numbers", "PCA, 3 numbers", "with residual factors, 6 numbers", "PCA, 6 numbers")
    assert all(name in page for name in legend)
    assert "as many latents" not in page
    assert f"PCA with as many numbers, 6: {result.figures['whole_pca_reconstruction_rmse_bp']:.2f} bp" in page


def test_figures_of_a_market_are_those_of_its_surfaces_alone(tmp_path: Path) -> None:
    calm, wild = bundles.data()[:24], 1.1 * bundles.data()[24:48]
    both = evaluate(MODEL, write(tmp_path / "both", calm, wild, names=("calm", "wild")), SETTINGS).figures
    for name, surfaces in (("calm", calm), ("wild", wild)):
        data = write(tmp_path / name, surfaces)
        train = Dataset(tmp_path / "both").file("train")
        data.file("train").write_bytes(train.read_bytes())
        alone = evaluate(MODEL, data, SETTINGS).figures
        figures = [figure for figure in FIGURES if not figure.startswith("opponent_")]  # fitted to the market too
        assert {figure: both[name_of(figure, name)] for figure in figures} == pytest.approx(
            {figure: alone[figure] for figure in figures}, rel=1e-12
        )
    assert both["test_surfaces"] == 48


def test_the_report_says_what_prepare_found(tmp_path: Path) -> None:
    data = write(tmp_path / "data", bundles.data()[:48])
    curve = {"epoch": [], "train_objective_nats": [], "validation_elbo_nats": []}
    assert "<h2>The data" not in report_page(evaluate(MODEL, data, SETTINGS), data.grid, curve)
    found = {"quotes": 1000, "quotes_used": 700, "rejected_wide": 300, "rejected_stale": 0, "arbitrage_free_rate": 0.5}
    formats.write_json(data.folder / "report.json", found)
    page = report_page(evaluate(MODEL, data, SETTINGS), data.grid, curve)
    for row in (
        "quotes used</th><td>700 of 1,000", "rejected: wide</th><td>300 (30.0%)",
        "surfaces without static arbitrage</th><td>50.00%",
    ):  # fmt: skip
        assert row in page
    assert "rejected: stale" not in page


def test_a_market_without_test_surfaces_has_no_figures(tmp_path: Path) -> None:
    data = write(tmp_path / "data", bundles.data()[:48], names=("here", "gone"))
    figures = evaluate(MODEL, data, SETTINGS).figures
    assert set(by_market(figures, "elbo_nats", data.markets)) == {"here"}


def test_no_two_markets_share_the_name_of_a_figure() -> None:
    markets = ("EUR/USD", "EUR-USD", "EURUSD", "EUR_USD", "EUR USD", "EUR-2fUSD", "^SPX", "SPX", "éS=F")
    names = [name_of("elbo_nats", market) for market in markets]
    assert len(set(names)) == len(markets)
    assert all(name.isascii() and name.replace("-", "").replace("_", "").isalnum() for name in names)


def test_opponents_have_the_weights_of_age_that_the_model_had(tmp_path: Path) -> None:
    """Those of its half-life besides those without; the best of all counts, and a table of all is shown."""
    data = write(tmp_path / "data", bundles.data()[:48])
    aged = MODEL._replace(prior=MODEL.prior._replace(half_life_days=20.0))
    without, figures = (evaluate(model, data, SETTINGS).figures for model in (MODEL, aged))
    assert not any("_days" in name for name in without)
    name = "opponent_log_likelihood_nats"
    names = ("gaussian", "ppca")  # a vol below zero has no logarithm
    densities = [figures[f"opponent_{one}{end}_log_likelihood_nats"] for one in names for end in ("", "_20_days")]
    assert figures[name] == max(densities)
    assert figures[name] >= without[name]
    other = evaluate(aged, data, SETTINGS.model_copy(update={"opponent_half_life_days": 5.5})).figures
    assert other.keys() > figures.keys()
    header = opponent_table.table(other, "_bp")[0]
    assert len(header) == 3 + 3 * len(names) + 1
    assert header[3] == "Gaussian"
    assert header[5] == "Gaussian, half-life 5.5 days"
    assert header[8].startswith("pPCA, rank ")
    assert header[8].endswith(", half-life 20 days")


def test_the_half_life_of_training_is_kept_with_the_prior(tmp_path: Path) -> None:
    for half_life in (None, 500.0):
        prior = MODEL.prior._replace(half_life_days=half_life)
        trained_model.write_model(tmp_path, MODEL.model.architecture, MODEL.model.state_dict(), prior)
        assert trained_model.read(tmp_path).prior.half_life_days == half_life
