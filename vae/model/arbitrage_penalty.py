"""Static arbitrage as a differentiable penalty for training, and as a condition on scenarios in a graph.

``vae.surface.arbitrage`` measures it for reports.

Reference: Carr, Madan (2005), "A note on sufficient conditions for no arbitrage"; of penalties on generated surfaces
Vuletić, Cont (2024), "VolGAN", section 3.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from vae.surface.grid import Grid
from vae.surface.spline import interpolation_matrices, refined

_LEAST_VARIANCE = 1e-8
_LEAST_VOL = 1e-3
_ROUNDING = 2e-7  # of the forward
TOLERANCE = 8e-7  # of the forward: within 1e-6 after the rounding of single precision


class ArbitragePenalty(nn.Module):
    """Profit of the worst calendar spread and the worst butterflies of each smile, added up.

    Smiles are splines of total variance, evaluated on points five times as dense as their nodes. Profits within the
    rounding of single precision are ignored. Vols below a small positive one add their distance to it.

    Raises:
        ValueError: the grid is in deltas, whose strikes move with the vols.
    """

    strikes: Tensor
    k: Tensor
    tenors: Tensor
    same: Tensor
    longer: Tensor
    reached: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        if grid.convention == "delta":
            raise ValueError("a penalty on arbitrage needs strikes that do not move: grids in deltas have none")
        nodes = grid.log_moneyness
        k = refined(nodes)
        same = np.stack([interpolation_matrices(*pair).value for pair in zip(nodes, k, strict=True)])
        longer = np.stack([interpolation_matrices(*pair).value for pair in zip(nodes[1:], k[:-1], strict=True)])
        buffers = {
            "k": k,
            "strikes": np.exp(k),
            "tenors": grid.tenors[:, None],
            "same": same,
            "longer": np.nan_to_num(longer),
            "reached": np.isfinite(longer[..., 0]),
        }
        for name, values in buffers.items():
            tensor = torch.tensor(values)
            self.register_buffer(name, tensor.float() if tensor.is_floating_point() else tensor)

    def forward(self, iv: Tensor) -> Tensor:
        """The penalty of each of the surfaces iv [batch, tenor, node] in units of the forward, [batch]."""
        lacking = (_LEAST_VOL - iv).relu().sum((-2, -1))
        return lacking + self._earned(*self._prices(iv)).sub(_ROUNDING).relu().sum(-1)

    def free(self, iv: Tensor) -> Tensor:
        """Whether no spread in a surface iv [batch, tenor, node] earns more than ``TOLERANCE``, bool [batch].

        Beside those that are penalised also vertical spreads, which earn most at an end of a convex smile.
        """
        price, later = self._prices(iv)
        put = price + self.strikes
        verticals = torch.cat([price[..., -1] - price.amin(-1), put[..., 0] - put.amin(-1)], dim=-1)
        earned = torch.cat([self._earned(price, later), verticals], dim=-1)
        return (earned.amax(-1) <= TOLERANCE) & (iv.amin((-2, -1)) >= _LEAST_VOL)

    def _prices(self, iv: Tensor) -> tuple[Tensor, Tensor]:
        """Of calls at the points of each smile, and of the next longer tenor at those of all smiles but the last."""
        variance = iv.square() * self.tenors
        price = self._call(_read(self.same, variance), self.k, self.strikes)
        return price, self._call(_read(self.longer, variance[:, 1:]), self.k[:-1], self.strikes[:-1])

    def _earned(self, price: Tensor, later: Tensor) -> Tensor:
        """The gain of the worst spread of each kind and smile, negative where all cost something, [batch, spread]."""
        falls = torch.where(self.reached, price[:, :-1] - later, -math.inf)
        return torch.cat([falls.amax(-1), *(excess.amax(-1) for excess in self._butterflies(price))], dim=-1)

    def _call(self, variance: Tensor, k: Tensor, strikes: Tensor) -> Tensor:
        """Black prices of calls per unit of forward, on both sides of the money, so that all round alike."""
        total_vol = variance.clamp_min(_LEAST_VARIANCE).sqrt()
        d1 = -k / total_vol + 0.5 * total_vol
        call: Tensor = torch.special.ndtr(d1) - strikes * torch.special.ndtr(d1 - total_vol)
        return call

    def _butterflies(self, price: Tensor) -> Iterator[Tensor]:
        """Excess of the price of a call over the chord between its neighbours 1, 2, 4, ... points away."""
        points, reach = price.shape[-1], 1
        while 2 * reach < points:
            low, mid, high = (self.strikes[:, s : points - 2 * reach + s] for s in (0, reach, 2 * reach))
            weight = (high - mid) / (high - low)
            left, middle, right = (price[..., s : points - 2 * reach + s] for s in (0, reach, 2 * reach))
            yield middle - weight * left - (1.0 - weight) * right
            reach *= 2


def _read(reader: Tensor, variance: Tensor) -> Tensor:
    """Total variance [batch, tenor, point] from that of nodes."""
    return (variance.transpose(0, 1) @ reader.mT).transpose(0, 1)
