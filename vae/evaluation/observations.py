"""Draws of p(x|z), as the data would be observed."""

import torch
from torch import Tensor

from vae.model.autoencoder import Vae


def observed(model: Vae, z: Tensor, *, seed: int) -> Tensor:
    """Observations [batch, D] of latents z [batch, latent]: binary points, or points with their noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        natural = model.natural(model.decode(z))
        if model.architecture.likelihood == "bernoulli":
            return torch.bernoulli(natural.sigmoid(), generator=generator)
        noise = torch.randn(natural.shape, generator=generator, dtype=natural.dtype)
        return model.observed(natural + model.scale_at(z) * noise)
