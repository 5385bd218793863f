import numpy as np
import torch

from vae.pricing import complex_pairs
from vae.pricing.complex_pairs import Pair

A = np.array([1.5 - 2.0j, 0.3 + 0.1j, 2.0 + 0.0j, 1e-9 + 3e-9j])
B = np.array([0.5 + 1.0j, -2.0 + 0.7j, 0.1 - 4.0j, 1.0 + 1e-9j])


def pair(z: np.ndarray) -> Pair:
    return Pair(torch.from_numpy(z.real.copy()), torch.from_numpy(z.imag.copy()))


def complexes(p: Pair) -> np.ndarray:
    return p.re.numpy() + 1j * p.im.numpy()


def test_products_and_quotients_are_complex_ones() -> None:
    np.testing.assert_allclose(complexes(pair(A).times(pair(B))), A * B, rtol=1e-14)
    np.testing.assert_allclose(complexes(pair(A).over(pair(B))), A / B, rtol=1e-14)


def test_square_root_is_the_principal_one() -> None:
    np.testing.assert_allclose(complexes(complex_pairs.sqrt_right_half_plane(pair(A))), np.sqrt(A), rtol=1e-14)


def test_expm1_and_log1p_keep_the_digits_of_small_numbers() -> None:
    """Against the first terms of their series at 1e-9, where the naive forms lose half of the digits."""
    z = A[3]
    np.testing.assert_allclose(complexes(complex_pairs.expm1(pair(A)))[3], z + z * z / 2, rtol=1e-15)
    np.testing.assert_allclose(complexes(complex_pairs.log1p(pair(A)))[3], z - z * z / 2, rtol=1e-15)
    np.testing.assert_allclose(complexes(complex_pairs.expm1(pair(B))), np.exp(B) - 1, rtol=1e-13)
    np.testing.assert_allclose(complexes(complex_pairs.log1p(pair(B))), np.log(1 + B), rtol=1e-13)
