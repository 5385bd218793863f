"""The folded decoder computes what the model does, and its graph has no node that onnxruntime would only copy with."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from vae.bundle import Layout
from vae.graphs.decoding import FoldedDecoder
from vae.graphs.export import decoder_graph
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components

SHAPE = (2, 4)
MODELS = {
    "default": Architecture(8, 6, 3, 16, 3),
    "linear": Architecture(8, 6, 3, 16, 0),
    "logarithms": Architecture(8, 6, 3, 16, 1, transform="log"),
    "binary": Architecture(8, 6, 3, 16, 1, likelihood="bernoulli"),
    "residual factors": Architecture(8, 6, 3, 16, 2, residual_factors=4),
}


def trained(name: str) -> Vae:
    """A model in double precision whose networks are no longer zero, and whose coordinates differ in scale."""
    torch.manual_seed(1)
    x = 0.5 + 0.05 * torch.randn(300, 8, dtype=torch.float64) @ torch.diag(torch.logspace(-2, 0, 8).double())
    x = x.clamp(0.01, 0.99)
    model = Vae.from_components(MODELS[name], principal_components(x.log() if name == "logarithms" else x))
    for parameter in model.decoder_network[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_what_the_model_does(name: str) -> None:
    model = trained(name)
    z = torch.randn(50, 3, dtype=torch.float64)
    scores = torch.randn(50, MODELS[name].residual_factors, dtype=torch.float64)
    decoder = FoldedDecoder(model, SHAPE)
    with torch.no_grad():
        expected = model.expand(model.with_residual(model.decode(z), scores)).unflatten(-1, SHAPE)
        torch.testing.assert_close(decoder(z, scores), expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(decoder(z), model.expand(model.decode(z)).unflatten(-1, SHAPE), rtol=1e-12, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_its_graph_neither_computes_shapes_nor_copies_what_it_returns(name: str) -> None:
    model = trained(name)
    content = decoder_graph(trained(name).float(), Layout.of_surfaces(SHAPE), {"volvae_version": "1"})
    kinds = [node.op_type for node in onnx.load_model_from_string(content).graph.node]
    assert not {"Shape", "Concat", "Squeeze"} & set(kinds)
    assert kinds[-1] != "Reshape"
    assert kinds.count("Gemm") == MODELS[name].depth + 2

    z = torch.randn(50, 3)
    found = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(["iv"], {"z": z.numpy()})[0]
    with torch.no_grad():
        expected = model.expand(model.decode(z.double())).unflatten(-1, SHAPE).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
