"""The Jacobian of Heston's implied vols: the exact log-likelihood of simulated surfaces needs it."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from vae.pricing import black, fourier
from vae.pricing.heston import PARAMETERS
from vae.pricing.heston_surfaces import groups, joined, surfaces
from vae.surface.grid import Grid


def jacobian(parameters: Tensor, grid: Grid) -> Tensor:
    """Exact derivatives of the implied vols by the parameters: forward derivatives of the prices, divided by vega.

    Args:
        parameters: [batch, 5], the last axis ordered as ``PARAMETERS``.
        grid: tenors and nodes; of convention ``log_moneyness`` or ``sqrt_time``.

    Returns:
        [batch, tenor, node, 5] per unit of each parameter; NaN where ``surfaces`` has no vol.

    Raises:
        ValueError: the nodes are deltas, which move with the parameters.
    """
    k = torch.tensor(grid.log_moneyness, device=parameters.device)
    root = torch.tensor(grid.tenors, device=parameters.device).sqrt().unsqueeze(-1)
    by_vol = black.vega(k, surfaces(parameters, grid).vol * root) * root
    directions = torch.eye(len(PARAMETERS), dtype=torch.float64, device=parameters.device)
    with forward_ad.dual_level():  # all directions at once, as torch spends a millisecond on each operation
        dual = forward_ad.make_dual(
            parameters.to(torch.float64).repeat(len(PARAMETERS), 1),
            directions.repeat_interleave(len(parameters), dim=0),
        )
        prices = [fourier.prices(rows, strikes).price for rows, strikes in groups(dual, grid)]
        tangent = forward_ad.unpack_dual(joined(prices, len(dual))).tangent
    by_parameter: Tensor = tangent.unflatten(0, (len(PARAMETERS), -1)) / by_vol
    return by_parameter.movedim(0, -1)
