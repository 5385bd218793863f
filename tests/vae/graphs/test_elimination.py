"""Eliminations in an ONNX graph against LAPACK."""

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from vae.graphs.export import finished, program
from vae.model import linear_systems


class _Systems(nn.Module):
    def forward(self, matrix: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        found = linear_systems.solve(matrix, right), linear_systems.inverse(matrix)
        return *found, linear_systems.log_determinant(matrix)


def test_a_graph_solves_inverts_and_finds_the_determinant() -> None:
    rows = torch.randn(5, 20, 7).double()
    matrix, right = rows.mT @ rows, torch.randn(5, 7, 2).double()
    names, free = ["solution", "inverse", "log_determinant"], {"matrix": {0: "batch"}, "right": {0: "batch"}}
    proto = program(_Systems(), {"matrix": matrix, "right": right}, outputs=names, free=free)
    session = onnxruntime.InferenceSession(finished(proto, {"volvae_version": "1"}), providers=["CPUExecutionProvider"])
    found = session.run(None, {"matrix": matrix[:3].numpy(), "right": right[:3].numpy()})
    expected = torch.linalg.solve(matrix, right), torch.linalg.inv(matrix), torch.logdet(matrix)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact[:3].numpy(), rtol=1e-10, atol=1e-12)
