"""The decoder as onnxruntime runs it fastest: the same function in fewer passes over memory.

The scale of the coordinates is multiplied into the weights before them. The linear map is the third operand of the last
product of the network, whose kernel adds it at no cost. The centre is added after the points have their final shape:
onnxruntime copies the output of a ``Reshape`` that ends a graph, but not that of one before another operator.
"""

import torch
from torch import Tensor, nn

from vae.model.autoencoder import Vae


class FoldedDecoder(nn.Module):
    """z [batch, latent], and scores of the residual [batch, factor] -> points [batch, *shape] in units of the data."""

    straight: Tensor
    last: Tensor
    last_bias: Tensor
    residual: Tensor
    basis: Tensor
    center: Tensor

    def __init__(self, model: Vae, shape: tuple[int, ...]) -> None:
        super().__init__()
        *hidden, last = model.decoder_network
        if not isinstance(last, nn.Linear):
            raise TypeError(f"the decoder network ends with {type(last).__name__}, not with a linear layer")
        self.model, self.hidden, self.shape = model, nn.Sequential(*hidden), shape
        factors = model.residual_coordinates
        folded = {
            "straight": model.decoder_linear.weight.T * model.unit,
            "last": last.weight.T * model.unit,
            "last_bias": last.bias * model.unit,
            "residual": model.basis.new_zeros(0, len(model.unit)) if factors is None else factors.T,
            "basis": model.basis.T,
            "center": model.natural_center.unflatten(0, shape),
        }
        for name, value in folded.items():
            self.register_buffer(name, value.detach().contiguous())

    def forward(self, z: Tensor, scores: Tensor | None = None) -> Tensor:
        """The decoder's means, medians or probabilities, with the residual of the scores where they are given."""
        start = torch.addmm(self.last_bias, z, self.straight)
        if scores is not None:
            start = torch.addmm(start, scores, self.residual)
        values = torch.addmm(start, self.hidden(z), self.last)
        natural = self.center + (values @ self.basis).unflatten(-1, self.shape)
        return self.model.observed(natural)
