"""Batched solve, inverse, determinant and Cholesky factor of small positive definite matrices, in tensor operations.

The matrices have a row for each latent or each residual factor. In batches this is faster than one call of LAPACK for
each, and it can be exported to ONNX.
"""

import torch
from torch import Tensor

ELIMINATE = "volvae::eliminate"  # the node of an elimination in a traced graph, see vae.graphs.elimination


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution x [*batch, d, column] of matrix x = right, for positive definite matrices [*batch, d, d]."""
    return _eliminated(matrix, right)[0]


def inverse(matrix: Tensor) -> Tensor:
    """The inverse of positive definite matrices [*batch, d, d]."""
    return _eliminated(matrix, _identity_like(matrix))[0]


def log_determinant(matrix: Tensor) -> Tensor:
    """The log determinant [*batch] of positive definite matrices [*batch, d, d]."""
    return _eliminated(matrix, matrix[..., :0])[1].log().sum(-1)


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)


def _eliminated(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The solution of matrix x = right, and the pivots [*batch, d], whose product is the determinant.

    Gauss and Jordan's elimination; a positive definite matrix needs no pivoting. In a traced graph it is one node.

    Reference: Higham (2002), "Accuracy and stability of numerical algorithms", section 14.4.
    """
    size, columns = matrix.shape[-1], right.shape[-1]
    if torch.compiler.is_exporting():
        types, shapes = (matrix.dtype, matrix.dtype), (right.shape, matrix.shape[:-1])
        found, pivots = torch.onnx.ops.symbolic_multi_out(
            ELIMINATE, (matrix, right), {"size": size, "columns": columns}, dtypes=types, shapes=shapes, version=1
        )
        return found, pivots
    rows, diagonal = torch.cat([matrix, right], dim=-1), []
    number = torch.arange(size, device=matrix.device).unsqueeze(1)
    for i in range(size):
        column, rest = rows[..., :1], rows[..., 1:]
        pivot = column[..., i : i + 1, :]
        scaled = rest[..., i : i + 1, :] / pivot
        rows = torch.where(number == i, scaled, rest - column * scaled)
        diagonal.append(pivot[..., 0, 0])
    return rows, torch.stack(diagonal, dim=-1)


def cholesky(matrix: Tensor) -> Tensor:
    """Lower factors L of positive definite matrices L L', [*batch, d, d]."""
    columns, rest = [], matrix
    for i in range(matrix.shape[-1]):
        column = rest[..., i] / rest[..., i, i].sqrt().unsqueeze(-1)
        rest = rest - column.unsqueeze(-1) * column.unsqueeze(-2)
        columns.append(column)
    return torch.stack(columns, dim=-1).tril()
