"""Rows of data in blocks: what is made of one block bounds the memory, however many rows there are in a file."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 65_536  # of a block


def any_of(x: Tensor, condition: Callable[[Tensor], Tensor]) -> bool:
    """Whether a condition holds anywhere in x [n, D]."""
    return any(bool(condition(block).any()) for block in x.split(ROWS))


def has_missing(x: Tensor) -> bool:
    """Whether a point of x [n, D] is NaN."""
    return any_of(x, torch.isnan)


def complete(x: Tensor) -> Tensor:
    """Places of the rows of x [n, D] without NaN, [row]."""
    return torch.cat([~block.isnan().any(1) for block in x.split(ROWS)]).nonzero().squeeze(1)


def empty_columns(x: Tensor) -> Tensor:
    """Which columns of x [n, D] are NaN in all rows, [D]."""
    return torch.stack([block.isnan().all(0) for block in x.split(ROWS)]).all(0)
