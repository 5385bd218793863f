"""The stage evaluate: held-out bounds, errors beside linear models, arbitrage; metrics, plots and one HTML page."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import evaluate_tables
from pipeline.conditions import TargetConditions, target_conditions
from pipeline.evaluate_opponents import fitted_opponents
from pipeline.evaluate_samples import sample_figures
from pipeline.evaluate_scenarios import scenario_figures
from pipeline.evaluate_vectors import evaluate_vectors, write_tables
from pipeline.files import formats, motion_file, trained_model
from pipeline.files.atomic import check_writable, new_folder
from pipeline.files.dataset import Dataset
from pipeline.files.trained_model import TrainedModel
from pipeline.headlines import headlines as main_figures
from pipeline.market_figures import name_of
from pipeline.report.blocks import read_curve
from pipeline.report.page import Evaluation, report_page
from pipeline.report.vector_page import vector_page
from pipeline.settings.evaluate import EvaluateParams
from vae.evaluation import exact_likelihood, metrics
from vae.evaluation.observations import observed, smooth
from vae.evaluation.opponents import (
    Opponent,
    opponent_completion_metrics,
    opponent_error_ratio,
    opponent_likelihood_metrics,
)
from vae.evaluation.reconstruction import Reconstruction, by_components, numbers_of, reconstruct
from vae.model.autoencoder import Vae
from vae.model.laplace import LatentPrior
from vae.model.linear import PrincipalComponents, filled, principal_components
from vae.pricing import heston_jacobian
from vae.pricing.simulated_models import MODELS
from vae.surface.grid import Grid
from vae.surface.units import rmse_bp

Array = NDArray[np.float64]

_ROWS = 1024  # surfaces differentiated at a time
_OF_A_MARKET = (  # beginnings of the figures that are given for each market too
    "test_surfaces",
    "elbo_nats",
    "reconstruction_rmse_bp",
    "latent_reconstruction_rmse_bp",
    "pca_reconstruction_rmse_bp",
    "completion_mae_bp",
    "pca_completion_mae_bp",
    "completion_hidden_mae_bp",
    "opponent_",
    "interval_coverage_90",
    "data_arbitrage_free_rate",
)


class Reconstructed(NamedTuple):
    """Test surfaces beside what the model and PCA make of them; surfaces are [surface, D].

    Attributes:
        quoted: vols with noise, NaN where missing.
        truth: vols without noise where these are known, else ``quoted``.
        own: by the model.
        pca: by PCA with as many numbers as latents.
        whole_pca: by PCA with as many numbers as latents and residual factors.
    """

    quoted: Tensor
    truth: Tensor
    own: Reconstruction
    pca: Tensor
    whole_pca: Tensor


class Baselines(NamedTuple):
    """Linear models that a model is compared with.

    Attributes:
        components: PCA of the training surfaces.
        opponents: the strongest, of which the best counts for each figure.
    """

    components: PrincipalComponents
    opponents: tuple[Opponent, ...]


def evaluate(trained: TrainedModel, data: Dataset, settings: EvaluateParams) -> Evaluation:
    """Measure a model on the test split, beside PCA of the training split.

    Raises:
        InputError: the data cannot be read.
    """
    (model, prior), grid = trained, data.grid
    latents, shipped = model.architecture.latents, prior.latents
    quoted, truth = (torch.from_numpy(x).double() for x in (data.points("test"), data.truth("test")))
    fitted = filled(torch.from_numpy(data.points("train")), latents)  # in its file where no point is missing
    components = principal_components(fitted)
    opponents = fitted_opponents(data, (prior.half_life_days, settings.opponent_half_life_days))
    baselines = Baselines(components, opponents[None])
    targets = target_conditions(prior.conditions, data, truth, fitted, components, latents)
    held = reconstructed(model, components, quoted, truth)
    with torch.no_grad():
        uniform, normal = _random(settings.prior_samples, latents, seed=settings.seed)
        codes = shipped.sample(uniform, normal)
        samples, standard = (smooth(model, torch.from_numpy(z), seed=settings.seed) for z in (codes, normal))
    surfaces = {
        "reconstruction": _surfaces(held.own.whole, grid),
        "sample": _surfaces(samples, grid),
        "standard_normal_sample": _surfaces(standard, grid),
    }
    figures = {
        **held_out_figures(trained, baselines, held, grid, settings, exact=true_log_density(data)),
        **metrics.latent_metrics(held.own.latents),
        "reconstruction_numbers": numbers_of(model),
        **sample_figures(
            data,
            {
                name: observed(model, torch.from_numpy(z), seed=settings.seed)
                for name, z in (("sample", codes), ("standard_normal_sample", normal))
            },
            {"sample": samples, "reconstruction": held.own.whole},
            _varied_directions(model, components),
            settings,
        ),
        **(_conditions(trained, held.own.whole, targets, seed=settings.seed) if targets else {}),
        "sample_non_positive_rate": (samples <= 0.0).any(1).double().mean().item(),
    }
    for name, iv in surfaces.items():
        figures |= metrics.arbitrage_metrics(name, iv, grid, tolerance=settings.arbitrage_tolerance)
    for market, chosen in _by_market(data).items():
        given = prior.in_market(market) if market in prior.markets else None
        fitted_to_it = tuple(one._replace(name=f"market_{one.name}") for one in opponents[market])
        rivals = baselines._replace(opponents=opponents[None] + fitted_to_it)
        own = reconstructed(model, components, quoted[chosen], truth[chosen])
        found = held_out_figures(trained, rivals, own, grid, settings, given=given)
        figures |= {name_of(name, market): value for name, value in found.items() if name.startswith(_OF_A_MARKET)}
    shown = _surfaces(truth, grid)
    return Evaluation(
        figures=figures,
        markets=data.markets,
        prepared=data.report,
        truth=shown,
        reconstruction=surfaces["reconstruction"],
        samples=surfaces["sample"],
        latents=held.own.latents.numpy(),
        error_by_point=rmse_bp(surfaces["reconstruction"], shown, axes=(0,)),
        error_by_tenor={
            name: rmse_bp(_surfaces(found, grid), shown, axes=(0, 2))
            for name, found in (
                ("latent_reconstruction", held.own.by_latents),
                ("pca_reconstruction", held.pca),
                ("reconstruction", held.own.whole),
                ("whole_pca_reconstruction", held.whole_pca),
            )
        },
        noise_bp=data.noise_bp,
    )


def reconstructed(model: Vae, components: PrincipalComponents, quoted: Tensor, truth: Tensor) -> Reconstructed:
    """Test surfaces quoted and truth [surface, D] with their reconstructions."""
    pca, whole_pca = (
        by_components(components, quoted, numbers) for numbers in (model.architecture.latents, numbers_of(model))
    )
    return Reconstructed(quoted, truth, reconstruct(model, quoted), pca, whole_pca)


def held_out_figures(
    trained: TrainedModel,
    baselines: Baselines,
    held: Reconstructed,
    grid: Grid,
    settings: EvaluateParams,
    *,
    exact: Tensor | None = None,
    given: LatentPrior | None = None,
) -> dict[str, float]:
    """Bounds, reconstruction and completion of test surfaces, beside linear models, and their own arbitrage.

    Args:
        trained: the model and its prior.
        baselines: what the model is compared with.
        held: the test surfaces, or those of one market.
        grid: of the surfaces.
        settings: of the stage.
        exact: exact log density of each surface, [surface]; None where it is not known.
        given: the latents' distribution in the market, where surfaces are completed given it.
    """
    (model, prior), latents = trained, trained.model.architecture.latents
    completed = held.quoted[: settings.completion_surfaces]
    completion = {
        **metrics.completion_metrics(
            model,
            baselines.components,
            completed,
            known=settings.completion_points,
            seed=settings.seed,
            prior=given,
        ),
        **opponent_completion_metrics(
            baselines.opponents, completed, known=settings.completion_points, seed=settings.seed
        ),
    }
    return {
        "test_surfaces": len(held.quoted),
        **metrics.likelihood_metrics(
            model,
            held.quoted,
            samples=settings.importance_samples,
            seed=settings.seed,
            prior=prior.latents,
            exact=exact,
        ),
        **metrics.error_metrics("reconstruction", held.own.whole, held.truth),
        **metrics.error_metrics("latent_reconstruction", held.own.by_latents, held.truth),
        **metrics.error_metrics("pca_reconstruction", held.pca, held.truth),
        **metrics.error_metrics("whole_pca_reconstruction", held.whole_pca, held.truth),
        **metrics.pca_likelihood_metrics(baselines.components, held.quoted, latents=latents),
        **completion,
        **opponent_error_ratio(completion),
        **opponent_likelihood_metrics(baselines.opponents, held.quoted),
        **metrics.arbitrage_metrics("data", _surfaces(held.truth, grid), grid, tolerance=settings.arbitrage_tolerance),
    }


def _by_market(data: Dataset) -> dict[str, Tensor]:
    """Which test surfaces are of each market, [surface], for the markets that have some; none without markets."""
    market = data.market("test")
    masks = (
        {} if market is None else {name: torch.from_numpy(market == place) for place, name in enumerate(data.markets)}
    )
    return {name: mask for name, mask in masks.items() if mask.any()}


def _random(count: int, latents: int, *, seed: int) -> tuple[Array, Array]:
    """Uniform [sample] and standard normal [sample, latent] numbers."""
    generator = np.random.default_rng(seed)
    return generator.random(count), generator.standard_normal((count, latents))


def _varied_directions(model: Vae, components: PrincipalComponents) -> Tensor:
    """The principal directions in which surfaces vary by more than the noise that no two points share, [D, F]."""
    varied = int((components.variances > 2.0 * model.independent_noise.square().mean()).sum())
    return components.vectors[:, : max(varied, 1)]


def _conditions(
    trained: TrainedModel, reconstruction: Tensor, targets: TargetConditions, *, seed: int
) -> dict[str, float]:
    """RMSE of the conditions of samples, and of reconstructions (the floor), from those of test surfaces."""
    known = ~targets.values.isnan().any(1)
    if not known.any():
        return {}
    (model, prior), wanted = trained, targets.values[known]
    uniform, normal = _random(len(wanted), model.architecture.latents, seed=seed)
    with torch.no_grad():
        codes = prior.joint.sample_given(wanted.numpy(), uniform, normal)
        samples = smooth(model, torch.from_numpy(codes), seed=seed)
    columns = {
        "rmse": (targets.measure(samples) - wanted).square().mean(0).sqrt(),
        "floor": (targets.measure(reconstruction[known]) - wanted).square().mean(0).sqrt(),
        "spread": wanted.std(0, correction=0),
    }
    return {
        f"condition_{name}_{kind}": values[index].item()
        for index, name in enumerate(prior.conditions)
        for kind, values in columns.items()
    }


def main(
    settings: EvaluateParams,
    *,
    surfaces: Path,
    model: Path,
    curve: Path,
    metrics: Path,
    headlines: Path,
    plots: Path,
    page: Path,
) -> None:
    """Write ``metrics``, the ``headlines`` among them, the tables of the folder ``plots`` and the report ``page``."""
    for path in (metrics, headlines, page):
        check_writable(path)
    data, trained = Dataset(surfaces), trained_model.read(model)
    with new_folder(plots) as folder:
        if data.of_vectors:
            of_vectors = evaluate_vectors(trained, data, settings)
            write_tables(folder, of_vectors, settings)
            content, figures = vector_page(of_vectors, read_curve(curve)), of_vectors.figures
        else:
            result, grid = evaluate(trained, data, settings), data.grid
            motion = motion_file.read(model)
            if motion is not None:
                moved = scenario_figures(motion, trained.model, data, settings)
                result = result._replace(figures=result.figures | moved)
            evaluate_tables.write(folder, result, grid, settings)
            content, figures = report_page(result, grid, read_curve(curve)), result.figures
        formats.write_bytes(page, content.encode())
        formats.write_json(headlines, main_figures(figures))
        formats.write_json(metrics, figures)


def true_log_density(data: Dataset) -> Tensor | None:
    """The log density of each quoted test surface under the law that made it, [surface].

    None where the law is not known or has no noise, so that no density is finite, where the model has no derivatives,
    strikes move with the parameters or points are missing.
    """
    law, grid = data.law, data.grid
    if law is None or not MODELS[law.model].has_jacobian or law.quote_noise_vol == 0.0 or grid.convention == "delta":
        return None
    test = {name: torch.from_numpy(values) for name, values in data.arrays("test").items()}
    if test["iv"].isnan().any():
        return None
    noise = (test["iv"].double() - test["clean"].double()).flatten(1)
    parts = zip(test["parameters"].split(_ROWS), noise.split(_ROWS), strict=True)
    return torch.cat(
        [
            exact_likelihood.log_likelihood(
                heston_jacobian.jacobian(parameters, grid).flatten(1, 2),
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
