"""Interpolates a surface at quotes as a matrix: total variance at each quote = weights @ vol^2.

The matrix is differentiable and can be exported to ONNX. It is the interpolation of ``vae.surface.interpolation``:
splines of total variance along a smile, linear in tenor. On a grid in deltas the splines run along the delta, and
tenors are joined at equal delta.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.surface.grid import Grid
from vae.surface.spline import interpolation_matrices

_SLACK = 1e-5  # share of the range of nodes or tenors by which single precision may miss its ends


class QuoteWeights(NamedTuple):
    """How quotes depend on the points of a grid.

    Attributes:
        spline: total variance at a quote is spline @ (vols squared), [quote, D].
        linear: weights of bilinear interpolation, which keeps positive quantities positive, [quote, D].
        nearest: index of the point of the grid nearest to a quote, [quote].
        inside: whether a quote lies inside the grid, [quote].
    """

    spline: Tensor
    linear: Tensor
    nearest: Tensor
    inside: Tensor


class QuoteInterpolator(nn.Module):
    """Interpolates surfaces of a grid at any log-moneyness and tenor inside it."""

    tenors: Tensor
    nodes: Tensor
    cubics: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.convention = grid.convention
        self.ends = float(grid.nodes[0]), float(grid.nodes[-1])
        for name, values in (("tenors", grid.tenors), ("nodes", grid.nodes), ("cubics", _cubics(grid.nodes))):
            self.register_buffer(name, torch.from_numpy(np.array(values)))

    def forward(self, k: Tensor, tenor: Tensor, iv: Tensor) -> QuoteWeights:
        """Weights of quotes at log-moneyness k, tenor in years and vols iv, each [quote].

        The vols matter on a grid in deltas only: there they give the delta of a quote.
        """
        later = (tenor.unsqueeze(1) > self.tenors).sum(1).clamp(1, len(self.tenors) - 1)
        rows = torch.stack([later - 1, later], dim=1)
        own = self.tenors[rows]
        share = (tenor - own[:, 0]) / (own[:, 1] - own[:, 0])
        within = (share >= -_SLACK) & (share <= 1.0 + _SLACK)
        share = share.clamp(0.0, 1.0)
        parts = torch.stack([1.0 - share, share], dim=1)
        smile = self._smile(self._node_coordinate(k.unsqueeze(1), tenor.unsqueeze(1), iv.unsqueeze(1), own))
        nearest = rows * len(self.nodes) + smile.nearest
        return QuoteWeights(
            spline=self._spread(rows, (parts * own).unsqueeze(2) * smile.spline),
            linear=self._spread(rows, parts.unsqueeze(2) * smile.linear),
            nearest=torch.where(share > 0.5, nearest[:, 1], nearest[:, 0]),
            inside=within & (smile.inside | (parts <= _SLACK)).all(1),
        )

    def _node_coordinate(self, k: Tensor, tenor: Tensor, iv: Tensor, own: Tensor) -> Tensor:
        """Coordinate of quotes [quote, 1] along the nodes of the two smiles at tenors ``own`` [quote, 2]."""
        if self.convention == "sqrt_time":
            return k / own.sqrt()
        if self.convention == "log_moneyness":
            return k
        deviation = iv * tenor.sqrt()
        return 0.5 * (1.0 + torch.erf((0.5 * deviation - k / deviation) / math.sqrt(2.0)))

    def _smile(self, node: Tensor) -> QuoteWeights:
        """Weights at coordinates [quote, 2] along the nodes of two smiles: spline and linear are [quote, 2, node]."""
        start, stop = self.ends
        slack = _SLACK * (stop - start)
        inside = (node >= start - slack) & (node <= stop + slack)
        node = node.clamp(start, stop)
        left = (node.unsqueeze(2) >= self.nodes[1:-1]).sum(2)
        step = node - self.nodes[left]
        powers = torch.stack([torch.ones_like(step), step, step * step, step * step * step], dim=2)
        spline = (powers.unsqueeze(3) * self.cubics[left]).sum(2)
        share = (step / (self.nodes[left + 1] - self.nodes[left])).unsqueeze(2)
        numbers = torch.arange(len(self.nodes), device=node.device)
        before = (left.unsqueeze(2) == numbers).to(node.dtype)
        after = ((left + 1).unsqueeze(2) == numbers).to(node.dtype)
        nearest = left + (share.squeeze(2) > 0.5).to(left.dtype)
        return QuoteWeights(spline, (1.0 - share) * before + share * after, nearest, inside)

    def _spread(self, rows: Tensor, smiles: Tensor) -> Tensor:
        """Weights on all points, [quote, D], from those on the smiles [quote, 2, node] of two rows [quote, 2]."""
        tenors = torch.arange(len(self.tenors), device=rows.device).unsqueeze(1)
        return ((rows.unsqueeze(1) == tenors).to(smiles.dtype) @ smiles).flatten(1)


def _cubics(nodes: np.ndarray) -> np.ndarray:
    """The spline's weight of each node, as a cubic in the distance from the left node, [interval, 4, node]."""
    at = interpolation_matrices(nodes, nodes)
    width = np.diff(nodes)[:, None]
    parts = (at.value[:-1], at.first[:-1], 0.5 * at.second[:-1], np.diff(at.second, axis=0) / (6.0 * width))
    return np.stack(parts, axis=1)
