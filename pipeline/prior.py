"""The prior that ships: a law of the latents, or of the conditions and the latents, fitted to the codes of surfaces."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

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
from vae.model.flow import Flow
from vae.model.latent_law import Array, choose
from vae.model.linear import age_weights
from vae.model.mixture import Mixture, fewest_rows, fit_mixture
from vae.training.flow_fit import FEWEST_ROWS, fit_flow

Law = Mixture | Flow
Fit = Callable[[Array, Array | None], Law]  # from codes [n, d] and their weights [n]

_BLOCKS = 6  # of dates that are held out in turn
_ROWS = 65_536  # surfaces in double precision at a time: bounds the memory


def fit_prior(settings: TrainParams, model: Vae, data: Dataset) -> Prior:
    """The law of all surfaces; where the market is a condition, the mixtures of the markets by their shares."""
    names, markets = numbers_among(settings.conditions), conditioning_markets(settings.conditions, data)
    half_life = settings.half_life_days
    if not markets:
        return Prior(_best_law(settings, model, data, None), names, half_life_days=half_life)
    laws = [_best_law(settings, model, data, place) for place in range(len(markets))]
    parts = [law for law in laws if isinstance(law, Mixture)]
    counts = np.array([len(_surfaces(data, "train", place)) for place in range(len(markets))])
    component_market = np.repeat(np.arange(len(parts)), [len(part.weights) for part in parts])
    return Prior(Mixture.joined(parts, counts / counts.sum()), names, markets, component_market, half_life)


def check_conditions(settings: TrainParams, data: Dataset, sizes: Mapping[str, int]) -> None:
    """Check before training, which may take hours, that a prior can be fitted.

    Args:
        settings: settings of the stage.
        data: the prepared surfaces.
        sizes: number of surfaces by split.

    Raises:
        InputError: too few surfaces, or too few of a market, have all conditions.
    """
    if not settings.conditions:
        return
    names, markets = numbers_among(settings.conditions), conditioning_markets(settings.conditions, data)
    fewest = fewest_rows(min(settings.prior.components), len(names) + settings.model.latents)
    for split, needed in (("train", fewest), ("validation", 1)):
        conditions = read_conditions(names, data, split)
        for place, market in enumerate(markets or ("",)):
            chosen = _surfaces(data, split, place) if market else torch.arange(sizes[split])
            chosen = chosen[-settings.prior.surfaces :]
            known = int(conditions.at(chosen).known(len(chosen)).sum())
            if known < needed:
                raise InputError(
                    f"params.yaml: train.conditions: {known} surfaces of the split {split}"
                    f"{f' are of the market {market} and' if market else ''} have all of "
                    f"{', '.join(settings.conditions)}, but train.prior.components needs {needed}"
                    f"{f'; leave market out of train.conditions, or {market} out of the data' if market else ''}"
                )


def _best_law(settings: TrainParams, model: Vae, data: Dataset, market: int | None) -> Law:
    """The law of the codes of all surfaces, or of those of one market, of the kind that suits held-out codes best.

    Where surfaces have dates, a law must suit times that it was not fitted to: each of some blocks of dates is held out
    in turn, and the law that ships is fitted to training and validation dates alike, which weigh by their age as they
    do in training. Else validation is held out.
    """
    train = _codes(settings, model, data, "train", market, seed=settings.seed)
    validation = _codes(settings, model, data, "validation", market, seed=settings.seed + 1)
    dimension = train.points.shape[1]
    if train.date is None or validation.date is None:
        laws = [fit(train.points, None) for fit in _fits(settings, dimension, rows=len(train.points))]
        return laws[choose([law.log_density(validation.points) for law in laws])]
    points = np.concatenate([train.points, validation.points])
    dates = np.concatenate([train.date, validation.date])
    half_life = settings.half_life_days
    weights = None if half_life is None else age_weights(torch.from_numpy(dates), half_life).numpy()
    folds = [np.isin(dates, block) for block in np.array_split(np.unique(dates), _BLOCKS)]
    least = min(len(points) - int(fold.sum()) for fold in folds)
    fits = _fits(settings, dimension, rows=least)
    held_out = [np.array([_held_out(fit, points, weights, fold) for fold in folds if fold.any()]) for fit in fits]
    return fits[choose(held_out)](points, weights)


def _held_out(fit: Fit, points: Array, weights: Array | None, fold: NDArray[np.bool_]) -> float:
    """Mean log density of the points of a fold under the law that is fitted to the others."""
    law = fit(points[~fold], None if weights is None else weights[~fold])
    return float(law.log_density(points[fold]).mean())


def _fits(settings: TrainParams, dimension: int, *, rows: int) -> list[Fit]:
    """Fits of laws to codes [rows, dimension], in the order of the laws' richness.

    A flow takes the place of all mixtures but the smallest: their fit would take as long.
    """
    flow = bool(settings.prior.flow_layers) and not settings.conditions and rows >= FEWEST_ROWS
    counts = sorted(settings.prior.components)
    enough = [count for count in counts if fewest_rows(count, dimension) <= rows]
    fits: list[Fit] = []
    if not settings.conditions:
        standard = Mixture.standard_normal(dimension)
        fits.append(lambda _codes, _weights: standard)
    elif not enough:
        enough = counts[:1]
    mixtures = enough[:1] if flow else enough
    fits.extend(partial(_mixture, count, settings.seed) for count in mixtures)
    if flow:
        fits.append(partial(_flow, settings.prior.flow_layers, settings.seed))
    return fits


def _mixture(components: int, seed: int, codes: Array, weights: Array | None) -> Law:
    return fit_mixture(codes, components, seed=seed, weights=weights)


def _flow(layers: int, seed: int, codes: Array, weights: Array | None) -> Law:
    return fit_flow(codes, layers=layers, seed=seed, weights=weights)


class _Codes(NamedTuple):
    """Conditions and a draw from the posterior, [surface, condition + latent], and dates [surface] where known."""

    points: Array
    date: NDArray[np.int32] | None


def _codes(settings: TrainParams, model: Vae, data: Dataset, split: str, market: int | None, *, seed: int) -> _Codes:
    """The codes of the newest surfaces that have all conditions."""
    x, date = torch.from_numpy(data.points(split)), data.date(split)
    conditions = read_conditions(numbers_among(settings.conditions), data, split)
    chosen = torch.arange(len(x)) if market is None else _surfaces(data, split, market)
    chosen = chosen[-settings.prior.surfaces :]
    x, conditions = x[chosen], conditions.at(chosen)
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
    complete = ~codes.isnan().any(1)
    return _Codes(codes[complete].numpy(), None if date is None else date[chosen][complete])


def _surfaces(data: Dataset, split: str, market: int) -> Tensor:
    """Places in a split of the surfaces of a market, [surface]."""
    found = data.market(split)
    return torch.from_numpy(np.flatnonzero([] if found is None else found == market))
