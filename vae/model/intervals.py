"""The interval between borders in which a number lies, in operations that every runtime of ONNX has."""

import torch
from torch import Tensor


def interval_of(values: Tensor, borders: Tensor) -> Tensor:
    """The number of borders [border], in rising order, that each of the values [value, 1] has reached: int64 [value].

    No border leaves one interval. It is told apart, as onnxruntime refuses sums over no numbers on CUDA.
    """
    if not len(borders):
        return torch.zeros_like(values[:, 0], dtype=torch.int64)
    return (values >= borders).sum(1)
