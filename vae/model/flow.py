"""A flow of splines: an invertible map from N(0, I) to latents, fitted to codes by maximum likelihood.

A mixture of Gaussians has tails where there are no data. The splines bend N(0, I) into a law that ends where the codes
end. Each layer turns the point, then maps half of its coordinates by splines that the other half chooses; so both
directions take one pass. A last spline for each coordinate fits the margins.

Reference: Durkan, Bekasov, Murray, Papamakarios (2019), "Neural spline flows", arXiv:1906.04032; Dinh, Sohl-Dickstein,
Bengio (2017), "Density estimation using Real NVP", arXiv:1605.08803.
"""

import math
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae.model import rational_quadratic as rq

Array = NDArray[np.float64]

BOUND = 4.0  # of the splines of layers, in standard deviations
# A spline ends at this number on both sides. No draw gets that far; where a margin's data end sooner, the draws beyond
# them are spread up to here, and with 4 one in 10,000 landed far from all codes.
MARGIN_BOUND = 6.0
_MARGIN_BINS = 16
_MARGIN_RATE = 10.0  # these parameters have no network that would multiply the steps of a fit
_ROWS = 16_384  # rows at a time: bounds the memory


class FlowShape(NamedTuple):
    """Sizes of a flow.

    Attributes:
        dimension: of the points.
        layers: number of layers; a flow of one dimension has none.
        width: hidden units of the networks that choose the splines.
        bins: of these splines.
    """

    dimension: int
    layers: int
    width: int = 32
    bins: int = 8


class Flow(nn.Module):
    """A law of points [d], whose parameters are those of the map."""

    center: Tensor
    factor: Tensor

    def __init__(self, shape: FlowShape) -> None:
        super().__init__()
        self.shape, dimension = shape, shape.dimension
        self.register_buffer("center", torch.zeros(dimension))
        self.register_buffer("factor", torch.eye(dimension))
        count = shape.layers if dimension > 1 else 0
        self.layers = nn.Sequential(*(Coupling(shape) for _ in range(count)))  # from the normal numbers to the points
        self.margins = nn.Parameter(torch.zeros(dimension, rq.parameters(_MARGIN_BINS)))

    @classmethod
    def of_codes(cls, codes: Tensor, shape: FlowShape) -> Self:
        """The flow with which a fit to codes [n, d] starts: it has their mean and covariance."""
        flow = cls(shape)
        flow.center.copy_(codes.mean(0))
        flow.factor.copy_(torch.linalg.cholesky(torch.cov(codes.T).reshape(shape.dimension, -1)))
        return flow

    @property
    def dimension(self) -> int:
        """Dimension of the points."""
        return self.shape.dimension

    def forward(self, normal: Tensor) -> Tensor:
        """The points [batch, d] of numbers of N(0, I), [batch, d]."""
        bent: Tensor = self.layers(rq.invert(self.margin_splines(), normal))
        return self.center + bent @ self.factor.T

    def log_densities(self, z: Tensor) -> Tensor:
        """log p(z) in nats, [batch], of z [batch, d], as a function of the parameters."""
        y = torch.linalg.solve_triangular(self.factor, (z - self.center).T, upper=False).T
        total = -self.factor.diagonal().log().sum()
        for layer in reversed(self.couplings()):
            y, log_slope = layer.inward(y)
            total = total + log_slope
        normal, log_slopes = rq.evaluate(self.margin_splines(), y)
        standard = -0.5 * (normal.square() + math.log(2.0 * math.pi))
        return total + (standard + log_slopes).sum(1)

    def log_density(self, z: Array) -> Array:
        """log p(z) in nats, [*batch], of z [*batch, d]."""
        rows = torch.from_numpy(z.reshape(-1, self.dimension))
        with torch.no_grad():
            found: Array = torch.cat([self.log_densities(part) for part in rows.split(_ROWS)]).numpy()
        return found.reshape(z.shape[:-1])

    def sample(self, uniform: Array, normal: Array) -> Array:
        """Draws [batch, d] made from numbers of N(0, I), [batch, d]; a flow needs no uniform numbers."""
        del uniform
        with torch.no_grad():
            draws: Array = torch.cat([self(part) for part in torch.from_numpy(normal).split(_ROWS)]).numpy()
        return draws

    def couplings(self) -> "list[Coupling]":
        """The layers, from the normal numbers to the points."""
        return [layer for layer in self.layers if isinstance(layer, Coupling)]

    def margin_splines(self) -> rq.Splines:
        """The splines of the margins, one for each coordinate, on ``MARGIN_BOUND`` each way."""
        return rq.splines(_MARGIN_RATE * self.margins, MARGIN_BOUND)


class Coupling(nn.Module):
    """Splines of the second half of the coordinates that the first half chooses, then a linear map of all."""

    def __init__(self, shape: FlowShape) -> None:
        super().__init__()
        self.kept = shape.dimension // 2
        self.mapped, width = shape.dimension - self.kept, shape.width
        self.chooser = nn.Sequential(
            nn.Linear(self.kept, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, self.mapped * rq.parameters(shape.bins)),
        )
        for parameter in self.chooser[-1].parameters():  # all splines start as the identity
            nn.init.zeros_(parameter)
        self.turn = nn.Parameter(nn.init.orthogonal_(torch.empty(shape.dimension, shape.dimension)))

    def forward(self, y: Tensor) -> Tensor:
        """From the normal numbers to the points, [batch, d]."""
        kept, mapped = y[:, : self.kept], y[:, self.kept :]
        return torch.cat([kept, rq.invert(self._splines(kept), mapped)], 1) @ self.turn.T

    def inward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """From the points to the normal numbers, [batch, d], and the logarithm of the Jacobian, [batch]."""
        turned = torch.linalg.solve(self.turn, y.T).T
        kept, mapped = turned[:, : self.kept], turned[:, self.kept :]
        values, log_slopes = rq.evaluate(self._splines(kept), mapped)
        return torch.cat([kept, values], 1), log_slopes.sum(1) - self.turn.slogdet().logabsdet

    def _splines(self, kept: Tensor) -> rq.Splines:
        return rq.splines(self.chooser(kept).unflatten(1, (self.mapped, -1)), BOUND)
