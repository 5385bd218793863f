"""Vols between the points of a surface, as a linear map of its squared vols: what latents are fitted to quotes through.

It is the interpolation of ``vae.interpolation``, splines of total variance along a smile and linear in the tenor, in
tensors that a graph of ONNX can hold. On a grid in deltas the splines run along the delta, and tenors are joined at
equal delta.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.grid import Grid
from vae.interpolation import readers

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
        first, second = self.tenors[later - 1], self.tenors[later]
        share = (tenor - first) / (second - first)
        weights, hats, nearest, reached = [], [], [], (share >= -_SLACK) & (share <= 1.0 + _SLACK)
        share = share.clamp(0.0, 1.0)
        for index, own, part in ((later - 1, first, 1.0 - share), (later, second, share)):
            smile = self._smile(self._place(k, tenor, iv, own))
            row = (index.unsqueeze(1) == torch.arange(len(self.tenors), device=k.device)).to(k.dtype)
            weights.append(_outer(row * (part * own).unsqueeze(1), smile.weights))
            hats.append(_outer(row * part.unsqueeze(1), smile.hats))
            nearest.append(index * len(self.nodes) + smile.nearest)
            reached = reached & (smile.reached | (part <= _SLACK))
        return Readings(
            weights[0] + weights[1], hats[0] + hats[1], torch.where(share > 0.5, nearest[1], nearest[0]), reached
        )

    def _place(self, k: Tensor, tenor: Tensor, iv: Tensor, own: Tensor) -> Tensor:
        """Where quotes lie along the nodes of the smiles of tenors ``own``, all [quote]."""
        if self.convention == "sqrt_time":
            return k / own.sqrt()
        if self.convention == "log_moneyness":
            return k
        deviation = iv * tenor.sqrt()
        return 0.5 * (1.0 + torch.erf((0.5 * deviation - k / deviation) / math.sqrt(2.0)))

    def _smile(self, place: Tensor) -> Readings:
        """The same for the nodes of one smile."""
        start, stop = self.reach
        slack = _SLACK * (stop - start)
        reached = (place >= start - slack) & (place <= stop + slack)
        place = place.clamp(start, stop)
        left = (place.unsqueeze(1) >= self.nodes[1:-1]).sum(1)
        step = place - self.nodes[left]
        powers = torch.stack([torch.ones_like(step), step, step * step, step * step * step], dim=1)
        weights = (powers.unsqueeze(2) * self.table[left]).sum(1)
        share = (step / (self.nodes[left + 1] - self.nodes[left])).unsqueeze(1)
        numbers = torch.arange(len(self.nodes), device=place.device)
        before = (left.unsqueeze(1) == numbers).to(place.dtype)
        after = ((left + 1).unsqueeze(1) == numbers).to(place.dtype)
        hats = (1.0 - share) * before + share * after
        nearest = left + (share.squeeze(1) > 0.5).to(left.dtype)
        return Readings(weights, hats, nearest, reached)


def _table(nodes: np.ndarray) -> np.ndarray:
    """Polynomials in the distance from the left node: what each node weighs in each interval, [interval, 4, node]."""
    at = readers(nodes, nodes)
    width = np.diff(nodes)[:, None]
    parts = (at.value[:-1], at.first[:-1], 0.5 * at.second[:-1], np.diff(at.second, axis=0) / (6.0 * width))
    return np.stack(parts, axis=1)


def _outer(row: Tensor, smile: Tensor) -> Tensor:
    """Products of [quote, tenor] and [quote, node], [quote, D]."""
    return (row.unsqueeze(2) * smile.unsqueeze(1)).flatten(1)
