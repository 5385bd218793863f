"""A graph computes what the module does, however small or near to 1 its constants are."""

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from vae.graphs.export import finished, program


class _SmallConstants(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        small, near = torch.tensor(9e-9), torch.tensor(1.0 + 5e-6)
        return x + small, x - small, x * near, x / near, x + small.double(), (x.square() + small).sqrt()


def test_small_constants_stay() -> None:
    x = torch.linspace(0.0, 1e-8, 5)
    names = [f"y{i}" for i in range(6)]
    proto = program(_SmallConstants(), {"x": x}, outputs=names, free={"x": {0: "batch"}})
    content = finished(proto, {"volvae_version": "1"})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for found, expected in zip(session.run(None, {"x": x.numpy()}), _SmallConstants()(x), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=0.0)
