"""The exact log density of simulated observations: that of the law which made them."""

import math

import torch
from torch import Tensor


def log_likelihood(jacobian: Tensor, noise: Tensor, *, scale: float, log_volume: float) -> Tensor:
    """Log density in nats of x = f(theta) + noise, theta uniform on a box of R^r, noise ~ N(0, scale^2 I) in R^D.

    The integral over theta is Laplace's approximation, with f linear about the true theta. It is exact as scale goes
    to 0. It is good while, within the posterior of theta, f is nearly linear and no side of the box is near. With Q R
    the decomposition of the Jacobian and e the part of the noise outside of the span of Q,

        log p(x) = -log_volume - log|det R| - (D - r)/2 log(2 pi scale^2) - |e|^2 / (2 scale^2).

    The mean of no model's log density exceeds the mean of the exact one, except by chance: the difference is the
    Kullback-Leibler divergence of the model from the law. The same holds for every lower bound, such as the ELBO.

    Args:
        jacobian: of f at the true parameters, [batch, D, r], of rank r < D.
        noise: the noise e that was added, [batch, D].
        scale: standard deviation of the noise, > 0.
        log_volume: logarithm of the volume of the box.

    Returns:
        Nats, [batch].
    """
    dimension, parameters = jacobian.shape[-2:]
    q, r = torch.linalg.qr(jacobian)
    along = (q.transpose(-2, -1) @ noise.unsqueeze(-1)).squeeze(-1)
    across = noise.square().sum(-1) - along.square().sum(-1)
    log_determinant = r.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    constant = log_volume + 0.5 * (dimension - parameters) * math.log(2.0 * math.pi * scale**2)
    density: Tensor = -(constant + log_determinant + 0.5 * across / scale**2)
    return density
