"""Errors of known points at the mode of the posterior: how well the nearest surface fits, and where it does not."""

from typing import NamedTuple

import torch
from torch import Tensor

from vae.model import linear_systems
from vae.model.autoencoder import Vae
from vae.model.noise_precision import NoisePrecision
from vae.model.point_posterior import PointProblem

_LEAST = 1e-300  # a point that is missing has the precision 0


class PointErrors(NamedTuple):
    """Errors of the known points of surfaces or vectors.

    Attributes:
        misfit: chi-square of the errors about the surface at the mode, [batch]; small where there is less noise than
            the model learned, large where no surface of the model fits.
        error: of each point given all other known points, in its standard deviations, [batch, D]; 0 where a point is
            missing. A single wrong point stands out here, as it hardly moves the sum of squares of all.
    """

    misfit: Tensor
    error: Tensor


def point_errors(model: Vae, problem: PointProblem, z: Tensor, curvature: Tensor) -> PointErrors:
    """The errors at latents z [batch, latent], the mode with this curvature [batch, latent, latent], in float64.

    With C the covariance of the noise, H the curvature and J the Jacobian, the points have the precision
    K = C^-1 - C^-1 J' H^-1 J C^-1 once the latents are integrated out, and K times their distance from the mean of the
    prior is C^-1 e, for e their errors at the mode. So the error of a point given the others is (C^-1 e)_i / K_ii, with
    the standard deviation K_ii^-1/2.

    Reference: Rue, Held (2005), "Gaussian Markov random fields", theorem 2.3.
    """
    values, jacobian = model.decode_with_jacobian(z)
    jacobian = (jacobian @ model.basis.T).double()
    natural = model.natural(values).double()
    points, known = problem.points.double(), problem.known.double()
    precision = problem.precision
    error = points - natural
    if model.architecture.likelihood == "bernoulli":
        probability = natural.sigmoid()
        information = probability * (1.0 - probability)
        precision, error = NoisePrecision(known * information), (points - probability) / information
    elif precision is None:
        precision = NoisePrecision(known / model.scale_at(z).double().square())
    pulled = precision.weigh(error.unsqueeze(1)).squeeze(1)
    weighted = precision.weigh(jacobian)
    own = precision.marginal - (weighted * (linear_systems.inverse(curvature) @ weighted)).sum(1)
    standard = torch.where(known > 0.0, pulled / own.clamp_min(_LEAST).sqrt(), 0.0)
    return PointErrors((error * pulled).sum(1), standard)
