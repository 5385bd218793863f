"""The stage evaluate: held-out bounds, reconstruction beside PCA, arbitrage; metrics, plots and one HTML page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import files, report, weights
from pipeline.atomic import check_writable, new_folder
from pipeline.params import EvaluateParams, Params
from pipeline.report import Evaluation
from vae import heston, metrics, oracle
from vae.grid import Grid
from vae.model import Vae
from vae.ppca import PrincipalComponents, principal_components

Array = NDArray[np.float64]

_ROWS = 1024  # surfaces differentiated at a time


def evaluate(
    model: Vae,
    components: PrincipalComponents,
    quoted: Tensor,
    truth: Tensor,
    grid: Grid,
    params: EvaluateParams,
    ceiling: Tensor | None = None,
) -> Evaluation:
    """Measure a model on test surfaces.

    Args:
        model: the trained one.
        components: of the training surfaces, for the baseline.
        quoted: what the model sees, [surface, D].
        truth: what it should say, [surface, D].
        grid: of the surfaces.
        params: settings.
        ceiling: the true log density of each quoted surface where it is known, [surface].
    """
    latents = model.architecture.latents
    generator = torch.Generator().manual_seed(params.seed)
    prior = torch.randn(params.prior_samples, latents, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        posterior_mean = model.encode(model.coordinates(quoted).values).mean
        samples = model.expand(model.decode(prior))
        reconstruction = model.expand(model.decode(posterior_mean))
    pca = components.reconstruct(quoted, latents)
    surfaces = {
        "data": _surfaces(truth, grid),
        "reconstruction": _surfaces(reconstruction, grid),
        "sample": _surfaces(samples, grid),
    }
    figures = {
        **metrics.likelihood_metrics(
            model, quoted, samples=params.importance_samples, seed=params.seed, ceiling=ceiling
        ),
        **metrics.latent_metrics(posterior_mean),
        **metrics.error_metrics("reconstruction", reconstruction, truth),
        **metrics.error_metrics("pca_reconstruction", pca, truth),
        **metrics.pca_likelihood_metrics(components, quoted, latents=latents),
    }
    for name, iv in surfaces.items():
        figures |= metrics.arbitrage_metrics(name, iv, grid, tolerance=params.arbitrage_tolerance)
    return Evaluation(
        figures=figures,
        truth=surfaces["data"],
        reconstruction=surfaces["reconstruction"],
        samples=surfaces["sample"],
        latents=posterior_mean.numpy(),
        error_by_point=metrics.rmse_bp(surfaces["reconstruction"], surfaces["data"], axes=(0,)),
        error_by_tenor=metrics.rmse_bp(surfaces["reconstruction"], surfaces["data"], axes=(0, 2)),
        pca_error_by_tenor=metrics.rmse_bp(_surfaces(pca, grid), surfaces["data"], axes=(0, 2)),
    )


def main(params: Params, *, surfaces: Path, model: Path, curve: Path, metrics: Path, plots: Path, page: Path) -> None:
    """Write ``metrics``, the tables of the folder ``plots`` and the report ``page``."""
    for path in (metrics, page):
        check_writable(path)
    grid = files.read_grid(surfaces)
    trained = weights.read_model(model)
    test = files.read_split(surfaces, "test")
    known = "clean" if "clean" in test else "iv"  # quotes are all there is of the truth
    components = principal_components(files.read_points(surfaces, "train"))
    quoted, truth = (files.read_points(surfaces, "test", name).double() for name in ("iv", known))
    with new_folder(plots) as folder:
        ceiling = _ceiling(test, grid, files.read_law(surfaces))
        result = evaluate(trained, components, quoted, truth, grid, params.evaluate, ceiling)
        files.write_csv(folder / "error_by_tenor.csv", *_error_by_tenor(result, grid))
        files.write_csv(folder / "error_by_node.csv", *_error_by_node(result, grid))
        content = report.page(result, grid, report.read_curve(curve))
        files.write_bytes(page, content.encode())
        files.write_json(metrics, result.figures)


def _ceiling(test: dict[str, Tensor], grid: Grid, law: files.Law | None) -> Tensor | None:
    """The true log density of each quoted test surface, [surface].

    None where the law is not known or has no noise, so that no density is finite, or strikes move with the parameters.
    """
    if law is None or law.quote_noise_vol == 0.0 or grid.convention == "delta":
        return None
    noise = (test["iv"].double() - test["clean"].double()).flatten(1)
    parts = zip(test["parameters"].split(_ROWS), noise.split(_ROWS), strict=True)
    return torch.cat(
        [
            oracle.log_likelihood(
                heston.jacobian(parameters, grid).flatten(1, 2),
                added,
                scale=law.quote_noise_vol,
                log_volume=law.log_volume,
            )
            for parameters, added in parts
        ]
    )


def _surfaces(points: Tensor, grid: Grid) -> Array:
    """Surfaces [batch, tenor, node] from points [batch, D]."""
    surfaces: Array = points.unflatten(-1, grid.shape).numpy()
    return surfaces


Table = tuple[tuple[str, ...], Sequence[tuple[float, ...]]]


def _error_by_tenor(result: Evaluation, grid: Grid) -> Table:
    """Error of each tenor for the model and for PCA."""
    columns = (grid.tenors.tolist(), result.error_by_tenor.tolist(), result.pca_error_by_tenor.tolist())
    header = ("tenor_years", "reconstruction_rmse_bp", "pca_reconstruction_rmse_bp")
    return header, list(zip(*columns, strict=True))


def _error_by_node(result: Evaluation, grid: Grid) -> Table:
    """Error of each point of the grid, one row a point."""
    rows = [
        (tenor, node, result.error_by_point[i, j].item())
        for i, tenor in enumerate(grid.tenors.tolist())
        for j, node in enumerate(grid.nodes.tolist())
    ]
    return ("tenor_years", "node", "reconstruction_rmse_bp"), rows
