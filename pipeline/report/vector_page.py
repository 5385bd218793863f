"""The evaluation report of a model of vectors: one self-contained HTML page."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.report import blocks, opponent_table
from pipeline.report.blocks import Card, Section
from pipeline.report.charts import Axis, chart
from vae.surface.units import OWN

Array = NDArray[np.float64]


class VectorEvaluation(NamedTuple):
    """Measurements on test vectors.

    Attributes:
        figures: flat metrics.
        likelihood: of a point.
        vectors: number of test vectors.
        latents: posterior means, [vector, latent].
        error_by_point: root mean square errors of reconstruction, [D], by the name of their figure, as those of
            ``Evaluation`` by tenor.
    """

    figures: dict[str, float]
    likelihood: str
    vectors: int
    latents: Array
    error_by_point: Mapping[str, Array]


def vector_page(result: VectorEvaluation, curve: Mapping[str, list[float]]) -> str:
    """The page; the same arguments give the same text."""
    figures = result.figures
    sections = (
        *([blocks.completion(figures, OWN)] if blocks.numbered(figures, "completion_mae_") else []),
        *([blocks.coverage(figures)] if blocks.numbered(figures, "interval_coverage_90_") else []),
        _error_by_point(result),
        blocks.latents(result.latents),
        blocks.bounds(figures),
        blocks.training(curve, figures, "vector"),
    )
    binary = result.likelihood == "bernoulli"
    errors = "of probabilities" if binary else "in the units of the data"
    nats = "of the probability of a vector" if binary else "of the density in these units"
    points = len(result.error_by_point["reconstruction"])
    introduction = (
        f"{result.vectors:,} test vectors of {points:,} points with {result.likelihood} likelihood. "
        f"Errors are {errors}, nats {nats}."
    )
    tables = (
        f"{blocks.table('Completion beside linear models', opponent_table.table(figures, OWN.suffix))}"
        f"{blocks.table('Samples beside data', blocks.fidelity_rows(figures))}"
        f"{blocks.all_figures(figures)}"
    )
    return blocks.page("vectors", introduction, main_cards(figures), sections, tables)


def main_cards(figures: Mapping[str, float]) -> list[Card]:
    """The main figures, each above what it is measured by."""
    pca = f"PCA with as many: {figures['pca_reconstruction_rmse']:.4g}"
    return [
        *blocks.completed_card(figures, OWN),
        Card(
            f"{figures['reconstruction_rmse']:.4g}",
            "error of reconstructions",
            opponent_table.whole_beside_pca(figures, OWN, ".4g"),
        ),
        Card(f"{figures['latent_reconstruction_rmse']:.4g}", "by the latents alone", pca),
        *blocks.judged_by(figures),
    ]


def _error_by_point(result: VectorEvaluation) -> Section:
    points = np.arange(len(result.error_by_point["reconstruction"]))
    marks = blocks.reconstruction_marks(points, result.error_by_point, result.figures, "line")
    picture = chart(marks, Axis("point"), Axis("root mean square error"), label="Reconstruction error by point")
    return Section("Reconstruction by point", picture, "Given all points of a test vector.")
