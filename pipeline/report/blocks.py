"""Parts of the reports of surfaces and of vectors: the frame of the page, tables and figures."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from pipeline.files.csv_tables import csv_columns
from pipeline.files.formats import read_bytes
from pipeline.report.style import STYLE
from vae.surface.units import Unit

Array = NDArray[np.float64]
Headline = tuple[str, str, str]  # a figure, its label and the format of its number

_COMPARED = {
    "sample": "samples and data",
    "standard_normal_sample": "samples of N(0, I) and data",
    "floor": "two samples of data",
    "drift": "training and test period",
    "sample_to_test": "samples and test period",
}
BLUE, ORANGE, GREY = "#2563a8", "#d97706", "#9aa3ad"


def page(subject: str, introduction: str, cards: str, sections: Iterable[tuple[go.Figure, str]], tables: str) -> str:
    """A self-contained page; the same arguments give the same text.

    Args:
        subject: of the evaluation, for the title.
        introduction: one paragraph.
        cards: of the main figures.
        sections: figures with their captions.
        tables: headings and tables below the figures.
    """
    blocks = "".join(
        f"<figure>{_div(figure, f'figure{n}')}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for n, (figure, caption) in enumerate(sections)
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>volvae: evaluation</title><style>{STYLE}</style><script>{get_plotlyjs()}</script>"
        f'<header><h1>volvae</h1><p class="quiet">evaluation on held-out {subject}</p></header>'
        f"<p>{introduction}</p>"
        f'<div class="cards">{cards}</div><div class="pair">{blocks}</div>{tables}</html>\n'
    )


def read_curve(path: Path) -> dict[str, list[float]]:
    """Columns of the training curve."""
    return csv_columns(read_bytes(path).decode())


def cards(figures: Mapping[str, float], headlines: Iterable[Headline]) -> str:
    """The main figures, of those that there are."""
    return "".join(
        f"<div><b>{figures[key]:{style}}</b><span>{html.escape(label)}</span></div>"
        for key, label, style in headlines
        if key in figures
    )


def rows(figures: Mapping[str, float]) -> str:
    """The rows of a table of all figures."""
    return cells((name, f"{value:,.6g}") for name, value in figures.items())


def fidelity_rows(figures: Mapping[str, float]) -> str:
    """Distances and classifiers, with standard errors: of samples, and of two samples of data, which are the floor."""
    kinds = {
        "energy_distance": ("energy distance", ".2e"),
        "boosting_accuracy": ("boosting is right", ".2%"),
        "network_accuracy": ("a network is right", ".2%"),
    }
    table: list[tuple[str, ...]] = [("", *(title for title, _ in kinds.values()))]
    for name, title in _COMPARED.items():
        if f"{name}_energy_distance" in figures:
            found = (
                f"{figures[f'{name}_{kind}']:{style}} ± {figures[f'{name}_{kind}_se']:{style}}"
                for kind, (_, style) in kinds.items()
            )
            table.append((title, *found))
    return cells(table)


def tail_rows(figures: Mapping[str, float]) -> str:
    """Tail quantiles of samples less those of data, and how often two features are in a tail; empty without any."""
    if "tail_level" not in figures:
        return ""
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
    return cells(rows)


def cells(table: Iterable[Iterable[str]]) -> str:
    """The rows of a table."""
    return "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table)


def numbered(figures: Mapping[str, float], prefix: str, suffix: str = "") -> dict[int, float]:
    """Figures whose names carry a number, by that number."""
    found = {
        key.removeprefix(prefix).removesuffix(suffix): value
        for key, value in figures.items()
        if key.startswith(prefix) and key.endswith(suffix)
    }
    return {int(number): value for number, value in found.items() if number.isdigit()}


def completion(figures: Mapping[str, float], unit: Unit) -> go.Figure:
    """Mean absolute error of completion by the number of known points, for the model and PCA."""
    figure = go.Figure()
    for prefix, name, color in (
        (f"completion_mae{unit.suffix}_", "volvae", BLUE),
        (f"pca_completion_mae{unit.suffix}_", "PCA", ORANGE),
    ):
        errors = numbered(figures, prefix)
        figure.add_scatter(
            x=list(errors), y=list(errors.values()), name=name, mode="lines+markers", line={"color": color}
        )
    return figure.update_layout(
        xaxis_title="known points", yaxis_title=axis_title("MAE", unit), xaxis_type="log", yaxis_type="log"
    )


def bounds(figures: Mapping[str, float]) -> go.Figure:
    """The importance-weighted bound by its number of draws."""
    figure = go.Figure()
    found = numbered(figures, "iwae_", "_nats")
    figure.add_scatter(x=list(found), y=list(found.values()), name="bound", mode="lines+markers", line={"color": BLUE})
    if "oracle_nats" in figures:
        figure.add_hline(
            y=figures["oracle_nats"], line={"color": GREY, "dash": "dot"}, annotation_text="exact log-likelihood"
        )
    return figure.update_layout(xaxis_title="draws", yaxis_title="nats", xaxis_type="log")


def training(curve: Mapping[str, list[float]]) -> go.Figure:
    """Objective and validation ELBO by epoch."""
    figure = go.Figure()
    for key, name, color in (
        ("train_objective_nats", "training", GREY),
        ("validation_elbo_nats", "validation", BLUE),
    ):
        figure.add_scatter(x=curve["epoch"], y=curve[key], name=name, line={"color": color})
    return figure.update_layout(xaxis_title="epoch", yaxis_title="ELBO, nats")


def latents(means: Array) -> go.Figure:
    """The distribution of the posterior means of each latent, [observation, latent]."""
    figure = go.Figure()
    for n, values in enumerate(means.T):
        figure.add_violin(y=values, name=f"z{n + 1}", line_color=BLUE, points=False, showlegend=False)
    for level in (-2.0, 0.0, 2.0):
        figure.add_hline(y=level, line={"color": GREY, "dash": "dot"})
    return figure.update_layout(yaxis_title="posterior mean")


def axis_title(what: str, unit: Unit) -> str:
    """The title of an axis of errors."""
    return f"{what}, {unit.name}" if unit.name else what


def _div(figure: go.Figure, name: str) -> str:
    figure.update_layout(template="plotly_white", height=420, margin={"l": 60, "r": 20, "t": 40, "b": 50})
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"})
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displayModeBar": False, "responsive": True},
    )
    return text
