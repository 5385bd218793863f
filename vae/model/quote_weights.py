"""Vols between the points of a surface, as a linear map of its squared vols: what latents are fitted to quotes through.

It is the interpolation of ``vae.surface.interpolation``, splines of total variance along a smile, linear in tenor, in
tensors that a graph of ONNX can hold. On a grid in deltas the splines run along the delta, and tenors are joined at
equal delta.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.surface.grid import Grid
from vae.surface.spline import interpolation_matrices

_SLACK = 1e-5  # by which single precision may miss an end of the nodes or tenors, of their range


class Readings(NamedTuple):
    """Where quotes lie on a grid.

    Attributes:
        weights: total variance at a quote is weights @ (vols squared), [quote, D].
        hats: weights of a quote in linear interpolation, for what is positive and no vol, [quote, D].
        nearest: number of the point of the grid nearest to a quote, [quote].
        reached: whether the grid encloses a quote, [quote].
    """

    weights: Tensor
    hats: Tensor
    nearest: Tensor
    reached: Tensor


class Reader(nn.Module):
    """Reads surfaces of a grid at any log-moneyness and tenor that it encloses."""

    tenors: Tensor
    nodes: Tensor
    table: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.convention = grid.convention
        self.reach = float(grid.nodes[0]), float(grid.nodes[-1])
        for name, values in (("tenors", grid.tenors), ("nodes", grid.nodes), ("table", _table(grid.nodes))):
            self.register_buffer(name, torch.from_numpy(np.array(values)))

    def forward(self, k: Tensor, tenor: Tensor, iv: Tensor) -> Readings:
        """Readings at k [quote] and tenor [quote] in years of quotes with vols iv [quote].

        The vols only say where a quote lies on a grid in deltas.
        """
        later = (tenor.unsqueeze(1) > self.tenors).sum(1).clamp(1, len(self.tenors) - 1)
        rows = torch.stack([later - 1, later], dim=1)
        own = self.tenors[rows]
        share = (tenor - own[:, 0]) / (own[:, 1] - own[:, 0])
        within = (share >= -_SLACK) & (share <= 1.0 + _SLACK)
        share = share.clamp(0.0, 1.0)
        parts = torch.stack([1.0 - share, share], dim=1)
        smile = self._smile(self._place(k.unsqueeze(1), tenor.unsqueeze(1), iv.unsqueeze(1), own))
        nearest = rows * len(self.nodes) + smile.nearest
        return Readings(
            weights=self._spread(rows, (parts * own).unsqueeze(2) * smile.weights),
            hats=self._spread(rows, parts.unsqueeze(2) * smile.hats),
            nearest=torch.where(share > 0.5, nearest[:, 1], nearest[:, 0]),
            reached=within & (smile.reached | (parts <= _SLACK)).all(1),
        )

    def _place(self, k: Tensor, tenor: Tensor, iv: Tensor, own: Tensor) -> Tensor:
        """Where quotes [quote, 1] lie along the nodes of the smiles of tenors ``own`` [quote, 2]."""
        if self.convention == "sqrt_time":
            return k / own.sqrt()
        if self.convention == "log_moneyness":
            return k
        deviation = iv * tenor.sqrt()
        return 0.5 * (1.0 + torch.erf((0.5 * deviation - k / deviation) / math.sqrt(2.0)))

    def _smile(self, place: Tensor) -> Readings:
        """The same for places [quote, 2] along the nodes of two smiles: weights and hats are [quote, 2, node]."""
        start, stop = self.reach
        slack = _SLACK * (stop - start)
        reached = (place >= start - slack) & (place <= stop + slack)
        place = place.clamp(start, stop)
        left = (place.unsqueeze(2) >= self.nodes[1:-1]).sum(2)
        step = place - self.nodes[left]
        powers = torch.stack([torch.ones_like(step), step, step * step, step * step * step], dim=2)
        weights = (powers.unsqueeze(3) * self.table[left]).sum(2)
        share = (step / (self.nodes[left + 1] - self.nodes[left])).unsqueeze(2)
        numbers = torch.arange(len(self.nodes), device=place.device)
        before = (left.unsqueeze(2) == numbers).to(place.dtype)
        after = ((left + 1).unsqueeze(2) == numbers).to(place.dtype)
        nearest = left + (share.squeeze(2) > 0.5).to(left.dtype)
        return Readings(weights, (1.0 - share) * before + share * after, nearest, reached)

    def _spread(self, rows: Tensor, smiles: Tensor) -> Tensor:
        """What two smiles [quote, 2, node] in the rows [quote, 2] weigh, on all points, [quote, D]."""
        tenors = torch.arange(len(self.tenors), device=rows.device).unsqueeze(1)
        return ((rows.unsqueeze(1) == tenors).to(smiles.dtype) @ smiles).flatten(1)


def _table(nodes: np.ndarray) -> np.ndarray:
    """Polynomials in the distance from the left node: what each node weighs in each interval, [interval, 4, node]."""
    at = interpolation_matrices(nodes, nodes)
    width = np.diff(nodes)[:, None]
    parts = (at.value[:-1], at.first[:-1], 0.5 * at.second[:-1], np.diff(at.second, axis=0) / (6.0 * width))
    return np.stack(parts, axis=1)
