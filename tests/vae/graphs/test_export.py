"""Graphs of models that the default is not: other grids, logarithms of vols, noise by point, half precision."""

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.export import in_single_precision
from pipeline.files.trained_model import Prior
from vae.bundle import Layout
from vae.graphs import export
from vae.graphs.completer import completer_graph
from vae.model.autoencoder import Architecture, Vae
from vae.model.completion import Quotes, complete_quotes
from vae.model.linear import principal_components
from vae.model.mixture import Mixture
from vae.model.quote_weights import QuoteInterpolator
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError

TENORS = np.array([0.1, 0.5])
METADATA = {"volvae_version": "1"}
DELTAS = Grid(TENORS, np.linspace(0.1, 0.9, 5), "delta")
READING = ReadingError(np.full((len(TENORS) - 1, 5), 0.001), np.full((len(TENORS), 4), 0.0005))
MARKETS = Prior(
    Mixture(np.full(2, 0.5), np.zeros((2, 4)), np.stack([np.eye(4), 2.0 * np.eye(4)])),
    ("level", "vix"),
    ("AUDUSD", "EURUSD"),
    np.arange(2),
)


def trained(transform: str, scale: str) -> Vae:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    x = 0.2 + 0.02 * torch.rand(500, 2, generator=generator, dtype=torch.float64) @ mix
    x = (x + 0.001 * torch.randn(500, 10, generator=generator, dtype=torch.float64)).clamp_min(0.05)
    noise = {"residual_factors": 6} if scale == "correlated" else {"scale": scale}
    architecture = Architecture(10, 10, 2, 8, 1, transform=transform, sees_missing=True, **noise)  # type: ignore[arg-type]
    return Vae.from_components(architecture, principal_components(x.log() if transform == "log" else x))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("convention", "transform", "scale"),
    [
        ("delta", "log", "point"),
        ("log_moneyness", "none", "correlated"),
        ("log_moneyness", "none", "decoded"),
    ],
)
def test_quotes_off_the_grid_are_completed_as_in_torch(convention: str, transform: str, scale: str) -> None:
    """The first model is asked for the second of its markets."""
    grid = DELTAS if convention == "delta" else Grid(TENORS, np.linspace(-0.2, 0.2, 5))
    model, markets = trained(transform, scale), MARKETS.markets if convention == "delta" else ()
    k, tenor, iv = (torch.tensor(part).double() for part in ([0.02, -0.03, 0.01], [0.3, 0.15, 0.5], [0.21, 0.2, 0.19]))
    weight = torch.tensor([1.0, 0.5, 2.0]).double()
    priors = [MARKETS.in_market(name) for name in markets]
    quotes = Quotes(k, tenor, iv, weight)
    with torch.no_grad():
        expected, weights = complete_quotes(model, QuoteInterpolator(grid, READING), quotes, *priors[1:])
    session = onnxruntime.InferenceSession(completer_graph(in_single_precision(model), grid, METADATA, priors, READING))
    inputs = {"log_moneyness": k, "tenor": tenor, "iv": iv, "weight": weight}

    feeds = {name: part.float().numpy() for name, part in inputs.items()}
    if markets:
        feeds["market"] = np.array([1])
    surface, std, z, fitted, fitted_std, misfit, _, used = session.run(None, feeds)

    assert used.all()
    assert weights.inside.all()
    np.testing.assert_allclose(surface.ravel(), expected.mean[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(std.ravel(), expected.std[0].numpy(), rtol=1e-3)
    np.testing.assert_allclose(z, expected.latents[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(misfit, expected.misfit.numpy(), rtol=1e-3)
    assert fitted.shape == (3,)
    relative = fitted / iv.numpy() if transform == "log" else 1.0
    assert (fitted_std > 0.99 * relative * weights.variance.sqrt().numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["none", "log"])
def test_half_precision_is_off_by_a_few_basis_points(transform: str) -> None:
    grid, model = Grid(TENORS, np.linspace(-0.2, 0.2, 5)), trained(transform, "shared").float().eval()
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = export.Decoder(model, grid.shape)(z).numpy()
    session = onnxruntime.InferenceSession(export.half_decoder_graph(model, Layout.of_surfaces(grid.shape), METADATA))
    found = session.run(None, {"z": z.numpy()})[0]
    assert found.dtype == np.float32
    assert 1e-6 < np.abs(found - expected).max() < 1e-3
    assert next(model.parameters()).dtype == torch.float32
