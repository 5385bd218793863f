"""Total volatilities of prices by numpy, beside those by torch, whose formula is another one."""

import numpy as np
import pytest
import torch

from vae.pricing import black
from vae.pricing.implied_vol import implied_total_vol


@pytest.mark.parametrize(
    ("lowest", "highest", "widest", "tolerance"),
    [(1e-4, 1e-3, 0.002, 3e-11), (1e-3, 0.05, 0.1, 3e-12), (0.05, 1.0, 2.0, 1e-12), (1.0, 8.0, 3.0, 1e-12)],
)
def test_vols_come_back_from_their_prices(lowest: float, highest: float, widest: float, tolerance: float) -> None:
    random = np.random.default_rng(1)
    total_vol = np.exp(random.uniform(np.log(lowest), np.log(highest), 5000))
    k = random.uniform(-widest, widest, 5000)
    price = black.otm_price(torch.from_numpy(k), torch.from_numpy(total_vol)).numpy()
    known = price > 1e-250
    assert known.mean() > 0.8
    np.testing.assert_allclose(implied_total_vol(k[known], price[known]), total_vol[known], rtol=tolerance)


@pytest.mark.parametrize(
    ("k", "price"), [(0.0, 0.0), (0.1, -0.01), (0.1, 1.0), (-0.1, np.exp(-0.1)), (0.1, np.nan), (np.nan, 0.1)]
)
def test_prices_outside_the_bounds_have_no_vol(k: float, price: float) -> None:
    assert np.isnan(implied_total_vol(np.array([k]), np.array([price]))).all()
    assert implied_total_vol(np.zeros(0), np.zeros(0)).shape == (0,)
