"""The evaluation report of a model of vectors: one self-contained HTML page."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pipeline.report import blocks, opponent_table
from pipeline.report.blocks import BLUE, ORANGE
from vae.surface.units import OWN

Array = NDArray[np.float64]

_HEADLINES = (
    ("reconstruction_rmse", "reconstruction error", ".4g"),
    ("latent_reconstruction_rmse", "by the latents alone", ".4g"),
    ("pca_reconstruction_rmse", "PCA, as many latents", ".4g"),
    ("elbo_nats", "ELBO, nats", ",.1f"),
    ("iwae_nats", "importance-weighted bound, nats", ",.1f"),
    ("pca_log_likelihood_nats", "pPCA, nats", ",.1f"),
    ("independent_log_likelihood_nats", "each point alone, nats", ",.1f"),
    ("active_units", "active latents", "d"),
)


class VectorEvaluation(NamedTuple):
    """Measurements on test vectors.

    Attributes:
        figures: flat metrics.
        likelihood: of a point.
        vectors: number of test vectors.
        latents: posterior means, [vector, latent].
        error_by_point, pca_error_by_point: root mean square errors of reconstruction, [D].
    """

    figures: dict[str, float]
    likelihood: str
    vectors: int
    latents: Array
    error_by_point: Array
    pca_error_by_point: Array


def vector_page(result: VectorEvaluation, curve: Mapping[str, list[float]]) -> str:
    """The page; the same arguments give the same text."""
    sections = (
        (_error_by_point(result), "Reconstruction error by point beside PCA with as many latents."),
        (
            blocks.completion(result.figures, OWN),
            "Completion from a few random points: mean absolute error over all points.",
        ),
        (
            blocks.bounds(result.figures),
            "Bounds on the log-likelihood; the importance-weighted one by its number of draws.",
        ),
        (blocks.training(curve), "Training: objective and validation ELBO of a vector."),
        (
            blocks.latents(result.latents),
            "Posterior means of the test vectors; the model is trained with the prior N(0, 1).",
        ),
    )
    binary = result.likelihood == "bernoulli"
    errors = "of probabilities" if binary else "in the units of the data"
    nats = "of the probability of a vector" if binary else "of the density in these units"
    introduction = (
        f"{result.vectors:,} test vectors of {len(result.error_by_point):,} points with {result.likelihood} "
        f"likelihood. Errors are {errors}, nats {nats}."
    )
    linear = opponent_table.table(result.figures, OWN.suffix)
    tables = (
        f"<h2>Completion beside linear models</h2><table>{blocks.cells(linear)}</table>"
        f"<h2>Samples beside data</h2><table>{blocks.fidelity_rows(result.figures)}</table>"
        f"<h2>All figures</h2><table>{blocks.rows(result.figures)}</table>"
    )
    return blocks.page("vectors", introduction, blocks.cards(result.figures, _HEADLINES), sections, tables)


def _error_by_point(result: VectorEvaluation) -> go.Figure:
    figure = go.Figure()
    for name, error, color in (
        ("volvae", result.error_by_point, BLUE),
        ("PCA", result.pca_error_by_point, ORANGE),
    ):
        figure.add_scatter(y=error, name=name, mode="lines", line={"color": color})
    return figure.update_layout(xaxis_title="point", yaxis_title="RMSE")
