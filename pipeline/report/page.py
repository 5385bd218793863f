"""The evaluation report: one self-contained HTML page with interactive figures."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pipeline.market_figures import name_of
from pipeline.report import blocks, opponent_table
from pipeline.report.blocks import BLUE, GREY, ORANGE
from vae.surface.arbitrage import KINDS
from vae.surface.grid import Grid
from vae.surface.units import VOL_BP

Array = NDArray[np.float64]

_SHOWN_SAMPLES = 6
_EYE = {"x": 1.6, "y": 1.6, "z": 0.9}  # of the 3D view: far enough for its axis titles
_HEADLINES = (
    ("reconstruction_rmse_bp", "reconstruction error, bp", ".2f"),
    ("latent_reconstruction_rmse_bp", "by the latents alone, bp", ".2f"),
    ("pca_reconstruction_rmse_bp", "PCA, as many latents, bp", ".2f"),
    ("elbo_nats", "ELBO, nats", ",.1f"),
    ("iwae_nats", "importance-weighted bound, nats", ",.1f"),
    ("active_units", "active latents", "d"),
    ("sample_arbitrage_free_rate", "arbitrage-free samples", ".2%"),
)
_MARKET_COLUMNS = (
    ("test_surfaces", "test surfaces", ",d"),
    ("elbo_nats", "ELBO, nats", ",.1f"),
    ("reconstruction_rmse_bp", "reconstruction, bp", ".2f"),
    ("latent_reconstruction_rmse_bp", "by the latents, bp", ".2f"),
    ("pca_reconstruction_rmse_bp", "PCA, bp", ".2f"),
    ("interval_coverage_90", "inside 90 % intervals", ".1%"),
    ("data_arbitrage_free_rate", "data without arbitrage", ".2%"),
)
_DATA_RATES = (
    ("lowest_vol", "lowest vol"),
    ("median_vol", "median vol"),
    ("highest_vol", "highest vol"),
    ("arbitrage_free_rate", "surfaces without static arbitrage"),
    ("large_arbitrage_rate", "surfaces with arbitrage of more than 0.001 of the forward"),
)


class Evaluation(NamedTuple):
    """Measurements on test surfaces.

    Attributes:
        figures: flat metrics.
        markets: names of the markets; none where the data does not tell markets apart.
        prepared: what prepare found in a file of quotes; empty for other data.
        truth, reconstruction, samples: decimal vols, [surface, tenor, node].
        latents: posterior means, [surface, latent].
        error_by_point, error_by_tenor, pca_error_by_tenor: root mean square errors in bp, [tenor, node] and [tenor].
    """

    figures: dict[str, float]
    markets: tuple[str, ...]
    prepared: Mapping[str, Any]
    truth: Array
    reconstruction: Array
    samples: Array
    latents: Array
    error_by_point: Array
    error_by_tenor: Array
    pca_error_by_tenor: Array


def report_page(result: Evaluation, grid: Grid, curve: Mapping[str, list[float]]) -> str:
    """The page; the same arguments give the same text."""
    sections = (
        (
            _sample_surfaces(result.samples, grid),
            "Surfaces sampled from the model; choose one, turn it with the mouse.",
        ),
        (_smiles(result, grid), "Test surfaces (lines) and their reconstructions (points)."),
        (_error_map(result, grid), "Reconstruction error over the grid, bp of vol."),
        (_error_by_tenor(result, grid), "Reconstruction error by tenor beside PCA with as many latents."),
        (
            blocks.completion(result.figures, VOL_BP),
            "Completion from a few random points: mean absolute error over all points.",
        ),
        (
            blocks.bounds(result.figures),
            "Bounds on the log-likelihood; the importance-weighted one by its number of draws.",
        ),
        (blocks.training(curve), "Training: objective and validation ELBO of a surface."),
        (
            blocks.latents(result.latents),
            "Posterior means of the test surfaces; the model is trained with the prior N(0, 1).",
        ),
    )
    introduction = (
        f"{len(result.truth):,} test surfaces, {grid.shape[0]} tenors x {grid.shape[1]} nodes. "
        "1 bp is 0.0001 of volatility; nats are of the density of decimal vols."
    )
    figures = result.figures
    linear = opponent_table.table(figures, VOL_BP.suffix)
    tables = (
        f"{_market_table(result)}{_data_table(result.prepared)}"
        f"<h2>Completion beside linear models, bp</h2><table>{blocks.cells(linear)}</table>"
        f"{_motion_table(figures)}"
        f"<h2>Samples beside data</h2><table>{blocks.fidelity_rows(figures)}</table>"
        f"<h2>Tails of samples</h2><table>{blocks.tail_rows(figures)}</table>"
        f"<h2>Surfaces free of arbitrage, by kind</h2><table>{_arbitrage_rows(figures)}</table>"
        f"<h2>All figures</h2><table>{blocks.rows(figures)}</table>"
    )
    return blocks.page("surfaces", introduction, blocks.cards(figures, _HEADLINES), sections, tables)


def _arbitrage_rows(figures: Mapping[str, float]) -> str:
    """Rate of each kind for the data, the reconstructions and the samples."""
    names = ("data", "reconstruction", "sample", "standard_normal_sample")
    rows = [("", "data", "reconstruction", "sample", "sample of N(0, I)")] + [
        (kind, *(f"{figures[f'{name}_{kind}_free_rate']:.2%}" for name in names)) for kind in ("arbitrage", *KINDS)
    ]
    return blocks.cells(rows)


def _motion_table(figures: Mapping[str, float]) -> str:
    """Forecasts of test dates from the dates before, beside historical simulations; empty without a law of motion."""
    if "scenario_dates" not in figures:
        return ""
    columns = (("energy_score", ".2f"), ("coverage_90", ".1%"), ("arbitrage_free_rate", ".2%"))
    rivals = (("volvae", "scenario"), ("filtered historical simulation", "fhs"), ("historical simulation", "hs"))
    rows = [("", "energy score, % of vols", "inside 90 % bands", "free of static arbitrage")] + [
        (
            title,
            *(f"{figures[f'{name}_{key}']:{style}}" if f"{name}_{key}" in figures else "-" for key, style in columns),
        )
        for title, name in rivals
    ]
    return f"<h2>Test dates from the date before</h2><table>{blocks.cells(rows)}</table>"


def _market_table(result: Evaluation) -> str:
    """The main figures of each market; empty where there are none."""
    if not result.markets:
        return ""
    figures = result.figures
    columns = [(name, title, style) for name, title, style in _MARKET_COLUMNS if name in figures] + [
        (f"{prefix}{count}", f"{title}, {count} points, bp", ".2f")
        for count in blocks.numbered(figures, "completion_mae_bp_")
        for prefix, title in (
            ("completion_mae_bp_", "completion"),
            ("pca_completion_mae_bp_", "PCA"),
            ("opponent_completion_mae_bp_", "best linear opponent"),
        )
    ]

    def row(title: str, names: Iterable[str]) -> tuple[str, ...]:
        styles = (style for _, _, style in columns)
        cells = (
            f"{figures[name]:{style}}" if name in figures else "-" for name, style in zip(names, styles, strict=True)
        )
        return title, *cells

    names = [name for name, _, _ in columns]
    rows = [
        ("market", *(title for _, title, _ in columns)),
        *(row(market, (name_of(name, market) for name in names)) for market in result.markets),
        row("all together", names),
    ]
    return f"<h2>By market</h2><table>{blocks.cells(rows)}</table>"


def _data_table(prepared: Mapping[str, Any]) -> str:
    """Used and rejected rows of a file of quotes, by reason, and its vols; empty without such a file."""
    if not prepared:
        return ""
    quotes = prepared["quotes"]
    rejected = {name.removeprefix("rejected_"): n for name, n in prepared.items() if name.startswith("rejected_") and n}
    rows = [
        ("quotes used", f"{prepared['quotes_used']:,} of {quotes:,}"),
        *((f"rejected: {reason}", f"{count:,} ({count / quotes:.1%})") for reason, count in rejected.items()),
        *((title, f"{prepared[name]:.2%}") for name, title in _DATA_RATES if name in prepared),
    ]
    return f"<h2>The data</h2><table>{blocks.cells(rows)}</table>"


def _sample_surfaces(samples: Array, grid: Grid) -> go.Figure:
    shown = samples[:_SHOWN_SAMPLES]
    surfaces = [
        go.Surface(x=grid.nodes, y=grid.tenors, z=100.0 * iv, visible=n == 0, colorscale="Viridis", showscale=False)
        for n, iv in enumerate(shown)
    ]
    buttons = [
        {
            "label": f"sample {n + 1}",
            "method": "update",
            "args": [{"visible": [m == n for m in range(len(shown))]}],
        }
        for n in range(len(shown))
    ]
    scene = {
        "xaxis_title": _node_title(grid),
        "yaxis_title": "tenor, years",
        "zaxis_title": "vol, %",
        "aspectmode": "cube",
        "camera": {"eye": _EYE},
    }
    return go.Figure(surfaces, {"scene": scene, "updatemenus": [{"buttons": buttons, "x": 0.0, "y": 1.1}]})


def _smiles(result: Evaluation, grid: Grid) -> go.Figure:
    figure = go.Figure()
    tenor = len(grid.tenors) // 2
    for n, color in enumerate((BLUE, ORANGE, GREY)):
        truth, reconstruction = 100.0 * result.truth[n, tenor], 100.0 * result.reconstruction[n, tenor]
        figure.add_scatter(x=grid.nodes, y=truth, line={"color": color}, name=f"surface {n + 1}")
        figure.add_scatter(
            x=grid.nodes,
            y=reconstruction,
            mode="markers",
            marker={"color": color, "size": 5},
            showlegend=False,
        )
    title = f"smile at {grid.tenors[tenor]:.2f} years"
    return figure.update_layout(title=title, xaxis_title=_node_title(grid), yaxis_title="vol, %")


def _error_map(result: Evaluation, grid: Grid) -> go.Figure:
    heat = go.Heatmap(
        x=grid.nodes, y=grid.tenors, z=result.error_by_point, colorscale="Blues", colorbar={"title": "bp"}
    )
    return go.Figure(heat).update_layout(xaxis_title=_node_title(grid), yaxis_title="tenor, years")


def _error_by_tenor(result: Evaluation, grid: Grid) -> go.Figure:
    figure = go.Figure()
    for name, error, color in (
        ("volvae", result.error_by_tenor, BLUE),
        ("PCA", result.pca_error_by_tenor, ORANGE),
    ):
        figure.add_scatter(x=grid.tenors, y=error, name=name, mode="lines+markers", line={"color": color})
    return figure.update_layout(xaxis_title="tenor, years", yaxis_title="RMSE, bp", yaxis_type="log")


def _node_title(grid: Grid) -> str:
    return {"sqrt_time": "k / sqrt(tenor)", "log_moneyness": "k = ln(K/F)", "delta": "call delta"}[grid.convention]
