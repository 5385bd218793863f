"""Batched solve, inverse and Cholesky factor of small positive definite matrices, as plain tensor operations.

The matrices have a row for each latent. In batches this is faster than one call of LAPACK for each, and it can be
exported to ONNX.
"""

import torch
from torch import Tensor


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution x [*batch, d, column] of matrix x = right, for positive definite matrices [*batch, d, d].

    Gauss and Jordan's elimination; a positive definite matrix needs no pivoting.

    Reference: Higham (2002), "Accuracy and stability of numerical algorithms", section 14.4.
    """
    size = matrix.shape[-1]
    rows = torch.cat([matrix, right], dim=-1)
    number = torch.arange(size, device=matrix.device).unsqueeze(1)
    for i in range(size):
        pivot = rows[..., i : i + 1, :] / rows[..., i : i + 1, i : i + 1]
        rows = torch.where(number == i, pivot, rows - rows[..., i : i + 1] * pivot)
    return rows[..., size:]


def inverse(matrix: Tensor) -> Tensor:
    """The inverse of positive definite matrices [*batch, d, d]."""
    return solve(matrix, torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix))


def cholesky(matrix: Tensor) -> Tensor:
    """Lower factors L of positive definite matrices L L', [*batch, d, d]."""
    columns, rest = [], matrix
    for i in range(matrix.shape[-1]):
        column = rest[..., i] / rest[..., i, i].sqrt().unsqueeze(-1)
        rest = rest - column.unsqueeze(-1) * column.unsqueeze(-2)
        columns.append(column)
    return torch.stack(columns, dim=-1).tril()
