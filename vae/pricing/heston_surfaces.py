"""Implied-volatility surfaces of Heston models: each point a vol of a stated accuracy, or NaN with the reason.

k = ln(K/F) is log-moneyness, kappa = k / sqrt(tenor) a scaled strike; a row is one model at one tenor.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae.pricing import black, fourier
from vae.pricing.fourier import Rows
from vae.pricing.heston import Heston
from vae.pricing.priced_surfaces import OK, PricedSurfaces
from vae.surface.grid import Grid

FLAGS = ("ok", "price too small for its accuracy", "quadrature not converged", "no strike of this delta")
PRICE_TOO_SMALL, NOT_CONVERGED, NO_STRIKE = range(OK + 1, len(FLAGS))

_MOST_STRIKE_STEPS = 60
_STRIKE_SETTLED = 1e-13  # change of a strike of given delta, in standard deviations


class Start(NamedTuple):
    """The start of the inversion, each [point].

    Attributes:
        log_b: logarithm of the normalised price b; any number where b is out of bounds.
        solvable: 1 where b is inside its bounds, so that a vol exists, else 0.
        step: the first step from the control variate's vol.
    """

    log_b: Tensor
    solvable: Tensor
    step: black.RootStep


def start(x: Tensor, s: Tensor, integral: Tensor, coefficients: Tensor, *, wide: bool) -> Start:
    """The normalised price, and the first step of its inversion from the control variate's total vol; all [point].

    Args:
        x: |k|.
        s: total vol of the control variate.
        integral: of ``fourier.integrate``.
        coefficients: of ``black.coefficients``.
        wide: see ``black.log_price_kernel``.
    """
    control = black.log_price_kernel(x, s, coefficients, wide=wide)
    b, bound = torch.exp(control.value) + integral, torch.exp(-0.5 * x)
    solvable = (b > 0.0) & (b < bound)
    log_b = torch.log(torch.where(solvable, b, 0.5 * bound))
    low, high = torch.zeros_like(s), torch.full_like(s, torch.inf)
    return Start(log_b, solvable.to(s.dtype), black.householder(x, log_b, s, low, high, control))


def finish(x: Tensor, s: Tensor, solvable: Tensor, error: Tensor, root: Tensor, tolerance: Tensor) -> Tensor:
    """Vols, NaN where unknown, from total vols, the errors of their prices and sqrt(tenor); all [point]."""
    vega = torch.exp(-0.5 * ((x / s).square() + 0.25 * s.square())) / math.sqrt(2.0 * math.pi)
    known = (solvable > 0.0) & (error + fourier.ROUNDING <= tolerance * vega * root)
    return torch.where(known, s / root, torch.nan)


class Kernels(NamedTuple):
    """The functions that work element by element, plain or compiled."""

    fourier: fourier.Kernels
    start: Callable[..., Start]
    advance: Callable[..., black.RootStep]
    finish: Callable[..., Tensor]


EAGER = Kernels(fourier.EAGER, start, black.advance, finish)


def surfaces(
    parameters: Tensor, grid: Grid, *, vol_tolerance: float = 1e-6, kernels: Kernels = EAGER
) -> PricedSurfaces:
    """Implied-volatility surfaces of Heston models.

    Args:
        parameters: [batch, 5], the last axis ordered as ``PARAMETERS``.
        grid: tenors and nodes.
        vol_tolerance: largest accepted error of a vol: the error of its price over its vega.
        kernels: ``EAGER``, or ``compiled.kernels``, whose values differ in their last digits.

    Returns:
        Vols (decimal) in float64 and, for each point, an index into ``FLAGS``.
    """
    if grid.convention == "delta":
        tenors, d1 = (torch.tensor(axis, device=parameters.device) for axis in (grid.tenors, grid.d1))
        each = [_smiles_in_deltas(_rows(parameters, tenors), d1, vol_tolerance, kernels)]
    else:
        each = [_smiles(rows, strikes, vol_tolerance, kernels) for rows, strikes in groups(parameters, grid)]
    return PricedSurfaces(*(joined(parts, len(parameters)) for parts in zip(*each, strict=True)))


def groups(parameters: Tensor, grid: Grid) -> Iterator[tuple[Rows, Tensor]]:
    """Models at tenors that share scaled strikes, with these strikes kappa [strike]: all tenors, or one at a time."""
    tenors, nodes = (torch.tensor(axis, device=parameters.device) for axis in (grid.tenors, grid.nodes))
    if grid.convention == "sqrt_time":
        yield _rows(parameters, tenors), nodes
    else:
        for tenor in tenors:
            yield _rows(parameters, tenor[None]), nodes / tenor.sqrt()


def _rows(parameters: Tensor, tenors: Tensor) -> Rows:
    """Each model at each tenor."""
    model = Heston.of(parameters.repeat_interleave(len(tenors), dim=0))
    return Rows.of(model, tenors.repeat(len(parameters)))


def joined(parts: Sequence[Tensor], batch: int) -> Tensor:
    """[batch, tenor, node] from the [batch of tenors, node] of each group."""
    return torch.cat([part.unflatten(0, (batch, -1)) for part in parts], dim=1)


def _smiles(rows: Rows, strikes: Tensor, vol_tolerance: float, kernels: Kernels) -> PricedSurfaces:
    """Vols and flags at scaled strikes kappa [strike] or [row, strike], both [row, strike]."""
    integral, error = fourier.integrate(rows, strikes, kernels.fourier)
    parts = []
    for chunk in fourier.chunks(rows, strikes.shape[-1]):
        some = strikes if strikes.ndim == 1 else strikes[chunk]
        parts.append(_inverted(rows.at(chunk), some, integral[chunk], error[chunk], vol_tolerance, kernels))
    return PricedSurfaces(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _inverted(
    rows: Rows, strikes: Tensor, integral: Tensor, error: Tensor, vol_tolerance: float, kernels: Kernels
) -> PricedSurfaces:
    """Vols whose price is that of the control variate plus the integral; all [row, strike]."""
    shape, wide = integral.shape, black.is_wide(rows.variance.sqrt())
    root = rows.tenor.sqrt().unsqueeze(-1).expand(shape).reshape(-1)
    x = (strikes.expand(shape).reshape(-1) * root).abs()
    control = rows.variance.sqrt().unsqueeze(-1).expand(shape).reshape(-1)
    coefficients, tolerance = black.coefficients(x.device), torch.full_like(root[:1], vol_tolerance)
    log_b, solvable, step = kernels.start(x, control, integral.reshape(-1), coefficients, wide=wide)
    s = black.solve(x, log_b, step, kernels.advance)
    vol = kernels.finish(x, s, solvable, error.reshape(-1), root, tolerance).reshape(shape)
    reason = torch.where(error > fourier.CONVERGED, NOT_CONVERGED, PRICE_TOO_SMALL).to(torch.uint8)
    return PricedSurfaces(vol, torch.where(vol.isnan(), reason, OK))


def _smiles_in_deltas(rows: Rows, d1: Tensor, vol_tolerance: float, kernels: Kernels) -> PricedSurfaces:
    """Vols and flags where calls have the deltas N(d1), both [row, node]: the fixed point k = s^2 / 2 - s d1."""
    root = rows.tenor.sqrt().unsqueeze(-1)
    total_vol = rows.variance.sqrt().unsqueeze(-1).expand(-1, len(d1))
    strikes = total_vol * (0.5 * total_vol - d1) / root
    vol, flag = torch.full_like(strikes, torch.nan), torch.full(strikes.shape, NO_STRIKE, dtype=torch.uint8)
    flag = flag.to(strikes.device)
    left = torch.arange(len(strikes), device=strikes.device)
    for _ in range(_MOST_STRIKE_STEPS):
        smile = _smiles(rows.at(left), strikes, vol_tolerance, kernels)
        total_vol = smile.vol * root[left]
        following = total_vol * (0.5 * total_vol - d1) / root[left]
        settled = (following - strikes).abs() * root[left] <= _STRIKE_SETTLED * total_vol
        done = settled | (smile.flag != OK)
        vol[left] = torch.where(settled, smile.vol, torch.nan)
        flag[left] = torch.where(done, smile.flag, NO_STRIKE)
        strikes, open_rows = torch.where(done, strikes, following), ~done.all(-1)
        if not open_rows.any():
            break
        left, strikes = left[open_rows], strikes[open_rows]
    return PricedSurfaces(vol, flag)
