"""Small systems against LAPACK and by their residuals, on matrices as badly scaled as a posterior's."""

import hypothesis.strategies as st
import torch
from hypothesis import given

from vae.model import linear_systems


def matrices(seed: int, size: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(7, 2 * size, size, generator=generator, dtype=torch.float64)
    rows = rows * 10.0 ** (spread * torch.rand(size, generator=generator, dtype=torch.float64))
    return rows.transpose(1, 2) @ rows + torch.eye(size, dtype=torch.float64)


def unit(product: torch.Tensor, target: torch.Tensor, *sizes: torch.Tensor) -> float:
    """The residual in units of what rounding its factors may do to it."""
    scale = torch.stack([size.flatten(1).norm(dim=1) for size in sizes]).prod(0)
    return ((product - target).flatten(1).norm(dim=1) / scale).max().item()


@given(st.integers(0, 1000), st.integers(1, 9), st.floats(0.0, 4.0))
def test_residuals_are_rounding(seed: int, size: int, spread: float) -> None:
    """The backward error, which conditioning does not blur; Higham (2002), theorem 14.5."""
    matrix = matrices(seed, size, spread)
    right = torch.randn(7, size, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    found, factor = linear_systems.solve(matrix, right), linear_systems.cholesky(matrix)
    assert unit(matrix @ found, right, matrix, found) < 1e-13
    assert unit(factor @ factor.transpose(1, 2), matrix, matrix) < 1e-14
    assert (factor == factor.tril()).all()
    inverse = linear_systems.inverse(matrix)
    assert unit(matrix @ inverse, torch.eye(size, dtype=torch.float64).expand_as(matrix), matrix, inverse) < 1e-13


def test_well_scaled_systems_agree_with_lapack() -> None:
    matrix = matrices(1, 6, 0.0)
    torch.testing.assert_close(linear_systems.inverse(matrix), torch.linalg.inv(matrix), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(linear_systems.cholesky(matrix), torch.linalg.cholesky(matrix), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(linear_systems.log_determinant(matrix), torch.logdet(matrix), rtol=1e-10, atol=1e-12)
