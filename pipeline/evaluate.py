"""The stage evaluate: held-out bounds, reconstruction beside PCA, arbitrage; metrics, plots and one HTML page."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.conditions import read_conditions
from pipeline.files import formats, trained_model
from pipeline.files.atomic import check_writable, new_folder, write_csv
from pipeline.files.trained_model import Prior
from pipeline.report.page import Evaluation, read_curve, report_page
from pipeline.settings.params import EvaluateParams, Params
from vae.evaluation import exact_likelihood, metrics
from vae.model.autoencoder import Vae
from vae.model.linear import PrincipalComponents, filled, principal_components
from vae.model.mixture import bounded
from vae.pricing import heston
from vae.surface.grid import Grid
from vae.surface.units import rmse_bp

Array = NDArray[np.float64]

_ROWS = 1024  # surfaces differentiated at a time
_FEWEST_COMPARED = 50  # complete surfaces, below which samples are not compared with them


class Asked(NamedTuple):
    """What samples are asked for, and how surfaces are read to see what they have.

    Attributes:
        values: conditions of the test surfaces, [surface, condition]; NaN where unknown.
        weights, constant: a surface [D] has the conditions constant + weights @ surface, [condition, D], [condition].
    """

    values: Tensor
    weights: Tensor
    constant: Tensor

    def read(self, x: Tensor) -> Tensor:
        """What surfaces x [batch, D] have, [batch, condition]."""
        return x @ self.weights.T + self.constant


def evaluate(
    model: Vae,
    prior: Prior,
    components: PrincipalComponents,
    train: Tensor,
    quoted: Tensor,
    truth: Tensor,
    grid: Grid,
    params: EvaluateParams,
    ceiling: Tensor | None = None,
    asked: Asked | None = None,
) -> Evaluation:
    """Measure a model on test surfaces.

    Args:
        model: the trained one.
        prior: of conditions and its latents.
        components: of the training surfaces, for the baseline.
        train: training surfaces like ``truth``, in random order: what samples can resemble at best, [surface, D].
        quoted: what the model sees, [surface, D]; NaN where missing.
        truth: what it should say, [surface, D].
        grid: of the surfaces.
        params: settings.
        ceiling: the true log density of each quoted surface where it is known, [surface].
        asked: the conditions of the prior, where it has any.
    """
    latents, shipped = model.architecture.latents, prior.latents
    with torch.no_grad():
        seen = model.observe(quoted)
        posterior_mean = model.encode(seen.values, seen.missing).mean
        uniform, normal = _random(params.prior_samples, latents, seed=params.seed)
        samples = _decoded(model, shipped.sample(uniform, bounded(normal)))
        unbounded, standard = _decoded(model, shipped.sample(uniform, normal)), _decoded(model, normal)
        reconstruction = model.expand(model.decode(posterior_mean))
    pca = components.complete(quoted, latents) if quoted.isnan().any() else components.reconstruct(quoted, latents)
    surfaces = {
        "data": _surfaces(truth, grid),
        "reconstruction": _surfaces(reconstruction, grid),
        "sample": _surfaces(samples, grid),
        "unbounded_sample": _surfaces(unbounded, grid),
        "standard_normal_sample": _surfaces(standard, grid),
    }
    figures = {
        **metrics.likelihood_metrics(
            model, quoted, samples=params.importance_samples, seed=params.seed, prior=shipped, exact=ceiling
        ),
        **metrics.latent_metrics(posterior_mean),
        **metrics.error_metrics("reconstruction", reconstruction, truth),
        **metrics.error_metrics("pca_reconstruction", pca, truth),
        **metrics.pca_likelihood_metrics(components, quoted, latents=latents),
        **metrics.completion_metrics(
            model, components, quoted[: params.completion_surfaces], known=params.completion_points, seed=params.seed
        ),
        **_fidelity(model, components, samples, standard, truth, train, params),
        **(_conditions(model, prior, reconstruction, asked, seed=params.seed) if asked else {}),
        "sample_non_positive_rate": (samples <= 0.0).any(1).double().mean().item(),
    }
    for name, iv in surfaces.items():
        figures |= metrics.arbitrage_metrics(name, iv, grid, tolerance=params.arbitrage_tolerance)
    return Evaluation(
        figures=figures,
        truth=surfaces["data"],
        reconstruction=surfaces["reconstruction"],
        samples=surfaces["sample"],
        latents=posterior_mean.numpy(),
        error_by_point=rmse_bp(surfaces["reconstruction"], surfaces["data"], axes=(0,)),
        error_by_tenor=rmse_bp(surfaces["reconstruction"], surfaces["data"], axes=(0, 2)),
        pca_error_by_tenor=rmse_bp(_surfaces(pca, grid), surfaces["data"], axes=(0, 2)),
    )


def _random(count: int, latents: int, *, seed: int) -> tuple[Array, Array]:
    """Uniform [sample] and standard normal [sample, latent] numbers."""
    generator = np.random.default_rng(seed)
    return generator.random(count), generator.standard_normal((count, latents))


def _decoded(model: Vae, z: Array) -> Tensor:
    """Decoder means at latents, [sample, D]."""
    return model.expand(model.decode(torch.from_numpy(z)))


def _conditions(model: Vae, prior: Prior, reconstruction: Tensor, asked: Asked, *, seed: int) -> dict[str, float]:
    """How far samples miss the conditions of test surfaces, beside how far reconstructions do, and their spread."""
    known = ~asked.values.isnan().any(1)
    if not known.any():
        return {}
    wanted = asked.values[known]
    uniform, normal = _random(len(wanted), model.architecture.latents, seed=seed)
    with torch.no_grad():
        samples = _decoded(model, prior.joint.sample_given(wanted.numpy(), uniform, bounded(normal)))
    columns = {
        "rmse": (asked.read(samples) - wanted).square().mean(0).sqrt(),
        "floor": (asked.read(reconstruction[known]) - wanted).square().mean(0).sqrt(),
        "spread": wanted.std(0, correction=0),
    }
    return {
        f"condition_{name}_{kind}": values[place].item()
        for place, name in enumerate(prior.conditions)
        for kind, values in columns.items()
    }


def _fidelity(
    model: Vae,
    components: PrincipalComponents,
    samples: Tensor,
    standard: Tensor,
    truth: Tensor,
    train: Tensor,
    params: EvaluateParams,
) -> dict[str, float]:
    """Samples beside training surfaces, both against the complete test surfaces; nothing where there are too few.

    A classifier looks along the principal directions in which surfaces vary by more than the noise.
    """
    truth, train = (rows[~rows.isnan().any(1)] for rows in (truth, train))
    if min(len(truth), len(train)) < _FEWEST_COMPARED:
        return {}
    varied = int((components.variances > 2.0 * model.noise.square().mean()).sum())
    directions = components.vectors[:, : max(varied, 1)]
    drawn = {"sample": samples, "standard_normal_sample": standard}
    return metrics.fidelity_metrics(drawn, truth, train, directions, seed=params.seed)


def main(params: Params, *, surfaces: Path, model: Path, curve: Path, metrics: Path, plots: Path, page: Path) -> None:
    """Write ``metrics``, the tables of the folder ``plots`` and the report ``page``."""
    for path in (metrics, page):
        check_writable(path)
    grid = formats.read_grid(surfaces)
    trained = trained_model.read_model(model)
    prior = trained_model.read_prior(model, latents=trained.architecture.latents)
    test = formats.read_split(surfaces, "test")
    known = "clean" if "clean" in test else "iv"  # quotes are all there is of the truth
    quoted, truth = (formats.read_points(surfaces, "test", name).double() for name in ("iv", known))
    latents = trained.architecture.latents
    fitted = filled(formats.read_points(surfaces, "train"), latents)
    components = principal_components(fitted)
    asked = _asked(prior.conditions, surfaces, truth, fitted, components, latents)
    with new_folder(plots) as folder:
        densities = true_log_density(test, grid, formats.read_law(surfaces))
        train = _some(
            formats.read_points(surfaces, "train", known), params.evaluate.prior_samples, seed=params.evaluate.seed
        )
        result = evaluate(trained, prior, components, train, quoted, truth, grid, params.evaluate, densities, asked)
        write_csv(folder / "error_by_tenor.csv", *_error_by_tenor(result, grid))
        write_csv(folder / "error_by_node.csv", *_error_by_node(result, grid))
        write_csv(folder / "completion.csv", *_completion(result, params.evaluate))
        content = report_page(result, grid, read_curve(curve))
        formats.write_bytes(page, content.encode())
        formats.write_json(metrics, result.figures)


def _asked(
    names: tuple[str, ...], surfaces: Path, truth: Tensor, fitted: Tensor, components: PrincipalComponents, latents: int
) -> Asked | None:
    """The conditions of the test surfaces ``truth``, None where the prior has none.

    Numbers that came with the dates are read off a surface by least squares on the scores of the training surfaces
    ``fitted`` along the first principal components.
    """
    if not names:
        return None
    train, test = (read_conditions(names, surfaces, split) for split in ("train", "test"))
    weights, constant = (
        torch.zeros(len(names), truth.shape[1], dtype=truth.dtype),
        torch.zeros(len(names)).double(),
    )
    vectors = components.vectors[:, :latents]
    for place, name in enumerate(names):
        if name in train.functionals:
            weights[place] = train.functionals[name]
            continue
        known = train.numbers[name].isfinite()
        scores = (fitted[known].double() - components.mean) @ vectors
        constant[place], slope = _regression(scores, train.numbers[name][known])
        weights[place] = vectors @ slope
        constant[place] -= components.mean @ weights[place]
    return Asked(test.of(truth), weights, constant)


def _regression(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Constant and slope [d] of the least squares of y [n] on x [n, d]."""
    design = torch.cat([torch.ones(len(x), 1).to(x), x], dim=1)
    constant, slope = torch.linalg.lstsq(design, y.unsqueeze(1), driver="gelsd").solution[:, 0].split([1, x.shape[1]])
    return constant[0], slope


def _some(rows: Tensor, count: int, *, seed: int) -> Tensor:
    """As many random rows, in double precision."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return rows[order[:count]].double()


def true_log_density(test: dict[str, Tensor], grid: Grid, law: formats.Law | None) -> Tensor | None:
    """The true log density of each quoted test surface, [surface].

    None where the law is not known or has no noise, so that no density is finite, where strikes move with the
    parameters or where points are missing.
    """
    if law is None or law.quote_noise_vol == 0.0 or grid.convention == "delta" or test["iv"].isnan().any():
        return None
    noise = (test["iv"].double() - test["clean"].double()).flatten(1)
    parts = zip(test["parameters"].split(_ROWS), noise.split(_ROWS), strict=True)
    return torch.cat(
        [
            exact_likelihood.log_likelihood(
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


def _completion(result: Evaluation, params: EvaluateParams) -> Table:
    """Completion from each number of points, for the model and for PCA."""
    figures = result.figures
    rows = [
        (
            count,
            figures[f"completion_mae_bp_{count}"],
            figures[f"pca_completion_mae_bp_{count}"],
            figures.get(f"interval_coverage_90_{count}", math.nan),
        )
        for count in params.completion_points
        if f"completion_mae_bp_{count}" in figures
    ]
    return ("known_points", "completion_mae_bp", "pca_completion_mae_bp", "interval_coverage_90"), rows


def _error_by_node(result: Evaluation, grid: Grid) -> Table:
    """Error of each point of the grid, one row a point."""
    rows = [
        (tenor, node, result.error_by_point[i, j].item())
        for i, tenor in enumerate(grid.tenors.tolist())
        for j, node in enumerate(grid.nodes.tolist())
    ]
    return ("tenor_years", "node", "reconstruction_rmse_bp"), rows
