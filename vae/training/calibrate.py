"""Fits the calibration of completions to surfaces: the law of their misfits, and the width of their intervals."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import completion
from vae.model.autoencoder import Vae
from vae.model.calibration import COUNTS, NORMAL_DEGREES, OPEN, Calibration, quantile_shares, row_of
from vae.model.point_posterior import pose_points
from vae.surface.units import Z90

_DEGREES = (4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0, 50.0, 100.0, 300.0, NORMAL_DEGREES)
_FEWEST = 80  # completions near a place of ``OPEN``; with fewer the factor is that of all of its row
_NOISE = (10.0, 50.0)  # of noisy quotes, in units of the model's ...
_NOISY_COUNTS = (5, 10, 20, 40, 100)  # ... and how many of them are known
_ROWS = 64  # surfaces at a time: their Jacobians stay in the cache


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
    random = [_tried(model, seen, x) for _, seen in completion.random_points(x, COUNTS, seed=seed)]
    found = Calibration().to(x.device)
    found.degrees.fill_(_likeliest_degrees(random))
    scores = [found.score(each.misfit, each.number).quantile(quantile_shares().to(x)) for each in random]
    found.scores.copy_(torch.stack([*scores, *[scores[-1]] * (len(COUNTS) - len(scores))]))
    generator = torch.Generator().manual_seed(seed)
    lines = [] if shape is None else [_tried(model, seen, x) for seen in _lines(x, shape, generator)]
    noisy = list(_noisy(model, x, generator, seed=seed)) if model.noise_is_fixed else []
    found.factors.copy_(_factors(found, [*random, *lines, *noisy]))
    return found.to(model.center)


def _noisy(model: Vae, x: Tensor, generator: torch.Generator, *, seed: int) -> Iterator[_Trials]:
    """Completions from points with much noise, of a size that is known; surfaces have the sizes in turns."""
    noise = torch.tensor(_NOISE, dtype=x.dtype)[torch.arange(len(x)) % len(_NOISE)].unsqueeze(1)
    for _, seen in completion.random_points(x, _NOISY_COUNTS, seed=seed):
        added = noise * model.scale.detach() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        yield _tried(model, model.observed(model.inner(seen) + added), x, 1.0 / (1.0 + noise.square()))


def _tried(model: Vae, seen: Tensor, x: Tensor, weight: Tensor | None = None) -> _Trials:
    """Completions from the points of ``seen`` that are not NaN, in the units of the model.

    ``weight`` [surface, 1] is the precision of the points in units of that of a point of the data, 1 by default.
    """
    parts = []
    with torch.no_grad():
        for rows in torch.arange(len(x)).split(_ROWS):
            given, truth = seen[rows], x[rows]
            problem, start = pose_points(model, given, given.isnan().to(given.dtype))
            if weight is not None:
                problem = problem._replace(precision=model.precision_of_points(problem.known * weight[rows]))
            mode, errors = completion.mode_given_points(model, problem, start)
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
    """Surfaces of which points of one smile are known, and those of which points of one node are; each its number."""
    for axis in (1, 2):
        cube = x.unflatten(1, shape)
        number = torch.randint(shape[axis - 1], (len(x),), generator=generator)
        places = torch.arange(shape[axis - 1]).view((1, -1, 1) if axis == 1 else (1, 1, -1))
        chosen = (places == number.view(-1, 1, 1)).expand_as(cube)
        line = torch.where(chosen, cube, torch.nan).flatten(1)
        most = torch.tensor(COUNTS)[torch.randint(len(COUNTS), (len(x),), generator=generator)]
        yield completion.keep_random_points(line, most.unsqueeze(1), generator)


def _factors(calibration: Calibration, trials: list[_Trials]) -> Tensor:
    """The factor of intervals from each of ``COUNTS`` and at each of ``OPEN``.

    Numbers of points have factors of their own, since few random points leave latents open in other ways than many
    points of one smile do. A row without completions has the mean factor of the row before.
    """
    ratios = [each.ratio / calibration.of_size(each.misfit, each.number).unsqueeze(1) for each in trials]
    ratio = torch.cat(ratios)
    left_open, row = torch.cat([each.left_open for each in trials]), torch.cat([row_of(each.number) for each in trials])
    nearest = (left_open.unsqueeze(1) - torch.tensor(OPEN, dtype=left_open.dtype)).abs().argmin(1)
    factors = torch.ones(len(COUNTS), len(OPEN), dtype=ratio.dtype)
    for count in range(len(COUNTS)):
        own = row == count
        factors[count] = _factor(ratio[own], default=float(factors[max(count - 1, 0)].mean()))
        for place in range(len(OPEN)):
            near = own & (nearest == place)
            if near.sum() >= _FEWEST:
                factors[count, place] = _factor(ratio[near], default=float(factors[count, place]))
    return factors


def _factor(ratio: Tensor, *, default: float) -> float:
    """The factor with which 90 % intervals hold these errors, at least 1; the default where there are none."""
    known = ratio[~ratio.isnan()]
    return max(1.0, _quantile(known, 0.9) / Z90) if len(known) else default


def _quantile(values: Tensor, share: float) -> float:
    return float(values.kthvalue(max(1, math.ceil(share * len(values)))).values)
