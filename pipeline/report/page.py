"""The evaluation report: one self-contained HTML page."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.market_figures import name_of
from pipeline.report import blocks, opponent_table
from pipeline.report.blocks import Card, Section
from pipeline.report.charts import Axis, Level, Mark, chart, heat_map, surface
from vae.surface.arbitrage import KINDS
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR, VOL_BP

Array = NDArray[np.float64]

_SHOWN_SAMPLES = 2
_MOST_FACES = 24  # of a drawn surface along an axis
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
        error_by_point: root mean square error of reconstructions in bp, [tenor, node].
        error_by_tenor: that of each tenor, [tenor], by the name of its figure: by the latents alone, by PCA with as
            many numbers, with the residual factors, and by PCA with as many numbers as these.
        noise_bp: standard deviation of the noise of a quote, where it is known.
    """

    figures: dict[str, float]
    markets: tuple[str, ...]
    prepared: Mapping[str, Any]
    truth: Array
    reconstruction: Array
    samples: Array
    latents: Array
    error_by_point: Array
    error_by_tenor: Mapping[str, Array]
    noise_bp: float | None = None


def report_page(result: Evaluation, grid: Grid, curve: Mapping[str, list[float]]) -> str:
    """The page; the same arguments give the same text."""
    figures = result.figures
    noise = Level(result.noise_bp, "noise of a quote") if result.noise_bp else None
    sections = (
        blocks.completion(figures, VOL_BP, noise),
        *([blocks.coverage(figures)] if blocks.numbered(figures, "interval_coverage_90_") else []),
        _error_by_tenor(result, grid, noise),
        *_drawn(result, grid),
        _error_map(result, grid),
        _spread(result, grid),
        blocks.latents(result.latents),
        blocks.bounds(figures),
        blocks.training(curve, figures, "surface"),
        *_sample_surfaces(result.samples, grid),
    )
    introduction = (
        f"{len(result.truth):,} test surfaces, {grid.shape[0]} tenors x {grid.shape[1]} nodes. "
        "1 bp is 0.0001 of volatility; nats are of the density of decimal vols."
    )
    tables = (
        f"{_market_table(result)}{_data_table(result.prepared)}"
        f"{blocks.table('Completion beside linear models, bp', opponent_table.table(figures, VOL_BP.suffix))}"
        f"{_motion_table(figures)}"
        f"{blocks.table('Samples beside data', blocks.fidelity_rows(figures))}"
        f"{blocks.table('Tails of samples', blocks.tail_rows(figures))}"
        f"{blocks.table('Surfaces free of arbitrage, by kind', _arbitrage_rows(figures))}"
        f"{blocks.all_figures(figures)}"
    )
    return blocks.page("surfaces", introduction, main_cards(figures, result.noise_bp), sections, tables)


def main_cards(figures: Mapping[str, float], noise_bp: float | None) -> list[Card]:
    """The main figures, each above what it is measured by."""
    noise = "" if noise_bp is None else f"noise of a quote: {noise_bp:g} bp"
    pca = f"PCA with as many: {figures['pca_reconstruction_rmse_bp']:.2f} bp"
    return [
        *blocks.completed_card(figures, VOL_BP),
        Card(
            f"{figures['reconstruction_rmse_bp']:.2f} bp",
            "error of reconstructions",
            "; ".join(filter(None, (noise, opponent_table.whole_beside_pca(figures, VOL_BP, ".2f")))),
        ),
        Card(f"{figures['latent_reconstruction_rmse_bp']:.2f} bp", "by the latents alone", pca),
        *blocks.judged_by(figures),
        Card(
            f"{figures['sample_arbitrage_free_rate']:.2%}",
            "of samples free of static arbitrage",
            f"the data: {figures['data_arbitrage_free_rate']:.2%}",
        ),
    ]


def _arbitrage_rows(figures: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Rate of each kind for the data, the reconstructions and the samples."""
    names = ("data", "reconstruction", "sample", "standard_normal_sample")
    return [("", "data", "reconstruction", "sample", "sample of N(0, I)")] + [
        (kind, *(f"{figures[f'{name}_{kind}_free_rate']:.2%}" for name in names)) for kind in ("arbitrage", *KINDS)
    ]


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
    return blocks.table("Test dates from the date before", rows) + _stickiness_table(figures)


def _stickiness_table(figures: Mapping[str, float]) -> str:
    """Skew-stickiness ratios by tenor; empty without a return of the underlying."""
    days = blocks.numbered(figures, "scenario_skew_stickiness_")
    if not days:
        return ""
    names = ("data_skew_stickiness", "data_skew_stickiness_se", "scenario_skew_stickiness", "fhs_skew_stickiness")
    rows = [("days", "data", "standard error", "volvae", "filtered historical simulation")] + [
        (str(day), *(f"{figures[f'{name}_{day}']:.2f}" for name in names)) for day in days
    ]
    return blocks.table("Skew-stickiness ratio: vol at the money by the return, over the skew", rows)


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
    return blocks.table("By market", rows)


def _data_table(prepared: Mapping[str, Any]) -> str:
    """Used and rejected rows of a file of quotes, by reason, and its vols; empty without such a file."""
    if not prepared:
        return ""
    quotes = prepared["quotes"]
    rejected = {name.removeprefix("rejected_"): n for name, n in prepared.items() if name.startswith("rejected_") and n}
    rows = [
        ("", "share"),
        ("quotes used", f"{prepared['quotes_used']:,} of {quotes:,}"),
        *((f"rejected: {reason}", f"{count:,} ({count / quotes:.1%})") for reason, count in rejected.items()),
        *((title, f"{prepared[name]:.2%}") for name, title in _DATA_RATES if name in prepared),
    ]
    return blocks.table("The data", rows)


def _sample_surfaces(samples: Array, grid: Grid) -> list[Section]:
    """The first samples in perspective, tenors and nodes thinned to what can be seen."""
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, _MOST_FACES)).round().astype(int)) for n in grid.shape)
    ends = (
        f"{blocks.node_title(grid)} {grid.nodes[0]:.2g} to {grid.nodes[-1]:.2g}",
        f"tenor {DAYS_PER_YEAR * grid.tenors[0]:.0f} to {_days(grid.tenors[-1])}",
    )
    return [
        Section(
            f"Sample {n + 1}",
            surface(
                grid.nodes[columns],
                grid.tenors[rows],
                100.0 * iv[np.ix_(rows, columns)],
                ends=ends,
                unit="%",
                label=f"Surface {n + 1} sampled from the model, vol over {blocks.node_title(grid)} and tenor",
            ),
            "Vol in colours from low to high.",
        )
        for n, iv in enumerate(samples[:_SHOWN_SAMPLES])
    ]


def _drawn(result: Evaluation, grid: Grid) -> list[Section]:
    """The test surface of median error and that of the largest, with their reconstructions."""
    errors = np.sqrt(np.nanmean(np.square(result.reconstruction - result.truth), axis=(1, 2)))
    ranked = np.argsort(errors)
    shown = ((ranked[len(ranked) // 2], "A surface of median error"), (ranked[-1], "The worst surface"))
    sections = []
    for n, title in shown:
        marks = []
        for row, colour in zip((0, len(grid.tenors) // 2, len(grid.tenors) - 1), ("own", "rival", "dark"), strict=True):
            name = _days(grid.tenors[row])
            marks += [
                Mark(grid.nodes, 100.0 * result.truth[n, row], name, colour, "dots"),
                Mark(grid.nodes, 100.0 * result.reconstruction[n, row], "", colour),
            ]
        picture = chart(marks, Axis(blocks.node_title(grid)), Axis("vol, %"), label=f"{title}: data and reconstruction")
        off = f"{BASIS_POINTS * errors[n]:.2f} bp off on average (root mean square)."
        sections.append(Section(title, picture, f"Test data (points) and reconstruction (lines). {off}"))
    return sections


def _error_map(result: Evaluation, grid: Grid) -> Section:
    picture = heat_map(
        grid.nodes,
        grid.tenors,
        result.error_by_point,
        (Axis(blocks.node_title(grid), style=".2g"), Axis("tenor, years", style=".2g")),
        unit="bp",
        label="Reconstruction error over the grid",
    )
    return Section("Where reconstructions err", picture, "Root mean square error of each point of the grid.")


def _error_by_tenor(result: Evaluation, grid: Grid, noise: Level | None) -> Section:
    marks = blocks.reconstruction_marks(grid.tenors, result.error_by_tenor, result.figures, "line dots")
    error = Axis("root mean square error, bp", log=True)
    levels = [noise] if noise else []
    picture = chart(marks, Axis("tenor, years"), error, levels=levels, label="Reconstruction error by tenor")
    return Section("Reconstruction by tenor", picture, "Given all points of a test surface.")


def _spread(result: Evaluation, grid: Grid) -> Section:
    """Quantiles of the vol in the middle of the grid by tenor: of data, and of samples."""
    middle = len(grid.nodes) // 2
    levels = (0.001, 0.05, 0.5, 0.95, 0.999)
    data, samples = (100.0 * np.nanquantile(iv[:, :, middle], levels, axis=0) for iv in (result.truth, result.samples))
    marks = [
        Mark(grid.tenors, data[2], "data, 0.1 to 99.9 %", "quiet-mark", "band", data[0], data[4]),
        Mark(grid.tenors, data[2], "data, 5 to 95 %", "quiet-mark", "band", data[1], data[3]),
        *(Mark(grid.tenors, samples[n], "samples, the same" if n == 1 else "", "own") for n in (1, 2, 3)),
        *(Mark(grid.tenors, samples[n], "", "own", "dashes") for n in (0, 4)),
    ]
    picture = chart(marks, Axis("tenor, years"), Axis("vol, %"), label="Quantiles of vols of data and of samples")
    where = f"{blocks.node_title(grid)} = {grid.nodes[middle]:.3g}"
    return Section(
        "Samples beside data", picture, f"Quantiles of the vol at {where}, with the median; tails are dashed."
    )


def _days(tenor: float) -> str:
    return f"{DAYS_PER_YEAR * tenor:.0f} days"
