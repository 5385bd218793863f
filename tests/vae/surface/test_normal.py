import numpy as np
from mpmath import mp
from scipy.special import ndtr, ndtri

from vae.surface.normal import normal_cdf, normal_quantile
from vae.surface.units import Z90


def test_the_distribution_function_is_scipys() -> None:
    x = np.linspace(-45.0, 45.0, 9003).reshape(3, -1)
    np.testing.assert_allclose(normal_cdf(x), ndtr(x), rtol=0.0, atol=1e-14)


def test_the_quantile_is_scipys_from_tail_to_tail() -> None:
    p = np.concatenate((np.logspace(-300, -1, 300), np.linspace(0.1, 1.0 - 1e-12, 300))).reshape(2, -1)
    np.testing.assert_allclose(normal_quantile(p), ndtri(p), rtol=2e-15, atol=1e-16)


def test_90_percent_of_a_normal_variable_lie_within_z90() -> None:
    with mp.workdps(30):
        assert float(mp.sqrt(2) * mp.erfinv(mp.mpf("0.9"))) == Z90
