"""Figures, tables and page of a model of vectors, for the stage evaluate."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluate_opponents import fitted_opponents
from pipeline.files.csv_tables import write_csv
from pipeline.files.dataset import Dataset
from pipeline.files.trained_model import TrainedModel
from pipeline.report.vector_page import VectorEvaluation
from pipeline.settings.evaluate import EvaluateParams
from vae.evaluation import metrics
from vae.evaluation.observations import observed
from vae.evaluation.opponents import (
    opponent_completion_metrics,
    opponent_error_ratio,
    opponent_likelihood_metrics,
)
from vae.evaluation.reconstruction import by_components, numbers_of, reconstruct
from vae.evaluation.sample_fidelity import in_blocks
from vae.model.autoencoder import Vae
from vae.model.linear import PrincipalComponents, principal_components
from vae.surface.units import OWN

_FEWEST_COMPARED = 50  # vectors, below which samples are not compared with them


def evaluate_vectors(trained: TrainedModel, data: Dataset, settings: EvaluateParams) -> VectorEvaluation:
    """Measure a model on the test split, beside PCA of the training split.

    Raises:
        InputError: the data cannot be read.
    """
    (model, prior), latents = trained, trained.model.architecture.latents
    train, test = (torch.from_numpy(data.points(split)).double() for split in ("train", "test"))
    components = principal_components(train)
    own = reconstruct(model, test)
    pca, whole_pca = (by_components(components, test, numbers) for numbers in (latents, numbers_of(model)))
    figures = {
        **metrics.likelihood_metrics(
            model, test, samples=settings.importance_samples, seed=settings.seed, prior=prior.latents
        ),
        **metrics.latent_metrics(own.latents),
        **metrics.error_metrics("reconstruction", own.whole, test, OWN),
        **metrics.error_metrics("latent_reconstruction", own.by_latents, test, OWN),
        **metrics.error_metrics("pca_reconstruction", pca, test, OWN),
        **metrics.error_metrics("whole_pca_reconstruction", whole_pca, test, OWN),
        "reconstruction_numbers": numbers_of(model),
        **_baseline(model, components, train, test),
        **_completion(trained, components, data, test, settings),
        **_fidelity(trained, components, train, test, settings),
    }
    return VectorEvaluation(
        figures=figures,
        likelihood=model.architecture.likelihood,
        vectors=len(test),
        latents=own.latents.numpy(),
        error_by_point={
            name: _rmse(found, test)
            for name, found in (
                ("latent_reconstruction", own.by_latents),
                ("pca_reconstruction", pca),
                ("reconstruction", own.whole),
                ("whole_pca_reconstruction", whole_pca),
            )
        },
    )


def write_tables(folder: Path, result: VectorEvaluation, settings: EvaluateParams) -> None:
    """Write the errors by point, and those of completion by the number of known points."""
    errors = result.error_by_point
    write_csv(
        folder / "error_by_point.csv",
        ("point", *(f"{name}_rmse" for name in errors)),
        [(point, *row) for point, row in enumerate(np.stack(list(errors.values()), axis=1).tolist())],
    )
    names = (
        "completion_mae",
        "pca_completion_mae",
        "opponent_completion_mae",
        "interval_coverage_90",
        "completion_log_loss_nats",
    )
    rows = [
        (count, *(result.figures.get(f"{name}_{count}", math.nan) for name in names))
        for count in settings.completion_points
        if f"completion_mae_{count}" in result.figures
    ]
    write_csv(folder / "vector_completion.csv", ("known_points", *names), rows)


def _baseline(model: Vae, components: PrincipalComponents, train: Tensor, test: Tensor) -> dict[str, float]:
    """The log-likelihood under pPCA; of binary points, that of each alone."""
    if model.architecture.likelihood == "bernoulli":
        return metrics.independent_metrics(train, test)
    return metrics.pca_likelihood_metrics(components, test, latents=model.architecture.latents)


def _completion(
    trained: TrainedModel, components: PrincipalComponents, data: Dataset, test: Tensor, settings: EvaluateParams
) -> dict[str, float]:
    """Completion by the model and by linear opponents, with their likelihood; binary points have no opponents."""
    model, half_life = trained.model, trained.prior.half_life_days
    x, known, seed = test[: settings.completion_surfaces], settings.completion_points, settings.seed
    figures = metrics.completion_metrics(model, components, x, known=known, seed=seed, unit=OWN)
    if model.architecture.likelihood == "bernoulli":
        return figures
    opponents = fitted_opponents(data, (half_life, settings.opponent_half_life_days))[None]
    figures |= opponent_completion_metrics(opponents, x, known=known, seed=seed, unit=OWN)
    return figures | opponent_error_ratio(figures, unit=OWN) | opponent_likelihood_metrics(opponents, test)


def _fidelity(
    trained: TrainedModel, components: PrincipalComponents, train: Tensor, test: Tensor, settings: EvaluateParams
) -> dict[str, float]:
    """Distances of samples with their noise, and of training vectors, from the test vectors; empty for too few."""
    if min(len(train), len(test)) < _FEWEST_COMPARED:
        return {}
    model, prior = trained
    generator = np.random.default_rng(settings.seed)
    uniform = generator.random(settings.prior_samples)
    normal = generator.standard_normal((settings.prior_samples, model.architecture.latents))
    drawn = {"sample": prior.latents.sample(uniform, normal), "standard_normal_sample": normal}
    samples = {name: observed(model, torch.from_numpy(z), seed=settings.seed) for name, z in drawn.items()}
    some = train[torch.from_numpy(generator.permutation(len(train))[: settings.prior_samples])]
    pairs = {name: (in_blocks(rows), in_blocks(test)) for name, rows in (samples | {"floor": some}).items()}
    directions = components.vectors[:, : model.architecture.basis]
    return metrics.fidelity_metrics(pairs, test, directions, seed=settings.seed)


def _rmse(approximation: Tensor, truth: Tensor) -> NDArray[np.float64]:
    """Root mean square error of each point, [D]."""
    error: NDArray[np.float64] = (approximation - truth).square().mean(0).sqrt().numpy()
    return error
