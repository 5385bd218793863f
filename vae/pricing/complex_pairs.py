"""Complex numbers as pairs of real tensors.

torch's complex kernels are several times slower than the same arithmetic on real and imaginary parts,
and its complex ``log1p`` and ``expm1`` lose digits near 0, which a price at a small vol of vol needs.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor


class Pair(NamedTuple):
    """The complex numbers re + i im, element by element."""

    re: Tensor
    im: Tensor

    def times(self, other: "Pair") -> "Pair":
        """Product of two complex tensors."""
        return Pair(
            self.re * other.re - self.im * other.im,
            self.re * other.im + self.im * other.re,
        )

    def over(self, other: "Pair") -> "Pair":
        """Quotient of two complex tensors."""
        scale = 1.0 / (other.re.square() + other.im.square())
        return Pair(
            (self.re * other.re + self.im * other.im) * scale,
            (self.im * other.re - self.re * other.im) * scale,
        )

    def scaled(self, factor: Tensor | float) -> Self:
        """Product with a real number or tensor."""
        return self._replace(re=self.re * factor, im=self.im * factor)


def sqrt_right_half_plane(z: Pair) -> Pair:
    """Principal square root of numbers with a positive real part (no cancellation there)."""
    size = torch.sqrt(torch.addcmul(z.re.square(), z.im, z.im))
    re = torch.sqrt(0.5 * (size + z.re))
    return Pair(re, 0.5 * z.im / re)


def exp(z: Pair) -> Pair:
    """e^z."""
    size = torch.exp(z.re)
    return Pair(size * torch.cos(z.im), size * torch.sin(z.im))


def expm1(z: Pair) -> Pair:
    """e^z - 1, accurate for small z."""
    less, half = torch.expm1(z.re), 0.5 * z.im
    sine, cosine = torch.sin(half), torch.cos(half)
    size, squared = less + 1.0, 2.0 * sine.square()
    return Pair(less - squared * size, 2.0 * size * sine * cosine)


def log1p(z: Pair) -> Pair:
    """Principal logarithm of 1 + z, accurate for small z."""
    re = 0.5 * torch.log1p(2.0 * z.re + z.re.square() + z.im.square())
    return Pair(re, torch.atan2(z.im, 1.0 + z.re))
