"""Draws of p(x|z), as the data would be observed."""

import torch
from torch import Tensor

from vae.model.autoencoder import Vae


def observed(model: Vae, z: Tensor, *, seed: int) -> Tensor:
    """Observations [batch, D] of latents z [batch, latent]: binary points, or points with their noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        natural = model.natural(_with_residual(model, z, generator))
        if model.architecture.likelihood == "bernoulli":
            return torch.bernoulli(natural.sigmoid(), generator=generator)
        noise = torch.randn(natural.shape, generator=generator, dtype=natural.dtype)
        return model.observed(natural + model.scale_at(z) * noise)


def smooth(model: Vae, z: Tensor, *, seed: int) -> Tensor:
    """Surfaces or vectors [batch, D] of latents z [batch, latent]: with the residual, without independent noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return model.expand(_with_residual(model, z, generator))


def _with_residual(model: Vae, z: Tensor, generator: torch.Generator) -> Tensor:
    """Coordinates [batch, R] of decoded latents plus a draw of the residual."""
    shape = (len(z), model.architecture.residual_factors)
    return model.with_residual(model.decode(z), torch.randn(shape, generator=generator, dtype=z.dtype))
