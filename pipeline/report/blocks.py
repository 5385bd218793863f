"""Parts of the reports of surfaces and of vectors: the frame of the page, cards, tables and charts."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.files.csv_tables import csv_columns
from pipeline.files.formats import read_bytes
from pipeline.report import opponent_table
from pipeline.report.charts import Axis, Level, Mark, chart
from pipeline.report.style import PAGE, STYLE
from pipeline.report.verdict import UNJUDGED
from vae.surface.grid import Grid
from vae.surface.units import Unit

Array = NDArray[np.float64]


class Card(NamedTuple):
    """A main figure in words, and below it what it is measured by: a rival, a floor or a ceiling; or nothing."""

    figure: str
    what: str
    anchor: str = ""


class Section(NamedTuple):
    """A chart, as HTML, under its title and above its caption."""

    title: str
    picture: str
    caption: str


_COMPARED = {
    "sample": "samples and data",
    "standard_normal_sample": "samples of N(0, I) and data",
    "floor": "two samples of data",
    "drift": "training and test period",
    "sample_to_test": "samples and test period",
}


def page(subject: str, introduction: str, main: Iterable[Card], sections: Iterable[Section], tables: str) -> str:
    """A self-contained page without scripts, with a place for the verdict; the same arguments give the same text.

    Args:
        subject: of the evaluation, for the title.
        introduction: one paragraph.
        main: the figures that come first.
        sections: charts.
        tables: headings and tables below the charts.
    """
    content = f"{UNJUDGED}<p>{introduction}</p>{cards(main)}{charts(sections)}{tables}"
    return document("volvae: evaluation", f"evaluation on held-out {subject}", content)


def document(title: str, subtitle: str, content: str) -> str:
    """A page with the common look around HTML."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{PAGE}</style>"
        f'<header><h1>volvae</h1><p class="quiet">{html.escape(subtitle)}</p></header><main>{content}</main></html>\n'
    )


def charts(sections: Iterable[Section]) -> str:
    """Charts with titles and captions, side by side where there is room."""
    figures = (
        f"<figure><h3>{html.escape(title)}</h3>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for title, picture, caption in sections
    )
    return f'<div class="pair">{"".join(figures)}</div>'


def table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A table under its heading, which scrolls by itself where it is too wide; the first row and column name the rest.

    Empty where there are no rows.
    """
    if not rows:
        return ""
    head, *body = rows
    names = "".join(_heading(cell, "col") for cell in head)
    lines = "".join(
        f"<tr>{_heading(name, 'row')}{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in body
    )
    label = html.escape(title)
    return (
        f'<h2>{label}</h2><div class="table" role="region" aria-label="{label}" tabindex="0">'
        f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _heading(text: str, scope: str) -> str:
    return f'<th scope="{scope}">{html.escape(text)}</th>' if text else "<td></td>"


def all_figures(figures: Mapping[str, float]) -> str:
    """All figures in a table that is folded."""
    rows = [("figure", "value"), *((name, f"{value:,.6g}") for name, value in figures.items())]
    return (
        f'<details class="figures-all"><summary>All {len(figures)} figures</summary>{table("Figures", rows)}</details>'
    )


def cards(main: Iterable[Card]) -> str:
    """The main figures, each above what it is measured by."""
    found = (
        f"<div><b>{html.escape(figure)}</b><span>{html.escape(what)}</span>"
        f"{f'<small>{html.escape(anchor)}</small>' if anchor else ''}</div>"
        for figure, what, anchor in main
    )
    return f'<div class="cards">{"".join(found)}</div>'


def read_curve(path: Path) -> dict[str, list[float]]:
    """Columns of the training curve."""
    return csv_columns(read_bytes(path).decode())


def fidelity_rows(figures: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Distances and classifiers, with standard errors: of samples, and of two samples of data, which are the floor."""
    kinds = {
        "energy_distance": ("energy distance", ".2e"),
        "boosting_accuracy": ("boosting is right", ".2%"),
        "network_accuracy": ("a network is right", ".2%"),
    }
    rows: list[tuple[str, ...]] = [("", *(title for title, _ in kinds.values()))]
    for name, title in _COMPARED.items():
        if f"{name}_energy_distance" in figures:
            found = (
                f"{figures[f'{name}_{kind}']:{style}} ± {figures[f'{name}_{kind}_se']:{style}}"
                for kind, (_, style) in kinds.items()
            )
            rows.append((title, *found))
    return rows


def tail_rows(figures: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Tail quantiles of samples less those of data, and how often two features are in a tail; empty without any."""
    if "tail_level" not in figures:
        return []
    level = figures["tail_level"]
    rows: list[tuple[str, ...]] = [("sample less data", f"quantile {level:.2%}", f"quantile {1.0 - level:.2%}")]
    start, end = "sample_tail_", "_low_bp"
    for feature in (key[len(start) : -len(end)] for key in figures if key.startswith(start) and key.endswith(end)):
        shown = (
            f"{figures[f'{start}{feature}_{side}_bp']:,.1f} ± {figures[f'{start}{feature}_{side}_se_bp']:,.1f} bp"
            for side in ("low", "high")
        )
        rows.append((feature.replace("_", " "), *shown))
    rows.append(("both in a tail of 1 %", "samples", "data"))
    start, end = "sample_joint_tail_", "_rate"
    for event in (key[len(start) : -len(end)] for key in figures if key.startswith(start)):
        shares = (f"{figures[f'{kind}_joint_tail_{event}_rate']:.3%}" for kind in ("sample", "data"))
        rows.append((event.replace("_", " "), *shares))
    return rows


def numbered(figures: Mapping[str, float], prefix: str, suffix: str = "") -> dict[int, float]:
    """Figures whose names carry a number, by that number."""
    found = {
        key.removeprefix(prefix).removesuffix(suffix): value
        for key, value in figures.items()
        if key.startswith(prefix) and key.endswith(suffix)
    }
    return {int(number): value for number, value in found.items() if number.isdigit()}


def completion(figures: Mapping[str, float], unit: Unit, noise: Level | None = None) -> Section:
    """Mean absolute error of completion at hidden points by the number of known ones, beside the best linear opponent.

    Beside PCA, over all points, where no opponent was fitted.
    """
    hidden, opponent = f"completion_hidden_mae{unit.suffix}_", f"completion_mae{unit.suffix}_"
    if numbered(figures, f"opponent_{hidden}"):
        ours, rival, name, where = hidden, f"opponent_{hidden}", "best linear opponent", "at the hidden points"
    else:
        ours, rival, name, where = opponent, f"pca_{opponent}", "PCA", "over all points"
    counts = numbered(figures, ours)
    marks = [
        Mark(list(counts), list(counts.values()), "volvae", "own", "line dots"),
        Mark(*_columns(numbered(figures, rival)), name, "rival", "line dots"),
    ]
    error = Axis(axis_title("mean absolute error", unit), log=True)
    picture = chart(
        marks,
        Axis("known points", log=True, ticks=tuple(counts)),
        error,
        levels=[noise] if noise else [],
        label="Error of completion by the number of known points",
    )
    return Section("Completion from a few points", picture, f"From random points of test data; the error is {where}.")


def reconstruction_marks(
    x: ArrayLike, errors: Mapping[str, ArrayLike], figures: Mapping[str, float], shape: str
) -> list[Mark]:
    """Errors of reconstructions, each beside that of PCA with as many numbers.

    Args:
        x: tenors or points.
        errors: at each of them, by the name of their figure.
        figures: of the stage evaluate.
        shape: of the marks.
    """
    latents, numbers = int(figures["latents"]), int(figures["reconstruction_numbers"])
    marks = [
        Mark(x, errors["latent_reconstruction"], f"latents alone, {latents} numbers", "own", shape),
        Mark(x, errors["pca_reconstruction"], f"PCA, {latents} numbers", "rival", shape),
    ]
    if numbers == latents:
        return marks
    return [
        *marks,
        Mark(x, errors["reconstruction"], f"with residual factors, {numbers} numbers", "dark", shape),
        Mark(x, errors["whole_pca_reconstruction"], f"PCA, {numbers} numbers", "quiet-mark", shape),
    ]


def coverage(figures: Mapping[str, float]) -> Section:
    """The share of hidden points inside their 90 % intervals, by the number of known points."""
    shares = {count: 100.0 * share for count, share in numbered(figures, "interval_coverage_90_").items()}
    picture = chart(
        [Mark(*_columns(shares), "", "own", "line dots")],
        Axis("known points", log=True, ticks=tuple(shares)),
        Axis("inside their 90 % interval, %", holds=(80.0, 100.0)),
        levels=[Level(90.0, "exact intervals")],
        label="Coverage of 90 % intervals by the number of known points",
    )
    return Section("Are the intervals honest?", picture, "Above the line intervals are too wide, below it too narrow.")


def bounds(figures: Mapping[str, float]) -> Section:
    """The importance-weighted bound by its number of draws, below the exact log-likelihood where that is known."""
    found = numbered(figures, "iwae_", "_nats")
    exact = [Level(figures["oracle_nats"], "exact log-likelihood")] if "oracle_nats" in figures else []
    picture = chart(
        [Mark(*_columns(found), "", "own", "line dots")],
        Axis("draws", log=True, ticks=tuple(found), style=",g"),
        Axis("nats"),
        levels=exact,
        label="Bound on the log-likelihood by its number of draws",
    )
    beaten = (
        f" The best linear opponent has {figures['opponent_log_likelihood_nats']:,.1f}."
        if "opponent_log_likelihood_nats" in figures
        else ""
    )
    return Section(
        "Bound on the log-likelihood", picture, f"Importance-weighted; one draw is the ELBO, more are tighter.{beaten}"
    )


def training(curve: Mapping[str, list[float]], figures: Mapping[str, float], what: str) -> Section:
    """Objective and validation ELBO by epoch."""
    kinds = (("train_objective_nats", "training", "quiet-mark"), ("validation_elbo_nats", "validation", "own"))
    exact = [Level(figures["oracle_nats"], "exact log-likelihood of test data")] if "oracle_nats" in figures else []
    picture = chart(
        [Mark(curve["epoch"], curve[key], name, colour) for key, name, colour in kinds],
        Axis("epoch"),
        Axis("ELBO, nats"),
        levels=exact,
        label="Training objective and validation ELBO by epoch",
    )
    return Section("Training", picture, f"Objective and validation ELBO of a {what}.")


def latents(means: Array) -> Section:
    """The spread of the posterior means of each latent, [observation, latent], beside that of N(0, 1)."""
    low, quarter, middle, rest, high = np.quantile(means, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
    place = np.arange(1, means.shape[1] + 1)
    marks = [
        Mark(place, middle, "5 to 95 %", "quiet-mark", "bars", low, high),
        Mark(
            place,
            middle,
            "",
            "own",
            "dots",
            notes=[f"z{n}: median {m:.2f}" for n, m in zip(place, middle, strict=True)],
        ),
        Mark(place, quarter, "quartiles and median", "own", "dots"),
        Mark(place, rest, "", "own", "dots"),
    ]
    normal = [Level(sign * 1.645, f"{name} % of N(0, 1)") for sign, name in ((-1.0, "5"), (1.0, "95"))]
    picture = chart(
        marks,
        Axis("latent", ticks=tuple(place.tolist()), style="g"),
        Axis("posterior mean"),
        levels=normal,
        label="Spread of the posterior means of each latent",
    )
    return Section("Latents", picture, "Posterior means of test data. A latent of no spread would be of no use.")


def node_title(grid: Grid) -> str:
    """The quantity that the nodes of a grid are given in."""
    return {"sqrt_time": "k / sqrt(tenor)", "log_moneyness": "k = ln(K/F)", "delta": "call delta"}[grid.convention]


def axis_title(what: str, unit: Unit) -> str:
    """The title of an axis of errors."""
    return f"{what}, {unit.name}" if unit.name else what


def judged_by(figures: Mapping[str, float]) -> list[Card]:
    """The cards that surfaces and vectors share: bounds, intervals and samples, of those that were measured."""
    found = []
    if "interval_coverage_90" in figures:
        found.append(
            Card(f"{figures['interval_coverage_90']:.1%}", "of hidden points in their 90 % interval", "exact: 90 %")
        )
    anchors = [
        f"{title} {figures[name]:,.1f}"
        for name, title in (
            ("oracle_nats", "exact ceiling"),
            ("opponent_log_likelihood_nats", "best linear opponent"),
            ("independent_log_likelihood_nats", "each point alone"),
        )
        if name in figures
    ]
    found.append(Card(f"{figures['elbo_nats']:,.1f}", "ELBO, nats", "; ".join(anchors)))
    if "sample_boosting_accuracy" in figures:
        floor = f"two samples of data: {figures['floor_boosting_accuracy']:.1%}; chance: 50 %"
        found.append(
            Card(f"{figures['sample_boosting_accuracy']:.1%}", "of samples and data told apart by boosting", floor)
        )
    return [*found, Card(f"{figures['active_units']:.0f} of {figures['latents']:.0f}", "latents active")]


def completed_card(figures: Mapping[str, float], unit: Unit) -> list[Card]:
    """The card of completion from ten points, where it was measured beside linear opponents."""
    name = f"completion_hidden_mae{unit.suffix}_10"
    if f"opponent_{name}" not in figures:
        return []
    error, rival = f"{figures[name]:.3g} {unit.name}", f"{figures[f'opponent_{name}']:.3g} {unit.name}"
    opponent = opponent_table.best(figures, name)
    return [
        Card(error.rstrip(), "error at hidden points, from 10", f"best linear opponent, {opponent}: {rival.rstrip()}")
    ]


def _columns(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    return list(values), list(values.values())
