"""A graph computes what the module does, however small or near to 1 its constants are, without shapes of its batch."""

import numpy as np
import onnxruntime
import torch
from onnx import numpy_helper
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


class _Reshaped(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.unflatten(1, (2, 3)).square(), y.unflatten(2, (2, 3)).square()


def test_a_shape_with_one_unknown_size_is_a_constant() -> None:
    """One with two, the batch and the rows of y, is still computed."""
    x, y = torch.arange(12.0).reshape(2, 6), torch.arange(60.0).reshape(2, 5, 6)
    free = {"x": {0: "batch"}, "y": {0: "batch", 1: "rows"}}
    proto = program(_Reshaped(), {"x": x, "y": y}, outputs=["u", "v"], free=free)
    constants = {each.name: numpy_helper.to_array(each).tolist() for each in proto.graph.initializer}
    shapes = [constants.get(node.input[1]) for node in proto.graph.node if node.op_type == "Reshape"]
    assert [-1, 2, 3] in shapes
    assert None in shapes

    session = onnxruntime.InferenceSession(finished(proto, {"volvae_version": "1"}), providers=["CPUExecutionProvider"])
    feeds = {"x": np.ones((7, 6), np.float32), "y": np.ones((3, 4, 6), np.float32)}
    assert [part.shape for part in session.run(None, feeds)] == [(7, 2, 3), (3, 4, 2, 3)]
