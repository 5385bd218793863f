import math

import numpy as np
import pytest
import torch

from tests.vae.pricing.heston_references import (
    TYPICAL,
    log_phi,
)


@pytest.mark.parametrize("tenor", [6 / 365, 1.0, 10.0])
def test_characteristic_function_is_hestons(tenor: float) -> None:
    """Against the textbook form in complex arithmetic, at ordinary parameters where it has no branch trouble."""
    v0, kappa, theta, xi, rho = TYPICAL
    u = np.linspace(0.0, 5.0, 41)
    z = u - 0.5j
    beta = kappa - 1j * rho * xi * z
    d = np.sqrt(beta**2 + xi**2 * (z**2 + 1j * z))
    g = (beta - d) / (beta + d)
    decay = np.exp(-d * tenor)
    expected = kappa * theta / xi**2 * ((beta - d) * tenor - 2 * np.log((1 - g * decay) / (1 - g)))
    expected += v0 / xi**2 * (beta - d) * (1 - decay) / (1 - g * decay)

    ours = log_phi(TYPICAL, tenor, torch.from_numpy(u))

    np.testing.assert_allclose(ours.re[:, 0] + 1j * ours.im[:, 0].numpy(), expected, rtol=1e-11, atol=1e-13)


def test_price_matches_quadrature_over_the_variance_path_when_uncorrelated() -> None:
    """At rho = 0 and u = 0 the transform is E[exp(-V/8)] of the integrated variance V: a CIR bond price."""
    v0, kappa, theta, xi, tenor = 0.04, 1.5, 0.06, 0.5, 2.0
    rate = 1 / 8
    h = math.sqrt(kappa**2 + 2 * xi**2 * rate)
    denominator = (h + kappa) * (math.exp(h * tenor) - 1) + 2 * h
    bond = (2 * h * math.exp((kappa + h) * tenor / 2) / denominator) ** (2 * kappa * theta / xi**2)
    bond *= math.exp(-rate * v0 * 2 * (math.exp(h * tenor) - 1) / denominator)

    ours = log_phi([v0, kappa, theta, xi, 0.0], tenor, torch.zeros(1, dtype=torch.float64))

    assert ours.re.item() == pytest.approx(math.log(bond), rel=1e-12)
