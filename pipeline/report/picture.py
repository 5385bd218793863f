"""The plots of a run as one PNG, for services that cannot show an HTML page."""

import io
from pathlib import Path
from typing import NamedTuple

from pipeline.files.csv_tables import csv_columns


class _Panel(NamedTuple):
    """One plot: columns ``y`` of the table at ``path`` against its column ``x``; the units of the data have no name."""

    path: str
    x: str
    y: tuple[str, ...]
    title: str


_SURFACES = (
    _Panel("training.csv", "epoch", ("validation_elbo_nats",), "validation ELBO, nats"),
    _Panel(
        "evaluate/error_by_tenor.csv",
        "tenor_years",
        ("latent_reconstruction_rmse_bp", "pca_reconstruction_rmse_bp"),
        "reconstruction error by the latents, bp",
    ),
    _Panel(
        "evaluate/completion.csv",
        "known_points",
        ("completion_mae_bp", "opponent_completion_mae_bp"),
        "completion error, bp",
    ),
)
_VECTORS = (
    _SURFACES[0],
    _Panel(
        "evaluate/error_by_point.csv",
        "point",
        ("latent_reconstruction_rmse", "pca_reconstruction_rmse"),
        "reconstruction error by the latents",
    ),
    _Panel(
        "evaluate/vector_completion.csv",
        "known_points",
        ("completion_mae", "pca_completion_mae", "opponent_completion_mae"),
        "completion error",
    ),
)


def picture(results: Path) -> bytes:
    """A PNG with one plot for each table in ``results/plots``; that of a missing table is empty."""
    import matplotlib as mpl  # noqa: PLC0415  takes half a second of each start of the flow, which may draw nothing
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.use("agg")
    of_vectors = (results / "plots" / _VECTORS[1].path).exists()
    panels = _VECTORS if of_vectors else _SURFACES
    drawn = Figure(figsize=(12.0, 3.4), layout="constrained")
    for axes, panel in zip(drawn.subplots(1, len(panels)), panels, strict=True):
        path = results / "plots" / panel.path
        columns = csv_columns(path.read_text()) if path.exists() else {}
        for name in panel.y:
            axes.plot(columns.get(panel.x, []), columns.get(name, []), label=name)
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel(panel.x)
        if len(panel.y) > 1:
            axes.set_yscale("log")
            axes.legend(fontsize=7)
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=80)
    return content.getvalue()
