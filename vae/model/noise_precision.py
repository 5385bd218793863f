"""The inverse covariance of the errors of known points: independent noise and residual factors, by Woodbury's identity.

The covariance of the errors is V + F F', V diagonal. With P = V^-1 and M = I + F'P F, its inverse is
P - P F M^-1 F'P and its determinant |V| |M|. So the cost is linear in the number of points.

Reference: Woodbury (1950), "Inverting modified matrices"; Petersen, Pedersen (2012), "The Matrix Cookbook",
equation 156.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from vae.model import linear_systems


class NoisePrecision(NamedTuple):
    """The inverse covariance of the errors of known points, in float64.

    Attributes:
        diagonal: P, 0 where a point is not known, [batch or 1, point].
        factors: F at the points, [batch, point, factor] or [point, factor]; None where the noise is independent.
        factor_covariance: M^-1, the covariance of the factors' scores given the errors, [batch or 1, factor, factor].
    """

    diagonal: Tensor
    factors: Tensor | None = None
    factor_covariance: Tensor | None = None

    @classmethod
    def of(cls, diagonal: Tensor, factors: Tensor | None) -> Self:
        """From P [batch or 1, point] and F at the points, [batch, point, factor] or [point, factor]."""
        diagonal = diagonal.double()
        if factors is None:
            return cls(diagonal)
        factors = factors.double()
        inner = (factors * diagonal.unsqueeze(2)).mT @ factors
        identity = torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
        return cls(diagonal, factors, linear_systems.inverse(inner + identity))

    def weigh(self, rows: Tensor) -> Tensor:
        """Rows [batch, row, point] times the inverse covariance."""
        weighted = rows * self.diagonal.unsqueeze(1)
        if self.factors is None:
            return weighted
        return weighted - self.scores(rows) @ self.factors.mT * self.diagonal.unsqueeze(1)

    def products(self, rows: Tensor) -> Tensor:
        """Products of rows [batch, row, point] with each other under the inverse covariance, [batch, row, row]."""
        weighted = rows * self.diagonal.unsqueeze(1)
        if self.factors is None or self.factor_covariance is None:
            return weighted @ rows.mT
        along = weighted @ self.factors
        return weighted @ rows.mT - along @ self.factor_covariance @ along.mT

    def scores(self, rows: Tensor) -> Tensor:
        """Mean scores of the factors given errors, [batch, row, factor], of rows of errors [batch, row, point].

        Raises:
            ValueError: there are no factors.
        """
        if self.factors is None or self.factor_covariance is None:
            raise ValueError("independent noise has no factors")
        return (rows * self.diagonal.unsqueeze(1)) @ self.factors @ self.factor_covariance

    def left(self, factors: Tensor) -> Tensor:
        """Variance that the errors leave of points, [batch or 1, point].

        ``factors`` are those of the points, [point, factor] or [batch, point, factor].

        Raises:
            ValueError: there are no factors.
        """
        if self.factor_covariance is None:
            raise ValueError("independent noise has no factors")
        return ((factors @ self.factor_covariance) * factors).sum(2)

    def covariance_left(self, factors: Tensor) -> Tensor:
        """Covariance that errors leave of numbers with these factors [number, factor], [batch or 1, number, number].

        Raises:
            ValueError: there are no factors.
        """
        if self.factor_covariance is None:
            raise ValueError("independent noise has no factors")
        return factors @ self.factor_covariance @ factors.mT

    @property
    def marginal(self) -> Tensor:
        """The diagonal of the inverse covariance, [batch or 1, point]."""
        if self.factors is None:
            return self.diagonal
        return self.diagonal - self.diagonal.square() * self.left(self.factors)

    @property
    def log_determinant(self) -> Tensor:
        """log |M|, which the factors add to the log determinant of the covariance, [batch or 1]."""
        if self.factor_covariance is None:
            return self.diagonal.new_zeros(1)
        return -linear_systems.log_determinant(self.factor_covariance)
