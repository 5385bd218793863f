"""Data parallelism: each process computes the gradients of its part of a batch, and all take the same step.

What a step makes of the gradients is divided too: each process moves some of the parameters and tells the others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Replicas:
    """This process among those that ``torch.distributed`` has joined.

    Attributes:
        rank: of this process.
        count: of processes.
    """

    rank: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """This process's part of a batch; sizes differ by one at most."""
        return slice(self.rank * batch // self.count, (self.rank + 1) * batch // self.count)

    def add(self, parameters: Iterable[nn.Parameter], value: Tensor) -> Tensor:
        """Sum gradients in place, and a value, over all processes; every process gets the same bits."""
        if self.count == 1:
            return value
        _sum([p.grad for p in parameters if p.grad is not None] + [value])
        return value

    def share(self, tensors: Sequence[Tensor], owners: Sequence[int]) -> None:
        """Give all processes the tensors that each of them owns, in place; ``owners`` names the rank of each."""
        if self.count == 1:
            return
        for tensor, owner in zip(tensors, owners, strict=True):
            if owner != self.rank:
                tensor.zero_()
        _sum(tensors)


def _sum(tensors: Sequence[Tensor]) -> None:
    """Sum tensors over all processes, in place and in one message."""
    joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(joined)
    for tensor, part in zip(tensors, joined.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
