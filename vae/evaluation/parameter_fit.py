"""Parameters of the simulated model that fit surfaces best, and whether they lie in the box of the data."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_STEP = 1e-4  # of a difference quotient, in units of a side of the box
_MOST_STEPS = 40
_FIRST_DAMPING, _EASIER, _HARDER, _STUCK = 1e-3, 0.1, 10.0, 1e6
_SETTLED, _EXACT = 1e-3, 1e-7  # share by which a last step makes the error smaller, and an error that is as good as 0
_LEAST_CURVATURE = 1e-12
_REACH = 0.5  # of a side: parameters are looked for so far outside of the box
_LEAST_POSITIVE = 0.2  # of the low end of a side whose numbers are positive: such parameters stay positive

Pricing = Callable[[Tensor], Tensor]  # of parameters [batch, parameter] to vols [batch, D]; NaN where there is none


class ParameterFit(NamedTuple):
    """The least squares fit of surfaces.

    Attributes:
        parameters: in units of the sides of the box, 0 to 1 inside, [surface, parameter].
        error: root mean square error, in units of the vols, [surface].
    """

    parameters: Tensor
    error: Tensor

    def outside(self) -> Tensor:
        """How far the parameters lie outside of the box, in units of a side; 0 inside, [surface]."""
        return torch.maximum(-self.parameters, self.parameters - 1.0).clamp_min(0.0).amax(1)


def fitted(price: Pricing, target: Tensor, start: Tensor, low: Tensor, high: Tensor) -> ParameterFit:
    """Fit parameters to surfaces by Levenberg and Marquardt's iteration, all surfaces at once.

    Derivatives are difference quotients, so that any model that prices can be fitted.

    Args:
        price: the model.
        target: vols, [surface, D].
        start: parameters to start from, inside the box, [surface, parameter].
        low: ends of the sides of the box, [parameter].
        high: likewise.
    """
    side = high - low
    least = torch.where(low > 0.0, ((_LEAST_POSITIVE - 1.0) * low / side).clamp_min(-_REACH), -_REACH)

    def residual(x: Tensor, rows: Tensor) -> Tensor:
        return rows - price(low + side * x)

    x, damping = (start - low) / side, torch.full_like(start[:, 0], _FIRST_DAMPING)
    error = residual(x, target)
    left = torch.arange(len(x))
    for _ in range(_MOST_STEPS):
        now, error_now = x[left], error[left]
        step = _step(error_now, _slopes(residual, now, error_now, target[left]), damping[left])
        trial = torch.minimum(torch.maximum(now + step, least), torch.full_like(now, 1.0 + _REACH))
        trial_error = residual(trial, target[left])
        before, after = (values.square().mean(1).sqrt() for values in (error_now, trial_error))
        better = after < before  # never where a vol is missing
        x[left] = torch.where(better.unsqueeze(1), trial, now)
        error[left] = torch.where(better.unsqueeze(1), trial_error, error_now)
        damping[left] *= torch.where(better, _EASIER, _HARDER)
        settled = (better & ((before - after < _SETTLED * before) | (after < _EXACT))) | (damping[left] > _STUCK)
        left = left[~settled]
        if not len(left):
            break
    return ParameterFit(x, error.square().mean(1).sqrt())


def _slopes(residual: Callable[[Tensor, Tensor], Tensor], x: Tensor, error: Tensor, target: Tensor) -> Tensor:
    """Derivatives of the vols by the parameters, as difference quotients, [surface, D, parameter]."""
    count = x.shape[1]
    moved = (x + _STEP * torch.eye(count, dtype=x.dtype).unsqueeze(1)).flatten(0, 1)
    quotients = (error.repeat(count, 1) - residual(moved, target.repeat(count, 1))) / _STEP
    slopes: Tensor = quotients.unflatten(0, (count, -1)).permute(1, 2, 0)
    return slopes


def _step(error: Tensor, slopes: Tensor, damping: Tensor) -> Tensor:
    """Levenberg and Marquardt's step, [surface, parameter]; points without a vol or a slope are left out."""
    known = slopes.isfinite().all(-1) & error.isfinite()
    slopes, error = torch.where(known.unsqueeze(-1), slopes, 0.0), torch.where(known, error, 0.0)
    curvature = slopes.mT @ slopes
    ridge = damping.unsqueeze(-1) * curvature.diagonal(dim1=1, dim2=2).clamp_min(_LEAST_CURVATURE)
    step: Tensor = torch.linalg.solve(curvature + ridge.diag_embed(), (error.unsqueeze(1) @ slopes).squeeze(1))
    return step
