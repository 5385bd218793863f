"""Fits the calibration of completions to surfaces: the law of their misfits, and the width of their intervals."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import completion
from vae.model.autoencoder import Vae
from vae.model.calibration import COUNTS, NORMAL_DEGREES, OPEN, Calibration, quantile_shares
from vae.model.point_posterior import pose_points
from vae.surface.units import Z90

_DEGREES = (4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0, 50.0, 100.0, 300.0, NORMAL_DEGREES)
_FEWEST = 200  # hidden points near a place of ``OPEN``; with fewer the factor is that of the place before
_ROWS = 256  # surfaces at a time: bounds the memory of their Jacobians


class _Trials(NamedTuple):
    """Completions of surfaces from some of their points.

    Attributes:
        misfit, number, left_open: of each completion, [completion].
        ratio: errors of hidden points in standard deviations, NaN at known points, [completion, D].
    """

    misfit: Tensor
    number: Tensor
    left_open: Tensor
    ratio: Tensor


def calibrate(model: Vae, x: Tensor, *, shape: tuple[int, int] | None, seed: int) -> Calibration:
    """The calibration of a model of Gaussian points, in the type of the model.

    Args:
        model: in double precision.
        x: held-out surfaces, [surface, D], NaN where a point is missing.
        shape: numbers of tenors and nodes; None for vectors, which have neither smiles nor strikes.
        seed: of the points that are hidden.
    """
    generator = torch.Generator().manual_seed(seed)
    random = [_tried(model, seen, x) for _, seen in completion.random_points(x, COUNTS, seed=seed)]
    found = Calibration().to(x.device)
    found.degrees.fill_(_likeliest_degrees(random))
    scores = [found.score(each.misfit, each.number).quantile(quantile_shares().to(x)) for each in random]
    found.scores.copy_(torch.stack([*scores, *[scores[-1]] * (len(COUNTS) - len(scores))]))
    lines = [] if shape is None else [_tried(model, seen, x) for seen in _lines(x, shape, generator)]
    found.factors.copy_(_factors(found, [*random, *lines]))
    return found.to(model.center)


def _tried(model: Vae, seen: Tensor, x: Tensor) -> _Trials:
    """Completions from the points of ``seen`` that are not NaN, in the units of the model."""
    parts = []
    with torch.no_grad():
        for given, truth in zip(seen.split(_ROWS), x.split(_ROWS), strict=True):
            posed = pose_points(model, given, given.isnan().to(given.dtype))
            mode, errors = completion.mode_given_points(model, *posed)
            found = completion.completion_at(model, mode, errors)
            widened = model.calibration.widening(mode.misfit, mode.number, mode.left_open).unsqueeze(1)
            ratio = (truth - found.mean).abs() / (found.std / widened)
            parts.append((mode.misfit, mode.number, mode.left_open, torch.where(given.isnan(), ratio, torch.nan)))
    return _Trials(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _likeliest_degrees(trials: list[_Trials]) -> float:
    """The degrees of freedom of the size under which the misfits are the most likely."""
    return max(_DEGREES, key=lambda degrees: sum(_log_density(each, degrees) for each in trials))


def _log_density(trials: _Trials, degrees: float) -> float:
    """Sum of the log density of misfits over their counts under the F law, up to what the degrees do not change."""
    half, own = 0.5 * trials.number, torch.tensor(0.5 * degrees, dtype=trials.misfit.dtype)
    misfit = trials.misfit
    constant = torch.lgamma(half + own) - torch.lgamma(own) - half * math.log(degrees)
    return float((constant - (half + own) * torch.log1p(misfit / degrees)).sum())


def _lines(x: Tensor, shape: tuple[int, int], generator: torch.Generator) -> Iterator[Tensor]:
    """Surfaces of which one smile is known, and those of which one node of each tenor is."""
    for axis in (1, 2):
        cube = x.unflatten(1, shape)
        number = torch.randint(shape[axis - 1], (len(x),), generator=generator)
        places = torch.arange(shape[axis - 1]).view((1, -1, 1) if axis == 1 else (1, 1, -1))
        chosen = (places == number.view(-1, 1, 1)).expand_as(cube)
        yield torch.where(chosen, cube, torch.nan).flatten(1)


def _factors(calibration: Calibration, trials: list[_Trials]) -> Tensor:
    """The factor of intervals at each place of ``OPEN``: it never falls and is never below 1."""
    ratios = [each.ratio / calibration.of_size(each.misfit, each.number).unsqueeze(1) for each in trials]
    ratio, left_open = torch.cat(ratios), torch.cat([each.left_open for each in trials])
    nearest = (left_open.unsqueeze(1) - torch.tensor(OPEN, dtype=left_open.dtype)).abs().argmin(1)
    factors = [1.0]
    for place in range(len(OPEN)):
        own = ratio[nearest == place].flatten()
        own = own[~own.isnan()]
        wide = _quantile(own, 0.9) / Z90 if len(own) >= _FEWEST else 1.0
        factors.append(max(factors[-1], wide))
    return torch.tensor(factors[1:], dtype=ratio.dtype)


def _quantile(values: Tensor, share: float) -> float:
    return float(values.kthvalue(max(1, math.ceil(share * len(values)))).values)
