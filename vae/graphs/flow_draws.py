"""Draws of a flow as onnxruntime makes them fastest: a column for each draw, and products in place of look-ups.

A kernel works along the last axis, which here has the draws of all coordinates; the parameters of splines, of which
there are a few dozen, come first. The piece of a spline that a number falls into has a weight of 1 and the others 0, so
that its ends are sums of products, and no number is looked up.

The law is that of ``vae.model.flow``, with the splines of ``vae.model.rational_quadratic``.
"""

import math

import torch
from torch import Tensor, nn

from vae.model.flow import BOUND, MARGIN_BOUND, Coupling, Flow
from vae.model.rational_quadratic import LEAST_SHARE, LEAST_TAIL, STEEPEST, Splines


class FlowDraws(nn.Module):
    """Numbers of N(0, I) [batch, d] -> points [batch, d] of a law."""

    center: Tensor
    factor: Tensor

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.register_buffer("center", flow.center.unsqueeze(1))
        self.register_buffer("factor", flow.factor)
        self.margins = _Fixed(flow.margin_splines())
        self.couplings = nn.Sequential(*(_Chosen(coupling) for coupling in flow.couplings()))

    def forward(self, normal: Tensor) -> Tensor:
        """The points."""
        bent = self.couplings(self.margins(normal.T))
        return torch.addmm(self.center, self.factor, bent).T


class _Fixed(nn.Module):
    """Inverses of splines that do not depend on the draw, one for each coordinate: y [d, batch] -> x."""

    inner: Tensor
    first: Tensor
    steps: Tensor

    def __init__(self, splines: Splines) -> None:
        super().__init__()
        x, y, slope = (part.detach() for part in splines)
        ends = [y[:, :-1], y.diff(), x[:, :-1], x.diff(), 0.5 * slope[:, :-1], 0.5 * slope[:, 1:]]
        pieces = torch.stack(ends, 1)  # [d, end, bin]
        self.register_buffer("inner", y[:, 1:-1].unsqueeze(2))
        self.register_buffer("first", pieces[:, :, :1])
        self.register_buffer("steps", pieces.diff())

    def forward(self, y: Tensor) -> Tensor:
        """The numbers x [d, batch] at which the splines have the values y."""
        inside = y.clamp(-MARGIN_BOUND, MARGIN_BOUND)
        reached = (inside.unsqueeze(1) >= self.inner).to(y.dtype)  # [d, bin - 1, batch]
        return _root(y, inside, *(self.first + self.steps @ reached).unbind(1))


class _Chosen(nn.Module):
    """One layer: splines of the second half of the coordinates that the first half chooses, then the turn."""

    sizes_weight: Tensor
    sizes_bias: Tensor
    slopes_weight: Tensor
    slopes_bias: Tensor
    below: Tensor
    lowest: Tensor
    differences: Tensor
    one: Tensor

    def __init__(self, coupling: Coupling) -> None:
        super().__init__()
        first, act, second, _, last = coupling.chooser
        if not (isinstance(first, nn.Linear) and isinstance(second, nn.Linear) and isinstance(last, nn.Linear)):
            raise TypeError(f"the network of a coupling is {coupling.chooser}, not three linear layers")
        self.kept, self.mapped = coupling.kept, coupling.mapped
        self.first, self.second, self.act, self.turn = first, second, act, coupling.turn
        weight, bias = last.weight.unflatten(0, (self.mapped, -1)), last.bias.unflatten(0, (self.mapped, -1))
        bins = self.bins = (weight.shape[1] - 1) // 3
        left = torch.arange(2 * bins, 3 * bins)
        ends = torch.cat([left, left + 1])
        # Parameters first, coordinates second. Tanh takes the slopes in units of the steepest.
        for name, rows, unit in (("sizes", slice(2 * bins), 1.0), ("slopes", ends, 1.0 / STEEPEST)):
            self.register_buffer(f"{name}_weight", (unit * weight[:, rows].transpose(0, 1).flatten(0, 1)).detach())
            self.register_buffer(f"{name}_bias", (unit * bias[:, rows].T.reshape(-1, 1)).detach())
        self.least, self.room = 2.0 * BOUND * LEAST_SHARE, 2.0 * BOUND * (1.0 - bins * LEAST_SHARE)
        square = torch.ones(bins, bins).to(bias)
        self.register_buffer("below", square.tril(-1))
        self.register_buffer("lowest", (self.least * torch.arange(bins).to(bias) - BOUND).unsqueeze(1))
        self.register_buffer("differences", (square.tril(-1).triu(-1) - torch.eye(bins).to(bias))[:, :-1])
        self.register_buffer("one", torch.eye(bins).to(bias)[:, :1])

    def forward(self, points: Tensor) -> Tensor:
        """From the normal numbers to the points, [d, batch]."""
        kept, mapped = points[: self.kept], points[self.kept :]
        hidden = self.act(_of_columns(self.first, kept))
        hidden = self.act(_of_columns(self.second, hidden))
        y = mapped.reshape(1, -1)
        raw = torch.addmm(self.sizes_bias, self.sizes_weight, hidden).reshape(2, self.bins, -1)
        grown = (raw - raw.amax(1, keepdim=True)).exp()
        size = grown * (self.room / grown.sum(1, keepdim=True))  # beyond the least, [x or y, bin, draw]
        corner = self.below @ size + self.lowest
        inside = y.clamp(-BOUND, BOUND)
        reached = (inside >= corner[1, 1:]).to(y.dtype)
        chosen = torch.addmm(self.one, self.differences, reached)  # 1 for one piece, [bin, draw]
        width, height = ((size * chosen).sum(1, keepdim=True) + self.least).unbind()
        x_corner, y_corner = (corner * chosen).sum(1, keepdim=True).unbind()
        slopes = torch.addmm(self.slopes_bias, self.slopes_weight, hidden).reshape(2, self.bins, -1)
        steepness = (slopes * chosen).sum(1, keepdim=True)
        left, right = (STEEPEST * steepness.tanh() - math.log(2.0)).exp().unbind()
        x = _root(y, inside, y_corner, height, x_corner, width, left, right)
        kept_turn, mapped_turn = self.turn[:, : self.kept], self.turn[:, self.kept :]
        return torch.addmm(kept_turn @ kept, mapped_turn, x.reshape(self.mapped, -1))


def _of_columns(layer: nn.Linear, columns: Tensor) -> Tensor:
    """A linear layer of columns [input, batch]."""
    return torch.addmm(layer.bias.unsqueeze(1), layer.weight, columns)


def _root(
    y: Tensor,
    inside: Tensor,
    y_corner: Tensor,
    height: Tensor,
    x_corner: Tensor,
    width: Tensor,
    half_left: Tensor,
    half_right: Tensor,
) -> Tensor:
    """The numbers at which pieces of splines have the values y, as ``rational_quadratic.invert``, all of one shape.

    ``inside`` is y within the ends of the spline. Slopes are halved, which leaves out the factors of the quadratic
    formula; its discriminant is written as a sum of what is not negative within a piece.
    """
    mean, above = height / width, inside - y_corner
    along = above / height
    b = half_left - along * (half_left + half_right - mean)
    risen = mean * along
    off = b - risen
    root = (off * off + risen * (mean - risen)).clamp(min=0.0).sqrt()
    half_tail = torch.where(y < 0.0, half_left, half_right).clamp(min=0.5 * LEAST_TAIL)
    return x_corner + above / (b + root) + 0.5 * (y - inside) / half_tail
