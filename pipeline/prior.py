"""The prior that ships: a Gaussian mixture over the conditions and the latents, fitted to the codes of surfaces."""

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.conditions import read_conditions
from pipeline.errors import InputError
from pipeline.files.dataset import Dataset
from pipeline.files.trained_model import Prior
from pipeline.settings.train import TrainParams
from vae.model.autoencoder import Vae
from vae.model.mixture import Mixture, TooFewRowsError, fewest_rows, fit_mixture

_ROWS = 65_536  # surfaces in double precision at a time: bounds the memory


def fit_prior(params: TrainParams, model: Vae, data: Dataset) -> Prior:
    """Of the mixtures that params.yaml names, the one of the highest mean log density on the validation split."""
    train = _codes(params, model, data, "train", seed=params.seed)
    validation = _codes(params, model, data, "validation", seed=params.seed + 1)
    candidates = [Mixture.standard_normal(train.shape[1])] if not params.conditions else []
    for components in params.prior.components:
        with contextlib.suppress(TooFewRowsError):
            candidates.append(fit_mixture(train, components, seed=params.seed))
    best = max(candidates, key=lambda mixture: mixture.log_density(validation).mean())
    return Prior(best, tuple(params.conditions))


def check_conditions(params: TrainParams, data: Dataset, sizes: Mapping[str, int]) -> None:
    """Check before training, which may take hours, that a prior can be fitted.

    Args:
        params: settings of the stage.
        data: the prepared surfaces.
        sizes: number of surfaces by split.

    Raises:
        InputError: too few surfaces have all conditions.
    """
    if not params.conditions:
        return
    fewest = fewest_rows(min(params.prior.components), len(params.conditions) + params.model.latents)
    for split, needed in (("train", fewest), ("validation", 1)):
        count = min(sizes[split], params.prior.surfaces)
        known = int(read_conditions(tuple(params.conditions), data, split).known(count).sum())
        if known < needed:
            raise InputError(
                f"params.yaml: train.conditions: {known} surfaces of the split {split} have all of "
                f"{', '.join(params.conditions)}, but train.prior.components needs {needed}"
            )


def _codes(params: TrainParams, model: Vae, data: Dataset, split: str, *, seed: int) -> NDArray[np.float64]:
    """Conditions and a draw from the posterior, [surface, condition + latent], of each surface with all conditions."""
    x = data.points(split)[: params.prior.surfaces]
    conditions = read_conditions(tuple(params.conditions), data, split)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    with torch.no_grad():
        for start in range(0, len(x), _ROWS):
            rows = slice(start, min(start + _ROWS, len(x)))
            seen = model.observe(x[rows].double())
            posterior = model.encode(seen.values, seen.missing)
            z = posterior.sample(torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float64))
            measured = conditions.of(model.expand(model.decode(z)), rows)
            parts.append(torch.cat([measured, z], dim=1))
    codes = torch.cat(parts)
    return codes[~codes.isnan().any(1)].numpy()
