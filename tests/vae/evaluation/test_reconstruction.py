"""Reconstructions are the mean of dense normal laws."""

import pytest
import torch

from vae.evaluation.reconstruction import reconstruct
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components


def data() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    return 3.0 + 0.1 * x @ torch.randn(6, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("transform", ["none", "log"])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_residual_is_its_mean_given_the_errors_of_the_latents(transform: str, gaps: bool) -> None:  # noqa: FBT001
    """F F' S^-1 e of the known points, S = F F' + scale^2 I, each row by itself."""
    x = data()
    inner = x.log() if transform == "log" else x
    shape = Architecture(6, 6, 2, 8, 1, residual_factors=3, transform=transform, sees_missing=True)
    model = Vae.from_components(shape, principal_components(inner))
    seen = x[:7].clone()
    if gaps:
        seen[0, 1] = seen[0, 4] = seen[3, 0] = torch.nan
    found = reconstruct(model, seen)
    with torch.no_grad():
        factors, mean = model.residual_factors, model.natural(model.decode(found.latents))
        shared, noise = factors @ factors.T, model.scale.square()
        for row, known in enumerate(~seen.isnan()):
            within = shared[known][:, known] + noise * torch.eye(int(known.sum()))
            error = (inner[row] - mean[row])[known]
            expected = mean[row] + shared[:, known] @ torch.linalg.solve(within, error)
            torch.testing.assert_close(found.whole[row], expected.exp() if transform == "log" else expected)
        torch.testing.assert_close(found.by_latents, mean.exp() if transform == "log" else mean)


def test_without_residual_factors_the_latents_give_all() -> None:
    model = Vae.from_components(Architecture(6, 6, 2, 8, 1), principal_components(data()))
    found = reconstruct(model, data()[:9])
    assert torch.equal(found.whole, found.by_latents)
