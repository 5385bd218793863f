"""The prior that ships: a Gaussian mixture over the conditions and the latents, fitted to the codes of surfaces."""

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.conditions import conditioning_markets, numbers_among, read_conditions
from pipeline.errors import InputError
from pipeline.files.dataset import Dataset
from pipeline.files.trained_model import Prior
from pipeline.settings.train import TrainParams
from vae.model.autoencoder import Vae
from vae.model.mixture import Mixture, TooFewRowsError, fewest_rows, fit_mixture

_ROWS = 65_536  # surfaces in double precision at a time: bounds the memory


def fit_prior(params: TrainParams, model: Vae, data: Dataset) -> Prior:
    """The mixture of all surfaces; where the market is a condition, the mixtures of the markets by their shares."""
    names, markets = numbers_among(params.conditions), conditioning_markets(params.conditions, data)
    if not markets:
        return Prior(_best_mixture(params, model, data, None), names)
    parts = [_best_mixture(params, model, data, place) for place in range(len(markets))]
    counts = np.array([len(_surfaces(data, "train", place)) for place in range(len(markets))])
    component_market = np.repeat(np.arange(len(parts)), [len(part.weights) for part in parts])
    return Prior(Mixture.joined(parts, counts / counts.sum()), names, markets, component_market)


def check_conditions(params: TrainParams, data: Dataset, sizes: Mapping[str, int]) -> None:
    """Check before training, which may take hours, that a prior can be fitted.

    Args:
        params: settings of the stage.
        data: the prepared surfaces.
        sizes: number of surfaces by split.

    Raises:
        InputError: too few surfaces, or too few of a market, have all conditions.
    """
    if not params.conditions:
        return
    names, markets = numbers_among(params.conditions), conditioning_markets(params.conditions, data)
    fewest = fewest_rows(min(params.prior.components), len(names) + params.model.latents)
    for split, needed in (("train", fewest), ("validation", 1)):
        conditions = read_conditions(names, data, split)
        for place, market in enumerate(markets or ("",)):
            chosen = _surfaces(data, split, place) if market else torch.arange(sizes[split])
            known = int(conditions.at(chosen).known(min(len(chosen), params.prior.surfaces)).sum())
            if known < needed:
                raise InputError(
                    f"params.yaml: train.conditions: {known} surfaces of the split {split}"
                    f"{f' are of the market {market} and' if market else ''} have all of "
                    f"{', '.join(params.conditions)}, but train.prior.components needs {needed}"
                    f"{f'; leave market out of train.conditions, or {market} out of the data' if market else ''}"
                )


def _best_mixture(params: TrainParams, model: Vae, data: Dataset, market: int | None) -> Mixture:
    """Of the mixtures that params.yaml names, the one of the highest mean log density on the validation split.

    It is fitted to all surfaces, or to those of one market.
    """
    train = _codes(params, model, data, "train", market, seed=params.seed)
    validation = _codes(params, model, data, "validation", market, seed=params.seed + 1)
    candidates = [Mixture.standard_normal(train.shape[1])] if not params.conditions else []
    for components in params.prior.components:
        with contextlib.suppress(TooFewRowsError):
            candidates.append(fit_mixture(train, components, seed=params.seed))
    return max(candidates, key=lambda mixture: mixture.log_density(validation).mean())


def _codes(
    params: TrainParams, model: Vae, data: Dataset, split: str, market: int | None, *, seed: int
) -> NDArray[np.float64]:
    """Conditions and a draw from the posterior, [surface, condition + latent], of each surface with all conditions."""
    x, conditions = torch.from_numpy(data.points(split)), read_conditions(numbers_among(params.conditions), data, split)
    if market is not None:
        chosen = _surfaces(data, split, market)
        x, conditions = x[chosen], conditions.at(chosen)
    x = x[: params.prior.surfaces]
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


def _surfaces(data: Dataset, split: str, market: int) -> Tensor:
    """Places in a split of the surfaces of a market, [surface]."""
    found = data.market(split)
    return torch.from_numpy(np.flatnonzero([] if found is None else found == market))
