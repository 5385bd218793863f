"""The Heston model: its parameters and its characteristic function.

Legend of the formulas: u the Fourier variable on the line z = u - i/2 or a contour through the same point,
q = u^2 + 1/4, phi the characteristic function of ln(S_T/F). A row is one model at one tenor T.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vae.pricing import complex_pairs
from vae.pricing.complex_pairs import Pair

PARAMETERS = ("v0", "kappa", "theta", "vol_of_vol", "rho")


class Heston(NamedTuple):
    """Parameters of dv = kappa (theta - v) dt + vol_of_vol sqrt(v) dW, each of shape [*batch].

    v0 and theta are variances (1/yr), kappa is in 1/yr, rho is the correlation of price and variance.
    """

    v0: Tensor
    kappa: Tensor
    theta: Tensor
    vol_of_vol: Tensor
    rho: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "Heston":
        """Parameters from a tensor [*batch, 5] whose last axis is ordered as ``PARAMETERS``."""
        return cls(*parameters.to(torch.float64).unbind(-1))


def log_characteristic_function(model: Heston, tenor: Tensor, u: Pair) -> Pair:
    """Logarithm of E[exp(i z X)], X = ln(S_T/F), at z = u - i/2.

    There z^2 + i z = q = u^2 + 1/4. With beta = kappa - i rho vol_of_vol z and d^2 = beta^2 + vol_of_vol^2 q,
    (beta - d)/vol_of_vol^2 = -q/(beta + d): nothing is divided by a small vol of vol.

    Reference: Albrecher, Mayer, Schoutens, Tistaert (2007), "The little Heston trap" (the branch that never wraps);
    Andersen, Lake (2019), "Robust high-precision option pricing by Fourier transforms".

    Args:
        model: parameters of shape [row].
        tenor: years, [row].
        u: nodes of shape [node, 1] for all rows or [node, row] for each; a single one is [1] or [row]. Vector units
            work along the last axis, and rows are many.

    Returns:
        Real and imaginary part, both [node, row], or [row] at a single node.
    """
    v0, kappa, theta, xi, rho = model
    slope, xi_squared = rho * xi, xi.square()
    base = kappa - 0.5 * slope
    square = u.times(u)
    q = Pair(square.re + 0.25, square.im)
    beta = Pair(torch.addcmul(base, slope, u.im), -slope * u.re)
    line, curvature = 2.0 * base * slope, xi_squared * (1.0 - rho.square())
    d = complex_pairs.sqrt_right_half_plane(
        Pair(
            torch.addcmul(torch.addcmul(base.square() + 0.25 * xi_squared, line, u.im), curvature, square.re),
            torch.addcmul(curvature * square.im, -line, u.re),
        )
    )
    # (beta - d)/xi^2 by whichever of its two forms subtracts nothing in its real part.
    added = (beta.re >= 0.0).to(beta.re)
    sign = 2.0 * added - 1.0  # abs() has the same value, but no derivative at 0
    whole = Pair(torch.addcmul(d.re, sign, beta.re), torch.addcmul(d.im, sign, beta.im))
    quotient, factor = q.scaled(-added).over(whole), (added - 1.0) / xi_squared
    drift = Pair(torch.addcmul(quotient.re, whole.re, factor), torch.addcmul(quotient.im, whole.im, factor))
    decay = complex_pairs.expm1(d.scaled(-tenor))
    ratio = decay.over(d)  # -2 times (1 - e^{-dT}) / 2d
    growth = drift.times(ratio).scaled(-0.5 * xi_squared)
    log_growth = complex_pairs.log1p(growth)
    spot_variance = q.times(ratio).over(Pair(1.0 + growth.re, growth.im))
    level, mean = 0.5 * v0, kappa * theta
    return Pair(
        mean * (drift.re * tenor - log_growth.re * (2.0 / xi_squared)) + level * spot_variance.re,
        mean * (drift.im * tenor - log_growth.im * (2.0 / xi_squared)) + level * spot_variance.im,
    )
