"""The variational autoencoder: encoder, decoder and observation scale, over an orthonormal basis of the data.

An observation x in R^D has coordinates y in R^R in the leading principal directions and a remainder outside of them.
Decoder means lie in the span of the basis and the noise is isotropic, so |x - x(z)|^2 = |y - y(z)|^2 + |remainder|^2
exactly: training needs R numbers for each surface instead of D and optimises the same ELBO.
Encoder and decoder are a linear map plus a network whose last layer starts at zero, so an untrained model is the
probabilistic PCA of its data.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae.ppca import PrincipalComponents


@dataclass(frozen=True)
class Architecture:
    """Sizes: observed points D, basis R, latents, and the hidden layers of each network."""

    dimension: int
    basis: int
    latents: int
    width: int
    depth: int

    def __post_init__(self) -> None:
        if not 1 <= self.latents <= self.basis <= self.dimension:
            raise ValueError(
                f"sizes must satisfy 1 <= latents ({self.latents}) <= basis ({self.basis}) <= "
                f"points of a surface ({self.dimension})"
            )


class Coordinates(NamedTuple):
    """Observations in the basis: coordinates [*batch, R] and the squared length of the remainder [*batch]."""

    values: Tensor
    remainder: Tensor

    def at(self, rows: Tensor) -> "Coordinates":
        """The observations with these indices."""
        return Coordinates(self.values[rows], self.remainder[rows])


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag exp(2 log_std)), both [*batch, latent]."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draws mean + std noise, for noise [*sample, *batch, latent] of N(0, I)."""
        return self.mean + self.log_std.exp() * noise


class Vae(nn.Module):
    """p(x|z) = N(x(z), scale^2 I), p(z) = N(0, I), q(z|x) diagonal.

    Use ``from_components`` to start at the pPCA solution; the plain constructor leaves buffers to ``load_state_dict``.
    """

    center: Tensor
    basis: Tensor
    unit: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        points, basis, latents = architecture.dimension, architecture.basis, architecture.latents
        self.register_buffer("center", torch.zeros(points))
        self.register_buffer("basis", torch.zeros(points, basis))
        self.register_buffer("unit", torch.ones(basis))
        self.encoder_linear = nn.Linear(basis, latents, bias=False)
        self.encoder_network = _network(basis, 2 * latents, architecture)
        self.decoder_linear = nn.Linear(latents, basis, bias=False)
        self.decoder_network = _network(latents, basis, architecture)
        self.log_std = nn.Parameter(torch.zeros(latents))
        self.log_scale = nn.Parameter(torch.zeros(()))

    @classmethod
    def from_components(cls, architecture: Architecture, components: PrincipalComponents) -> "Vae":
        """The model that is the pPCA of ``components``, in their dtype.

        Raises:
            ValueError: where the data has fewer directions of variance than the basis asks for.
        """
        model = cls(architecture).to(components.mean.dtype)
        latents, basis = architecture.latents, architecture.basis
        variances = components.variances[:basis]
        if variances[-1] <= 0.0:
            directions = int((variances > 0.0).sum())
            raise ValueError(f"the data varies in {directions} directions only, fewer than basis = {basis}")
        noise = components.noise_variance(latents)
        signal = (variances[:latents] - noise).clamp_min(0.0).sqrt()
        leading = torch.eye(basis, latents, dtype=variances.dtype)
        unit = variances.sqrt()
        values = {
            "center": components.mean,
            "basis": components.vectors[:, :basis],
            "unit": unit,
            "encoder_linear.weight": (leading * (signal / unit[:latents])).T,
            "decoder_linear.weight": leading * (signal / unit[:latents]),
            "log_std": 0.5 * torch.log(noise / variances[:latents]),
            "log_scale": 0.5 * torch.log(noise),
        }
        model.load_state_dict(model.state_dict() | values)
        return model

    def coordinates(self, x: Tensor) -> Coordinates:
        """Coordinates of observations x [*batch, D]."""
        centred = x - self.center
        values = centred @ self.basis
        return Coordinates(values, (centred - values @ self.basis.T).square().sum(-1))

    def expand(self, values: Tensor) -> Tensor:
        """Points [*batch, D] from coordinates [*batch, R]."""
        return self.center + values @ self.basis.T

    def encode(self, values: Tensor) -> Posterior:
        """Posterior given coordinates [*batch, R]."""
        whitened = values / self.unit
        shift, log_std = self.encoder_network(whitened).chunk(2, dim=-1)
        return Posterior(self.encoder_linear(whitened) + shift, self.log_std + log_std)

    def decode(self, z: Tensor) -> Tensor:
        """Coordinates [*batch, R] of the decoder mean at z [*batch, latent]."""
        values: Tensor = (self.decoder_linear(z) + self.decoder_network(z)) * self.unit
        return values


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
