"""The calibration of completions: how large misfits of held-out surfaces are, and how wide intervals must be.

The misfit of n known points is twice the least cost: the squared errors of the points and the squared length of the
latents, each in units of its standard deviation. Under the model it is chi-square with n degrees of freedom. Markets
have calm and wild days: the size of all deviations varies from surface to surface. With a gamma law of its inverse
square, the misfit over n has an F law with n and ``degrees`` degrees of freedom, and intervals widen with the misfit
as those of a Student process do. The model's covariance is taken as the scale matrix of that process. This is wider
than its variance by degrees / (degrees - 2), because the covariance was estimated from the same days. Where points
leave latents open, the posterior is less normal than Laplace's approximation has it. So intervals also have a factor by
the number of points and the sum of the posterior variances of the latents.

Reference: Shah, Wilson, Ghahramani (2014), "Student-t processes as alternatives to Gaussian processes", section 3;
Paulson (1942), "An approximate normalization of the analysis of variance distribution".
"""

import math

import torch
from torch import Tensor, nn

from vae.model.intervals import interval_of
from vae.surface.units import Z90

COUNTS = (1, 2, 3, 4, 5, 7, 10, 20, 40, 100)  # numbers of known points, from each of which scores and factors hold
OPEN = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)  # sums of posterior variances at which the factors of intervals are known
QUANTILES = 1000
NORMAL_DEGREES = 1e9  # for which the F law is a chi-square law


def quantile_shares() -> Tensor:
    """The shares of the quantiles that are kept, [quantile], in float64."""
    return (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES


class Calibration(nn.Module):
    """The law of misfits and the width of intervals; before ``vae.training.calibrate`` those of an exact model.

    Attributes:
        degrees: of freedom of the size of deviations, [].
        factors: of intervals, from each of ``COUNTS`` and at each of ``OPEN``, [count, open].
        scores: of the misfits of held-out surfaces, sorted, for each of ``COUNTS``, [count, quantile].
    """

    degrees: Tensor
    factors: Tensor
    scores: Tensor

    def __init__(self) -> None:
        super().__init__()
        normal = math.sqrt(2.0) * torch.erfinv(2.0 * quantile_shares() - 1.0)
        self.register_buffer("degrees", torch.tensor(NORMAL_DEGREES, dtype=torch.float64))
        self.register_buffer("factors", torch.ones(len(COUNTS), len(OPEN), dtype=torch.float64))
        self.register_buffer("scores", normal.repeat(len(COUNTS), 1))

    def p_value(self, misfit: Tensor, number: Tensor) -> Tensor:
        """Share of held-out surfaces that fit worse, [batch], from misfits and numbers of known points, [batch]."""
        score = self.score(misfit, number)
        larger = (self.scores[row_of(number)].to(score) >= score.unsqueeze(1)).to(score.dtype)
        return larger.sum(1) / QUANTILES  # no mean: CUDA has no kernel for that of double precision

    def score(self, misfit: Tensor, number: Tensor) -> Tensor:
        """The misfit on a scale on which it is near N(0, 1) under the F law, [batch]."""
        degrees = self.degrees.to(misfit)
        root = (misfit / number.clamp_min(1.0)).clamp_min(1e-12) ** (1.0 / 3.0)
        own, other = 2.0 / (9.0 * number.clamp_min(1.0)), 2.0 / (9.0 * degrees)
        return ((1.0 - other) * root - (1.0 - own)) / (other * root.square() + own).sqrt()

    def widening(self, misfit: Tensor, number: Tensor, left_open: Tensor) -> Tensor:
        """Factor of standard deviations, with which mean +- 1.645 deviations are 90 % intervals, [batch].

        Args:
            misfit: of the known points, [batch].
            number: of the known points, [batch].
            left_open: sum of the posterior variances of the latents, [batch].
        """
        return self.of_size(misfit, number) * self._of_open(number, left_open)

    def of_size(self, misfit: Tensor, number: Tensor) -> Tensor:
        """Factor by which the misfit widens intervals, [batch]; the quantile of Student's law by its expansion.

        Reference: Abramowitz, Stegun (1964), equation 26.7.5.
        """
        degrees = self.degrees.to(misfit)
        size = ((degrees + misfit) / (degrees + number)).sqrt()
        own, square = degrees + number, Z90**2
        quantile = 1.0 + (square + 1.0) / (4.0 * own) + ((5.0 * square + 16.0) * square + 3.0) / (96.0 * own.square())
        return size * quantile

    def _of_open(self, number: Tensor, left_open: Tensor) -> Tensor:
        """The factors of these numbers of points, linear between the places where they are known, [batch]."""
        places = torch.tensor(OPEN, dtype=left_open.dtype, device=left_open.device)
        share = ((left_open.unsqueeze(1) - places[:-1]) / (places[1:] - places[:-1])).clamp(0.0, 1.0)
        factors = self.factors[row_of(number)].to(left_open)
        return factors[:, 0] + (share * (factors[:, 1:] - factors[:, :-1])).sum(1)


def row_of(number: Tensor) -> Tensor:
    """The index of the largest of ``COUNTS`` that numbers of known points reach, [batch]."""
    return interval_of(number.unsqueeze(1), torch.tensor(COUNTS[1:], dtype=number.dtype, device=number.device))
