"""Interpolates a surface at quotes as a matrix: total variance at each quote = vol^2 @ weights.

The matrix is differentiable and can be exported to ONNX. It is the interpolation of ``vae.surface.interpolation``:
splines along the nodes, local cubics between tenors. On a grid in deltas the splines run along the delta.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.model.intervals import interval_of
from vae.surface import term_structure
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError
from vae.surface.spline import Array, Spline, cubic_weights

_SLACK = 1e-5  # share of the range of nodes or tenors by which single precision may miss its ends


class QuoteWeights(NamedTuple):
    """How quotes depend on the points of a grid.

    Attributes:
        spline: total variance at a quote is (vols squared) @ spline, [D, quote].
        linear: weights of bilinear interpolation, which keeps positive quantities positive, [D, quote].
        nearest: index of the point of the grid nearest to a quote, [quote].
        inside: whether a quote lies inside the grid, [quote].
        variance: of the error of the vol that is read at a quote, 0 at the points of the grid, [quote].
    """

    spline: Tensor
    linear: Tensor
    nearest: Tensor
    inside: Tensor
    variance: Tensor


class QuoteInterpolator(nn.Module):
    """Interpolates surfaces of a grid at any log-moneyness and tenor inside it.

    Args:
        grid: of the surfaces.
        error: of reading between the points; none by default.
    """

    tenor_error: Tensor
    node_error: Tensor

    def __init__(self, grid: Grid, error: ReadingError | None = None) -> None:
        super().__init__()
        self.convention = grid.convention
        for name, values in (error or ReadingError.none(grid))._asdict().items():
            self.register_buffer(f"{name}_error", torch.tensor(values))
        self.terms = Axis(term_structure.coordinate(grid.tenors), Spline.local)
        self.smiles = Axis(grid.nodes, Spline.through)

    def forward(self, k: Tensor, tenor: Tensor, iv: Tensor) -> QuoteWeights:
        """Weights of quotes at log-moneyness k, tenor in years and vols iv, each [quote].

        The vols matter on a grid in deltas only: there they give the delta of a quote.
        """
        root = tenor.sqrt()
        term, smile = self.terms(root / (1.0 + root)), self.smiles(self._node(k, root, iv))
        between_tenors = term.bump * (self.tenor_error.index_select(0, term.left) * smile.linear).sum(1)
        between_nodes = smile.bump * (term.linear @ self.node_error).gather(1, smile.left.unsqueeze(1)).squeeze(1)
        return QuoteWeights(
            spline=_products(tenor.unsqueeze(1) * term.cubic, smile.cubic),
            linear=_products(term.linear, smile.linear),
            nearest=term.nearest * len(self.smiles.knots) + smile.nearest,
            inside=term.inside & smile.inside,
            variance=between_tenors.square() + between_nodes.square(),
        )

    def _node(self, k: Tensor, root: Tensor, iv: Tensor) -> Tensor:
        """Coordinate of quotes along the nodes; ``root`` is sqrt(tenor); all [quote]."""
        if self.convention == "sqrt_time":
            return k / root
        if self.convention == "log_moneyness":
            return k
        deviation = iv * root
        return 0.5 * (1.0 + torch.erf((0.5 * deviation - k / deviation) / math.sqrt(2.0)))


class AxisWeights(NamedTuple):
    """How points on an axis depend on its knots.

    Attributes:
        cubic, linear: weights of the knots in the cubics and in the line between two knots, [point, knot].
        left, nearest: index of the knot before a point, and of the nearest one, [point].
        inside: whether a point lies between the ends, [point].
        bump: 0 at the knots and 1 in the middle between two, the shape of the error of reading, [point].
    """

    cubic: Tensor
    linear: Tensor
    left: Tensor
    nearest: Tensor
    inside: Tensor
    bump: Tensor


class Axis(nn.Module):
    """Weights of the knots of one axis of a grid, [knot], in the curves through them.

    Tables have a row for each interval between two knots. Rows are taken by ``index_select``, which becomes one node of
    a graph; an index in brackets becomes three.
    """

    knots: Tensor
    widths: Tensor
    cubics: Tensor
    before: Tensor
    rises: Tensor

    def __init__(self, knots: Array, curve: Callable[[Array, Array], Spline]) -> None:
        super().__init__()
        self.ends = float(knots[0]), float(knots[-1])
        at_knot = np.eye(len(knots))
        tables = {
            "knots": knots,
            "widths": np.diff(knots),
            "cubics": cubic_weights(knots, curve),
            "before": at_knot[:-1],
            "rises": np.diff(at_knot, axis=0),
        }
        for name, values in tables.items():
            self.register_buffer(name, torch.tensor(values))

    def forward(self, at: Tensor) -> AxisWeights:
        """Weights at points [point]; those of a point outside are those of the nearer end."""
        start, stop = self.ends
        slack = _SLACK * (stop - start)
        inside = (at >= start - slack) & (at <= stop + slack)
        at = at.clamp(start, stop)
        left = interval_of(at.unsqueeze(1), self.knots[1:-1])
        step = at - self.knots.index_select(0, left)
        share = step / self.widths.index_select(0, left)
        constant, first, second, third = (table.index_select(0, left) for table in self.cubics.unbind(1))
        along = step.unsqueeze(1)
        return AxisWeights(
            cubic=constant + along * (first + along * (second + along * third)),
            linear=self.before.index_select(0, left) + share.unsqueeze(1) * self.rises.index_select(0, left),
            left=left,
            nearest=left + (share > 0.5).to(left.dtype),
            inside=inside,
            bump=4.0 * share * (1.0 - share),
        )


def _products(terms: Tensor, smiles: Tensor) -> Tensor:
    """Weights of all points, [D, quote], from those of tenors [quote, tenor] and of nodes [quote, node].

    The quotes are the last axis, which is the longest, so that the product runs over contiguous memory.
    """
    return (terms.T.unsqueeze(1) * smiles.T.unsqueeze(0)).flatten(0, 1)
