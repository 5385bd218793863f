"""Monotone rational-quadratic splines: smooth, invertible functions of a number whose shape is learned.

Inside [-bound, bound] a spline passes through knots with a slope at each; outside it is a straight line with the slope
of the last knot, which is learned too: so the tails of a law can be as short as those of its data. That slope is at
least 1. A flow draws from the inverse, and out there are hardly any data: a flatter line would throw its rarest draws
far from all of them.

Reference: Gregory, Delbourgo (1982), "Piecewise rational quadratic interpolation to monotonic data"; as layers of a
flow Durkan, Bekasov, Murray, Papamakarios (2019), "Neural spline flows", arXiv:1906.04032, section 3.1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softmax

LEAST_SHARE = 1e-3  # of a bin in the whole width or height
STEEPEST = math.log(1e3)  # logarithm of the slope at a knot; the flattest is its inverse
LEAST_TAIL = 1.0  # slope of the lines beyond the knots


class Splines(NamedTuple):
    """Splines by their knots.

    Attributes:
        x, y: places and values of the knots, which rise, [*batch, bins + 1].
        slope: at the knots, [*batch, bins + 1].
    """

    x: Tensor
    y: Tensor
    slope: Tensor


class _Bin(NamedTuple):
    """The piece of a spline that a number falls into, each [*batch]: its corner, width, height and end slopes."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor


def parameters(bins: int) -> int:
    """Number of parameters of a spline; all 0, it is the identity."""
    return 3 * bins + 1


def splines(raw: Tensor, bound: float) -> Splines:
    """The splines on [-bound, bound] of any parameters raw [*batch, parameters]."""
    bins = (raw.shape[-1] - 1) // 3
    shares, slopes = raw.split([2 * bins, bins + 1], -1)
    shares = LEAST_SHARE + (1.0 - bins * LEAST_SHARE) * softmax(shares.unflatten(-1, (2, bins)), -1)
    rising = 2.0 * bound * torch.cat([torch.zeros_like(shares[..., :1]), shares.cumsum(-1)], -1) - bound
    x, y = rising.unbind(-2)
    return Splines(x, y, (STEEPEST * torch.tanh(slopes / STEEPEST)).exp())


def evaluate(spline: Splines, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values at x [*batch], and the logarithms of the slopes there."""
    inside = _clamped(x, spline.x)
    part = _bin(spline, inside, spline.x)
    mean = part.height / part.width
    along = (inside - part.x) / part.width
    rest = 1.0 - along
    both = along * rest
    scale = mean + (part.left + part.right - 2.0 * mean) * both
    value = part.y + part.height * (mean * along.square() + part.left * both) / scale
    slope = (part.right * along.square() + 2.0 * mean * both + part.left * rest.square()) * (mean / scale).square()
    tail = _tail(spline, x)
    return value + tail * (x - inside), torch.where(x == inside, slope, tail).log()


def invert(spline: Splines, y: Tensor) -> Tensor:
    """The numbers x [*batch] at which the splines have the values y [*batch]: roots of a quadratic equation."""
    inside = _clamped(y, spline.y)
    part = _bin(spline, inside, spline.y)
    mean, above = part.height / part.width, inside - part.y
    bend = above * (part.left + part.right - 2.0 * mean)
    a = part.height * (mean - part.left) + bend
    b = part.height * part.left - bend
    c = -mean * above
    root = 2.0 * c / (-b - (b.square() - 4.0 * a * c).clamp(min=0.0).sqrt())
    return part.x + root * part.width + (y - inside) / _tail(spline, y)


def _clamped(number: Tensor, knots: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(number, knots[..., 0]), knots[..., -1])


def _bin(spline: Splines, number: Tensor, knots: Tensor) -> _Bin:
    """The piece of each number [*batch] between knots [*batch, bins + 1], which are those of x or of y."""
    left = (number.detach().unsqueeze(-1) >= knots.detach()[..., 1:-1]).sum(-1, keepdim=True)
    ends = torch.cat([left, left + 1], -1)
    values = (part.expand(*number.shape, -1).gather(-1, ends).unbind(-1) for part in spline)
    (x, x_next), (y, y_next), (slope, slope_next) = values
    return _Bin(x, y, x_next - x, y_next - y, slope, slope_next)


def _tail(spline: Splines, number: Tensor) -> Tensor:
    """Slope of the straight line beyond the knots on the side of a number, [*batch]."""
    return torch.where(number < 0.0, spline.slope[..., 0], spline.slope[..., -1]).clamp_min(LEAST_TAIL)
