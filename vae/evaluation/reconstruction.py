"""Reconstructions of observations by a model: from the latents alone, and with the residual."""

from typing import NamedTuple

import torch
from torch import Tensor

from vae.model.autoencoder import Vae
from vae.model.linear import PrincipalComponents

_ROWS = 512  # at a time: bounds the memory of the factors of known points


class Reconstruction(NamedTuple):
    """Observations given their own known points, each [batch, D] but for the latents.

    Attributes:
        latents: means of the encoder's posterior, [batch, latent].
        by_latents: what the decoder makes of these, without the residual.
        whole: with the mean of the residual given the errors that the latents leave; the same without residual factors.
    """

    latents: Tensor
    by_latents: Tensor
    whole: Tensor


def numbers_of(model: Vae) -> int:
    """The numbers that a whole reconstruction is made of: latents and residual factors, of D points at most D."""
    sizes = model.architecture
    return min(sizes.latents + sizes.residual_factors, sizes.dimension)


def by_components(components: PrincipalComponents, x: Tensor, numbers: int) -> Tensor:
    """Observations x [batch, D] by PCA with so many numbers; NaN where a point is missing."""
    return components.complete(x, numbers) if x.isnan().any() else components.reconstruct(x, numbers)


def reconstruct(model: Vae, x: Tensor) -> Reconstruction:
    """The reconstruction of observations x [batch, D], NaN where a point is missing, in units of the data.

    The noise of the points is left out: of surfaces with noise, ``whole`` is the model's best guess without it.
    """
    with torch.no_grad():
        parts = [_reconstruct(model, rows) for rows in x.split(_ROWS)]
    return Reconstruction(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _reconstruct(model: Vae, x: Tensor) -> Reconstruction:
    seen = model.observe(x, points=True)
    latents = model.encode(seen.values, seen.missing).mean
    values = model.decode(latents)
    by_latents = model.expand(values)
    if seen.points is None or model.residual_factors is None:
        return Reconstruction(latents, by_latents, by_latents)
    known = torch.ones_like(x[:1]) if seen.missing is None else 1.0 - seen.missing
    error = seen.points - values @ model.basis.T
    scores = model.precision_of_points(known).scores(error.unsqueeze(1)).squeeze(1)
    return Reconstruction(latents, by_latents, model.expand(model.with_residual(values, scores.to(values))))
