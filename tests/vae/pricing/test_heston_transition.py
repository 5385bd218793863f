"""The exact law of a step: against Heston's characteristic function, moments of the variance, and its own quantiles."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vae.pricing.complex_pairs import Pair
from vae.pricing.heston import Heston, log_characteristic_function
from vae.pricing.heston_transition import Process, return_law, simulated, variance_law

_DAY = 1.0 / 365.0


@pytest.mark.parametrize(
    ("process", "before", "years"),
    [
        (Process(4.0, 0.04, 0.3, -0.7), 0.03, _DAY),
        (Process(4.0, 0.04, 0.3, -0.7), 0.09, 7 * _DAY),
        (Process(1.5, 0.04, 0.2, 0.5), 0.05, 30 * _DAY),
        (Process(3.0, 0.04, 0.4, -0.9), 0.02, _DAY),
    ],
)
def test_return_over_all_variances_has_the_characteristic_function_of_heston(
    process: Process, before: float, years: float
) -> None:
    law = variance_law(process, np.array(before), years)
    low, high = float(law.ppf(1e-14)), float(law.ppf(1.0 - 1e-14))
    node, weight = np.polynomial.legendre.leggauss(120)
    after = 0.5 * (low + high) + 0.5 * (high - low) * node
    weight = 0.5 * (high - low) * weight * law.pdf(after)
    given_ends = return_law(process, np.full(120, before), after, years)
    spread = np.sqrt(before * years)
    log_return = spread * np.linspace(-12.0, 12.0, 601)
    density = np.array([weight @ given_ends.density(np.full(120, each)) for each in log_return])
    u = np.array([0.5, 2.0]) / spread
    found = (density * np.exp(1j * np.outer(u - 0.5j, log_return))).sum(axis=1) * (log_return[1] - log_return[0])
    kappa, theta, xi, rho = (torch.tensor([each], dtype=torch.float64) for each in process)
    model = Heston(torch.tensor([before], dtype=torch.float64), kappa, theta, xi, rho)
    tenor, real = torch.tensor([years], dtype=torch.float64), torch.from_numpy(u)[:, None]
    expected = log_characteristic_function(model, tenor, Pair(real, torch.zeros_like(real)))
    np.testing.assert_allclose(found, np.exp(expected.re[:, 0].numpy() + 1j * expected.im[:, 0].numpy()), atol=1e-8)


def test_variance_has_the_mean_and_the_variance_of_cox_ingersoll_ross() -> None:
    """Cox, Ingersoll, Ross (1985), "A theory of the term structure of interest rates", equation 19."""
    kappa, theta, xi, _ = process = Process(2.0, 0.05, 0.4, 0.0)
    before, years = 0.03, 0.2
    decay = np.exp(-kappa * years)
    found = variance_law(process, np.array(before), years)
    assert found.mean() == pytest.approx(theta + (before - theta) * decay, rel=1e-12)
    expected = before * xi**2 / kappa * (decay - decay**2) + theta * xi**2 / (2.0 * kappa) * (1.0 - decay) ** 2
    assert found.var() == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5), st.floats(0.005, 0.2), st.floats(0.5, 2.0), st.data())
def test_quantiles_invert_the_distribution(
    shares: list[float], before: float, ratio: float, data: st.DataObject
) -> None:
    days = data.draw(st.sampled_from([1, 7]))
    ends = np.full(len(shares), before), np.full(len(shares), before * ratio)
    law = return_law(Process(4.0, 0.04, 0.3, -0.7), *ends, days * _DAY)
    found = law.quantile(np.array(shares))
    np.testing.assert_allclose(law.distribution(found), shares, atol=1e-9)
    width = 1e-4 * law.deviation
    slope = (law.distribution(found + width) - law.distribution(found - width)) / (2.0 * width)
    np.testing.assert_allclose(law.density(found), slope, rtol=1e-5)


def test_simulated_paths_follow_their_law() -> None:
    process = Process(4.0, 0.04, 0.3, -0.7)
    variance, log_return = simulated(process, 0.03, 2000, _DAY, seed=3)
    again = simulated(process, 0.03, 2000, _DAY, seed=3)
    np.testing.assert_array_equal(variance, again[0])
    np.testing.assert_array_equal(log_return, again[1])
    of_variance = variance_law(process, variance[:-1], _DAY).cdf(variance[1:])
    of_return = return_law(process, variance[:-1], variance[1:], _DAY).distribution(log_return)
    for uniform in (of_variance, of_return):
        ordered = np.sort(uniform)
        distance = np.abs(ordered - (np.arange(2000) + 0.5) / 2000).max()
        assert distance < 1.63 / np.sqrt(2000)  # Kolmogorov's 99 % point
    assert abs(np.corrcoef(of_variance, of_return)[0, 1]) < 0.07
