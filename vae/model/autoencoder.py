"""The variational autoencoder: encoder, decoder and likelihood, over an orthonormal basis of the data.

An observation x in R^D has coordinates y in R^R in the leading principal directions and a remainder outside of them.
Decoder means lie in the span of the basis. Where noise is isotropic and no point is missing,
|x - x(z)|^2 = |y - y(z)|^2 + |remainder|^2 exactly: training needs R numbers for each surface instead of D and
optimises the same ELBO. Encoder and decoder are a linear map plus a network whose last layer starts at zero, so an
untrained model is the best linear one: probabilistic PCA or, with noise of its own at each point, factor analysis.

The latents do not explain all of x, and the rest is correlated over a surface. Residual factors F describe that:
p(x|z) = N(x(z), F F' + scale^2 I). They lie in the span of the basis too, so that the sum of squares above still holds.
With as many factors as there are points, less one, the untrained model is the Gaussian of full covariance.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from vae.model import linear_systems
from vae.model.calibration import Calibration
from vae.model.linear import PrincipalComponents, factor_analysis, ppca
from vae.model.noise_precision import NoisePrecision

Likelihood = Literal["gaussian", "bernoulli"]
Scale = Literal["shared", "point", "decoded"]
Transform = Literal["none", "log"]

_LEAST_PROBABILITY = 1e-3  # of a Bernoulli point at the start
_LOGIT_SLOPE = 4.0  # of the logit at probability 1/2


@dataclass(frozen=True)
class Architecture:
    """Hyper-parameters that fix the shape of every weight.

    Attributes:
        dimension: observed points D.
        basis: principal directions R that the networks see.
        latents: dimension of z.
        width, depth: hidden units and hidden layers of each network; a model of depth 0 is linear.
        likelihood: of a point: ``gaussian``, or ``bernoulli`` for values in [0, 1].
        transform: of Gaussian points: ``log`` models their logarithm, so that noise is in proportion to the point.
        scale: standard deviation of Gaussian noise, ``shared`` by all points, one for each ``point``, or one for each
            point ``decoded`` from the latents.
        residual_factors: columns of F, 0 for independent noise only.
        scale_floor: smallest value of that scale, in units of the transformed data.
        sees_missing: whether the encoder has a network for surfaces with missing points.

    Raises:
        ValueError: the sizes contradict each other, or a name is unknown.
    """

    dimension: int
    basis: int
    latents: int
    width: int
    depth: int
    likelihood: Likelihood = "gaussian"
    transform: Transform = "none"
    scale: Scale = "shared"
    residual_factors: int = 0
    scale_floor: float = 0.0
    sees_missing: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.latents <= self.basis <= self.dimension:
            raise ValueError(
                f"sizes must satisfy 1 <= latents ({self.latents}) <= basis ({self.basis}) <= "
                f"points of a surface ({self.dimension})"
            )
        for name, allowed in (("likelihood", Likelihood), ("transform", Transform), ("scale", Scale)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(get_args(allowed))}")
        if self.likelihood == "bernoulli" and (self.transform, self.scale) != ("none", "shared"):
            raise ValueError("a bernoulli likelihood has no noise: transform must be none and scale shared")
        if self.residual_factors:
            self._check_factors()

    def _check_factors(self) -> None:
        """Raise ValueError where residual factors do not suit the rest."""
        if self.likelihood == "bernoulli" or self.scale != "shared":
            raise ValueError("residual_factors need Gaussian points with scale: shared; set residual_factors: 0")
        most = min(self.basis, self.dimension - 1)
        if not self.latents <= self.residual_factors <= most:
            raise ValueError(
                f"residual_factors is {self.residual_factors}; allowed: 0, or latents ({self.latents}) to {most}, the "
                f"smaller of basis and one less than the points"
            )


class Observations(NamedTuple):
    """Observations in the form that a model works on.

    Attributes:
        values: coordinates in the basis, [batch, R]; missing points are filled by pPCA given the others.
        remainder: squared length of the part outside of the span of the basis, [batch].
        points: centred points, 0 where missing, [batch, D]; None where the likelihood needs no points.
        missing: 1 where a point is missing, [batch, D]; None where none is.
        log_slope: log of the derivative of the transform, summed over the known points, [batch]; None where that is 0.
    """

    values: Tensor
    remainder: Tensor
    points: Tensor | None = None
    missing: Tensor | None = None
    log_slope: Tensor | None = None

    def at(self, rows: Tensor | slice) -> "Observations":
        """The observations with these indices."""
        values, remainder, *rest = (part if part is None else part[rows] for part in self)
        return Observations(values, remainder, *rest)  # type: ignore[arg-type]  # these two are never None

    @classmethod
    def join(cls, parts: Iterable["Observations"], count: int) -> "Observations":
        """So many observations, those of the parts in their order; one part at a time is in memory beside them."""
        whole: list[Tensor | None] = []
        first = 0
        for part in parts:
            whole = whole or [None if x is None else x.new_empty((count, *x.shape[1:])) for x in part]
            rows = slice(first, first + len(part.values))
            for joined, own in zip(whole, part, strict=True):
                if joined is not None and own is not None:
                    joined[rows] = own
            first = rows.stop
        values, remainder, *rest = whole
        return cls(values, remainder, *rest)  # type: ignore[arg-type]  # these two are never None


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag exp(2 log_std)), both [*batch, latent]."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draws mean + std noise, for noise [*sample, *batch, latent] of N(0, I)."""
        return self.mean + self.log_std.exp() * noise


class Vae(nn.Module):
    """p(x|z) = N(x(z), F F' + scale(z)^2) or Bernoulli(sigmoid x(z)) at each point, p(z) = N(0, I), q(z|x) diagonal.

    Use ``from_components`` to start at the pPCA solution; the plain constructor leaves buffers to ``load_state_dict``.

    Attributes:
        precision: dtype of the products inside the networks; None for that of the parameters, which likelihood and
            linear maps always have.
    """

    center: Tensor
    basis: Tensor
    unit: Tensor
    loadings: Tensor
    spread: Tensor
    residual_unit: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.precision: torch.dtype | None = None
        points, basis, latents = architecture.dimension, architecture.basis, architecture.latents
        self.register_buffer("center", torch.zeros(points))
        self.register_buffer("basis", torch.zeros(points, basis))
        self.register_buffer("unit", torch.ones(basis))
        self.encoder_linear = nn.Linear(basis, latents, bias=False)
        self.encoder_network = _network(basis, 2 * latents, architecture)
        if architecture.sees_missing:
            self.register_buffer("loadings", torch.zeros(points, latents))
            self.register_buffer("spread", torch.ones(points))
            self.partial_network = _network(basis + points, 2 * latents, architecture)
        self.decoder_linear = nn.Linear(latents, basis, bias=False)
        self.decoder_network = _network(latents, basis, architecture)
        self.log_std = nn.Parameter(torch.zeros(latents))
        self.calibration = Calibration()
        if architecture.likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.zeros(() if architecture.scale == "shared" else points))
        if architecture.scale == "decoded":
            self.scale_network = _network(latents, basis, architecture)
        if architecture.residual_factors:
            self.register_buffer("residual_unit", torch.ones(basis))
            self.residual = nn.Parameter(torch.zeros(basis, architecture.residual_factors))

    @classmethod
    def from_components(cls, architecture: Architecture, components: PrincipalComponents) -> "Vae":
        """The model that equals the pPCA of ``components`` (factor analysis but for a shared scale), in their dtype.

        With residual factors it equals the pPCA with as many components as factors: what the latents have less of the
        covariance, the factors have. For Bernoulli points it is a linear model near pPCA.

        Raises:
            ValueError: the data vary in fewer directions than the basis has, those of rounding left aside: to divide
                by these would make noise as large as the data.
        """
        model = cls(architecture).to(components.mean)
        if components.directions < architecture.basis:
            raise ValueError(
                f"the data varies in {components.directions} directions only, fewer than basis = {architecture.basis}"
            )
        variances = components.variances[: architecture.basis]
        linear = (ppca if architecture.scale == "shared" else factor_analysis)(components, architecture.latents)
        basis, unit = components.vectors[:, : architecture.basis], variances.sqrt()
        reading = (linear.loadings / linear.noise.unsqueeze(1)).T / (1.0 + linear.information).unsqueeze(1)
        slope = _LOGIT_SLOPE if architecture.likelihood == "bernoulli" else 1.0
        values = {
            "center": components.mean,
            "basis": basis,
            "unit": slope * unit,
            "encoder_linear.weight": slope * (reading @ basis) * unit,
            "decoder_linear.weight": (basis.T @ linear.loadings) / unit.unsqueeze(1),
            "log_std": -0.5 * torch.log1p(linear.information),
        }
        noise = linear.noise
        if architecture.residual_factors:
            noise = components.noise_variance(architecture.residual_factors).expand_as(noise)
            values |= _residual_start(variances, linear.noise[0], noise[0], architecture)
        if architecture.likelihood == "gaussian":
            own = torch.maximum(noise - architecture.scale_floor**2, 1e-6 * noise)
            values["log_scale"] = 0.5 * torch.log(own[0] if architecture.scale == "shared" else own)
        if architecture.sees_missing:
            values["loadings"], values["spread"] = linear.loadings, linear.noise.sqrt()
        model.load_state_dict(model.state_dict() | values)
        return model

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the independent noise, [] or [D]; where it is decoded, that at latents of 0."""
        return self.scale_at(self.center.new_zeros(self.architecture.latents))

    def scale_at(self, z: Tensor) -> Tensor:
        """Standard deviation of independent noise at z [*batch, latent]: [], [D] or, where it is decoded, [*batch, D].

        Its variance is exp(2 log_scale) + scale_floor^2.
        """
        log_scale: Tensor = self.log_scale
        if self.architecture.scale == "decoded":
            log_scale = log_scale + self._multiply(self.scale_network, z) @ self._scale_basis
        return (torch.exp(2.0 * log_scale) + self.architecture.scale_floor**2).sqrt()

    def scale_with_jacobian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``scale_at`` of z [batch, latent] where it is decoded, and the derivatives of its log, [batch, latent, D]."""
        coordinates, slope = _with_jacobian(self.scale_network, z)
        own = torch.exp(2.0 * (self.log_scale + coordinates @ self._scale_basis))
        variance = own + self.architecture.scale_floor**2
        return variance.sqrt(), slope @ self._scale_basis * (own / variance).unsqueeze(1)

    @property
    def residual_coordinates(self) -> Tensor | None:
        """The residual factors in the basis, [R, factor]; None where the noise is independent."""
        if not self.architecture.residual_factors:
            return None
        return self.residual_unit.unsqueeze(1) * self.residual

    @property
    def residual_factors(self) -> Tensor | None:
        """The residual factors F in the units of the model, [D, factor]; None where the noise is independent."""
        coordinates = self.residual_coordinates
        return None if coordinates is None else self.basis @ coordinates

    def precision_of_points(self, known: Tensor) -> NoisePrecision:
        """The precision of the errors of points that are 1 in ``known`` [batch, D], where the scale is not decoded."""
        return NoisePrecision.of(known / self.scale.square(), self.residual_factors)

    @property
    def _scale_basis(self) -> Tensor:
        """The basis scaled so that a coordinate of 1 moves the log scale of points by about 1, [R, D]."""
        return self.basis.T * math.sqrt(self.architecture.dimension)

    def observe(self, x: Tensor, *, points: bool = False, missing: bool = False) -> Observations:
        """Observations x [batch, D], NaN where a point is missing.

        Args:
            x: in units of the data.
            points: whether to keep the points where the likelihood does not need them.
            missing: whether to keep ``missing`` where no point is missing.

        Raises:
            ValueError: a point is missing and the model reads complete surfaces only, or a point has no logarithm.
        """
        transformed(x, self.architecture.transform)  # raises where there is no logarithm
        absent = x.isnan()
        seen = self.read(x, absent.to(x.dtype) if missing or absent.any() else None)
        return seen if points or self.pointwise or seen.missing is not None else seen._replace(points=None)

    def centred(self, x: Tensor) -> Tensor:
        """The points of complete observations x [batch, D] as ``observe`` keeps them."""
        return self.inner(x) - self.center

    def read(self, x: Tensor, missing: Tensor | None = None) -> Observations:
        """Observations x [batch, D], with points; ``missing`` [batch, D] is 1 where a point is missing.

        There x may hold any number; every other point must be known, and positive under the transform ``log``. Nothing
        is checked, so that the method can be traced.
        """
        if missing is None:
            inner = self.inner(x)
        else:
            absent = missing > 0.0
            inner = torch.where(absent, self.center, self.inner(torch.where(absent, 1.0, x)))
        own = inner if missing is None else torch.where(absent, 0.0, inner)
        log_slope = None if self.architecture.transform == "none" else -own.sum(-1)
        centred = inner - self.center
        if missing is not None:
            return self._incomplete(centred, missing, log_slope)
        values = centred @ self.basis
        remainder = (centred - values @ self.basis.T).square().sum(-1)
        return Observations(values, remainder, centred, None, log_slope)

    @property
    def noise(self) -> Tensor:
        """Standard deviation of x given z in units of the data, [] or [D]; with the transform ``log`` at the centre."""
        factors = self.residual_factors
        deviation = self.scale if factors is None else (self.scale.square() + factors.square().sum(1)).sqrt()
        return self._in_units_of_data(deviation)

    @property
    def independent_noise(self) -> Tensor:
        """The part of ``noise`` that no two points share, as the noise of a quote, [] or [D]."""
        return self._in_units_of_data(self.scale)

    def _in_units_of_data(self, deviation: Tensor) -> Tensor:
        return deviation * self.center.exp() if self.architecture.transform == "log" else deviation

    @property
    def noise_is_fixed(self) -> bool:
        """Whether the noise of points is normal and does not depend on the latents."""
        return self.architecture.likelihood == "gaussian" and self.architecture.scale != "decoded"

    @property
    def pointwise(self) -> bool:
        """Whether the likelihood of complete observations needs their points."""
        return self.architecture.likelihood != "gaussian" or self.architecture.scale != "shared"

    def mask(self, x: Observations, masked: Tensor) -> Observations:
        """Observations x with points, of which those that are 1 in ``masked`` [batch, D] are missing as well."""
        if x.points is None:
            raise ValueError("points can be masked only in observations that carry them")
        missing = masked if x.missing is None else torch.maximum(masked, x.missing)
        return self._incomplete(x.points * (1.0 - missing), missing, None)

    def _incomplete(self, points: Tensor, missing: Tensor, log_slope: Tensor | None) -> Observations:
        """Observations with centred points, 0 where ``missing``; missing points are filled by the linear start.

        With its loadings W and noise s, filled points are W (I + V'V)^-1 V'(points / s), V = W/s over known rows.
        """
        if not self.architecture.sees_missing:
            raise ValueError("this model was not trained to read surfaces with missing points")
        latents, spread = self.architecture.latents, self.spread.double()
        scaled, known = self.loadings.double() / spread.unsqueeze(1), 1.0 - missing.double()
        products = (scaled.unsqueeze(2) * scaled.unsqueeze(1)).flatten(1)
        identity = torch.eye(latents, dtype=known.dtype, device=known.device)
        precision = (known @ products).unflatten(1, (latents, latents)) + identity
        scores = linear_systems.solve(precision, ((points.double() / spread) @ scaled).unsqueeze(-1)).squeeze(-1)
        filled = points + missing * (scores @ self.loadings.double().T).to(points)
        values = filled @ self.basis
        remainder = (filled - values @ self.basis.T).square().sum(-1)
        return Observations(values, remainder, points, missing, log_slope)

    def inner(self, x: Tensor) -> Tensor:
        """Points in the units of the model."""
        return x.log() if self.architecture.transform == "log" else x

    def expand(self, values: Tensor) -> Tensor:
        """Points [*batch, D] in units of the data from coordinates [*batch, R]: means, medians (log), probabilities."""
        return self.observed(self.natural(values))

    def observed(self, natural: Tensor) -> Tensor:
        """Points in units of the data from points in the units of the model, or probabilities from logits."""
        if self.architecture.likelihood == "bernoulli":
            return natural.sigmoid()
        return natural.exp() if self.architecture.transform == "log" else natural

    def natural(self, values: Tensor) -> Tensor:
        """Points [*batch, D] in the units of the model, or logits, from coordinates [*batch, R]."""
        return self.natural_center + values @ self.basis.T

    @property
    def natural_center(self) -> Tensor:
        """The centre of the data in the units of the model, or its logits, [D]."""
        if self.architecture.likelihood == "bernoulli":
            return self.center.clamp(_LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY).logit()
        return self.center

    def encode(self, values: Tensor, missing: Tensor | None = None) -> Posterior:
        """Posterior given coordinates [*batch, R] and, where points are missing, which: 1 in missing [*batch, D]."""
        whitened = values / self.unit
        shift, log_std = self._multiply(self.encoder_network, whitened).chunk(2, dim=-1)
        posterior = Posterior(self.encoder_linear(whitened) + shift, self.log_std + log_std)
        return posterior if missing is None else self.correct(posterior, values, missing)

    def correct(self, posterior: Posterior, values: Tensor, missing: Tensor) -> Posterior:
        """Corrects the posterior of filled surfaces for the points that are missing, 1 in ``missing`` [*batch, D].

        A surface without missing points keeps its posterior, whatever the others in the batch are.
        """
        seen = torch.cat([values / self.unit, missing], dim=-1)
        shift, log_std = (self._multiply(self.partial_network, seen) * missing.amax(-1, keepdim=True)).chunk(2, dim=-1)
        return Posterior(posterior.mean + shift, posterior.log_std + log_std)

    def decode(self, z: Tensor) -> Tensor:
        """Coordinates [*batch, R] of the decoder mean at z [*batch, latent]."""
        values: Tensor = (self.decoder_linear(z) + self._multiply(self.decoder_network, z)) * self.unit
        return values

    def with_residual(self, values: Tensor, scores: Tensor) -> Tensor:
        """Coordinates [*batch, R] plus the residual of these scores of its factors, [*batch, factor]."""
        factors = self.residual_coordinates
        return values if factors is None else values + scores @ factors.T

    def decode_with_jacobian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``decode`` of z [batch, latent] and its derivatives by the latents, [batch, latent, R]."""
        layer, slope = _with_jacobian(self.decoder_network, z)
        # The sum is laid out as its first part: a product with a matrix is then one, not one for each row.
        slope = slope + self.decoder_linear.weight.T
        return (self.decoder_linear(z) + layer) * self.unit, slope * self.unit

    def without_last_latents(self, count: int) -> "Vae":
        """The model without its last ``count`` latents, which are set to 0; the same where these had no KL."""
        kept = self.architecture.latents - count
        model = Vae(replace(self.architecture, latents=kept)).to(self.center)
        model.precision = self.precision
        weights = {
            name: value[..., :kept] if _ends_in_latents(name) else value for name, value in self.state_dict().items()
        }
        for name in ("encoder_linear.weight", "log_std"):
            weights[name] = weights[name][:kept]
        last = len(self.encoder_network) - 1
        for name in (
            f"{network}_network.{last}.{kind}" for network in ("encoder", "partial") for kind in ("weight", "bias")
        ):
            if name in weights:
                weights[name] = torch.cat([half[:kept] for half in weights[name].chunk(2)])
        model.load_state_dict(weights)
        return model

    def _multiply(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Output of a network in the dtype of its inputs, its products in ``precision``."""
        if self.precision is None:
            output: Tensor = network(inputs)
            return output
        with torch.autocast(inputs.device.type, self.precision):
            output = network(inputs)
        return output.to(inputs.dtype)


def transformed(x: Tensor, transform: Transform) -> Tensor:
    """Points in the units of a model; NaN stays NaN.

    Raises:
        ValueError: a point has no logarithm.
    """
    if transform == "none":
        return x
    if (x <= 0.0).any():
        raise ValueError("transform: log needs points above 0")
    return x.log()


def _network(inputs: int, outputs: int, architecture: Architecture) -> nn.Sequential:
    """Hidden SiLU layers and a last layer of zeros."""
    layers: list[nn.Module] = []
    for _ in range(architecture.depth):
        layers += [nn.Linear(inputs, architecture.width), nn.SiLU()]
        inputs = architecture.width
    last = nn.Linear(inputs, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _with_jacobian(network: nn.Sequential, z: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of a network at z [batch, latent] and their derivatives by the latents, [batch, latent, output]."""
    layer, slope = z, torch.eye(z.shape[1], dtype=z.dtype, device=z.device).expand(*z.shape, -1)
    for module in network:
        if isinstance(module, nn.Linear):
            layer, slope = module(layer), slope @ module.weight.T
        else:  # x sigmoid(x)
            gate = layer.sigmoid()
            layer = layer * gate
            slope = slope * (gate + layer - layer * gate).unsqueeze(1)
    return layer, slope


def _residual_start(
    variances: Tensor, of_latents: Tensor, noise: Tensor, architecture: Architecture
) -> dict[str, Tensor]:
    """The residual factors of the linear start, each along a principal direction.

    Args:
        variances: of the data along the basis, [R].
        of_latents: variance that pPCA leaves in the directions of its latents.
        noise: variance of the independent noise.
        architecture: of the model.
    """
    left = torch.where(torch.arange(len(variances)) < architecture.latents, of_latents, variances)
    unit = torch.maximum(left, noise).sqrt()
    share = (1.0 - noise / unit.square()).clamp_min(0.0).sqrt()
    return {"residual_unit": unit, "residual": torch.diag(share)[:, : architecture.residual_factors]}


def _ends_in_latents(name: str) -> bool:
    """Whether the last axis of a weight is that of the latents."""
    return name in ("decoder_linear.weight", "decoder_network.0.weight", "scale_network.0.weight", "loadings")
