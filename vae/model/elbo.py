"""The evidence lower bound and the importance-weighted bound, as named parts, in nats for each observation.

Where points are missing, both bound the density of those that are known.

Reference: Kingma, Welling (2014), arXiv:1312.6114; Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519; of missing
points Nazábal, Olmos, Ghahramani, Valera (2020), arXiv:1807.03653, section 3.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vae.model.autoencoder import Observations, Posterior, Vae
from vae.model.latent_law import LatentLaw

_LOG_TWO_PI = math.log(2.0 * math.pi)
_PRIOR_DRAWS = 100


class Elbo(NamedTuple):
    """The two parts of the bound, in nats.

    Attributes:
        log_likelihood: E_q[log p(x|z)], minus the distortion, [batch].
        kl: KL(q(z|x) || p(z)), the rate, [batch].
    """

    log_likelihood: Tensor
    kl: Tensor

    @property
    def value(self) -> Tensor:
        """The evidence lower bound, [batch]."""
        return self.log_likelihood - self.kl


def elbo(model: Vae, x: Observations, noise: Tensor) -> Elbo:
    """The ELBO at beta = 1 from one draw for each observation, noise [batch, latent] of N(0, I); KL in closed form."""
    posterior = model.encode(x.values, x.missing)
    return Elbo(log_likelihood(model, x, posterior.sample(noise)), kl_of_latents(posterior).sum(-1))


def objective(model: Vae, x: Observations, noise: Tensor, weights: Tensor) -> Tensor:
    """The training objective, to be maximised, [batch]: the bound less (weight - 1) times the KL of each latent.

    Args:
        model: the model.
        x: observations.
        noise: of N(0, I), [sample, batch, latent]; from one sample the bound is the ELBO, from several the
            importance-weighted one.
        weights: of the KL of each latent, [latent]; at 1 the objective is the bound.
    """
    found = bounds(model, x, noise)
    bound = found.elbo.value if len(noise) == 1 else found.importance_weighted
    return bound - found.kl_of_latents @ (weights - 1.0)


def proposal_log_density(model: Vae, x: Observations, masked: Observations, noise: Tensor) -> Tensor:
    """log q(z|masked) of a draw z from q(z|x), [batch]: the objective of an amortised proposal, to be maximised.

    ``masked`` is x with some points masked, noise [batch, latent] of N(0, I). No gradient reaches the draw or the
    encoder of complete surfaces: only the network that reads missing points learns, and the bound is not changed.
    At the optimum the proposal covers the posteriors of all surfaces that agree with the points that are left.

    Reference: Le, Baydin, Wood (2017), arXiv:1610.09900, equation 3 (amortised proposals from simulated data).

    Raises:
        ValueError: no point is masked.
    """
    if masked.missing is None:
        raise ValueError("no point is masked")
    with torch.no_grad():
        z = model.encode(x.values, x.missing).sample(noise)
        filled = model.encode(masked.values)
    posterior = model.correct(filled, masked.values, masked.missing)
    deviation = (z - posterior.mean) * torch.exp(-posterior.log_std)
    return -(0.5 * deviation.square() + posterior.log_std + 0.5 * _LOG_TWO_PI).sum(-1)


class Bounds(NamedTuple):
    """Both bounds from the same draws.

    Attributes:
        elbo: its parts, [batch].
        kl_of_latents: KL(q(z|x) || N(0, I)) of each latent, [batch, latent].
        log_weights: log p(x|z) p(z) / q(z|x) of each draw, [sample, batch].
        z: the draws, [sample, batch, latent].
    """

    elbo: Elbo
    kl_of_latents: Tensor
    log_weights: Tensor
    z: Tensor

    @property
    def importance_weighted(self) -> Tensor:
        """log (1/K) sum_k w_k, [batch]. In expectation it is at least the ELBO and rises with K."""
        return _log_mean(self.log_weights, 0)

    def grouped(self, samples: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Bound and effective sample size, both [batch], for each number of samples: means over groups of draws.

        The effective sample size is 1 / sum of the squared normalised weights; where it is near 1 the bound is loose.
        """
        groups = [self.log_weights.unflatten(0, (-1, count)) for count in samples]
        return [(_log_mean(group, 1).mean(0), _effective(group, 1).mean(0)) for group in groups]

    def prior_gain(self, prior: LatentLaw) -> Tensor:
        """Gain of the ELBO with ``prior`` in place of N(0, I): E_q[log prior(z) - log N(z; 0, I)], [batch].

        From the first ``_PRIOR_DRAWS`` draws: the gain varies little between those of a surface.
        """
        z = self.z[:_PRIOR_DRAWS]
        standard = -0.5 * (z.square() + _LOG_TWO_PI).sum(-1)
        shipped = torch.from_numpy(prior.log_density(z.double().cpu().numpy())).to(standard)
        return (shipped - standard).mean(0)


def bounds(model: Vae, x: Observations, noise: Tensor) -> Bounds:
    """Both bounds with the prior N(0, I) from the same draws, noise [sample, batch, latent] of N(0, I)."""
    posterior = model.encode(x.values, x.missing)
    z = posterior.sample(noise)
    likelihood = log_likelihood(model, x, z)
    log_density_ratio = (0.5 * (noise.square() - z.square()) + posterior.log_std).sum(-1)  # log p(z) / q(z|x)
    kl = kl_of_latents(posterior)
    return Bounds(Elbo(likelihood.mean(0), kl.sum(-1)), kl, likelihood + log_density_ratio, z)


def _log_mean(log_weights: Tensor, axis: int) -> Tensor:
    return torch.logsumexp(log_weights, dim=axis) - math.log(log_weights.shape[axis])


def _effective(log_weights: Tensor, axis: int) -> Tensor:
    return 1.0 / torch.softmax(log_weights, dim=axis).square().sum(axis)


def log_likelihood(model: Vae, x: Observations, z: Tensor) -> Tensor:
    """log p(x|z) of the known points at z [*sample, batch, latent], [*sample, batch].

    In nats of the density in units of the data: the change of variables of transformed points is included.
    """
    inner = _log_likelihood(model, x, z)
    return inner if x.log_slope is None else inner + x.log_slope


def _log_likelihood(model: Vae, x: Observations, z: Tensor) -> Tensor:
    """log p(x|z) of the known points, in nats of the density in the units of the model, [*sample, batch]."""
    values = model.decode(z)
    if x.points is None or not (model.pointwise or x.missing is not None):
        return _log_likelihood_in_basis(model, x, values)
    if model.architecture.residual_factors and x.missing is not None:
        return _log_likelihood_of_known(model, x.points - values @ model.basis.T, x.missing)
    if model.architecture.likelihood == "bernoulli":
        logits = model.natural(values)
        terms = (x.points + model.center) * logits - softplus(logits)
    else:
        scale = model.scale_at(z)
        error = (x.points - values @ model.basis.T) / scale
        terms = -0.5 * (_LOG_TWO_PI + 2.0 * scale.log() + error.square())
    return (terms if x.missing is None else terms * (1.0 - x.missing)).sum(-1)


def _log_likelihood_in_basis(model: Vae, x: Observations, values: Tensor) -> Tensor:
    """log p(x|z) of complete observations given decoded coordinates [*sample, batch, R]; all points have one scale."""
    scale, dimension = model.scale, model.architecture.dimension
    distance, log_determinant = _distance((x.values - values) / scale, model.residual_coordinates, scale)
    distance = distance + x.remainder / scale.square()
    return -0.5 * (dimension * (_LOG_TWO_PI + 2.0 * scale.log()) + log_determinant + distance)


def _log_likelihood_of_known(model: Vae, error: Tensor, missing: Tensor) -> Tensor:
    """log p(x|z) of known points under residual factors, [*sample, batch], from errors [*sample, batch, D].

    ``missing`` [batch, D] is 1 where a point is missing.
    """
    scale, known, factors = model.scale, 1.0 - missing, model.residual_factors
    own = None if factors is None else known.unsqueeze(2) * factors
    distance, log_determinant = _distance(known * error / scale, own, scale)
    return -0.5 * (known.sum(-1) * (_LOG_TWO_PI + 2.0 * scale.log()) + log_determinant + distance)


def _distance(error: Tensor, factors: Tensor | None, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Squared Mahalanobis length of errors [*batch, point] in units of the scale, and log det (I + F F' / scale^2).

    The factors F are [point, factor] or [batch, point, factor]. With a lower factor L of I + F'F / scale^2, the length
    is |error|^2 - |L^-1 F' error / scale|^2.
    """
    distance = error.square().sum(-1)
    if factors is None:
        return distance, torch.zeros_like(scale)
    scaled = factors / scale
    identity = torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
    lower = torch.linalg.cholesky_ex(scaled.mT @ scaled + identity).L
    along = torch.linalg.solve_triangular(lower, scaled.mT, upper=False)
    explained = (error.unsqueeze(-2) @ along.mT).squeeze(-2).square().sum(-1)
    return distance - explained, 2.0 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def kl_of_latents(posterior: Posterior) -> Tensor:
    """KL(q || N(0, I)) of each latent, [batch, latent]."""
    variance = torch.exp(2.0 * posterior.log_std)
    return 0.5 * (posterior.mean.square() + variance - 1.0 - 2.0 * posterior.log_std)
