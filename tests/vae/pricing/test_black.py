import math

import pytest
import QuantLib as ql
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import norm
from torch.autograd import gradcheck

from vae.pricing import black


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("k", "s"), [(0.0, 0.2), (0.3, 0.2), (-0.3, 0.2), (1.0, 0.15), (-2.0, 3.0), (0.01, 1e-3)])
def test_price_and_vega_are_quantlibs(k: float, s: float) -> None:
    kind = ql.Option.Call if k >= 0 else ql.Option.Put
    price = ql.blackFormula(kind, math.exp(k), 1.0, s)
    vega = norm.pdf(-k / s + s / 2)  # d price / d s = phi(d1), per unit of forward

    assert black.otm_price(tensor(k), tensor(s)).item() == pytest.approx(price, rel=1e-10, abs=1e-16)
    assert black.vega(tensor(k), tensor(s)).item() == pytest.approx(vega, rel=1e-12)


def test_vega_is_the_derivative_of_the_price() -> None:
    k, s = tensor(-1.0, -0.1, 0.0, 0.2, 2.0), tensor(0.5, 0.1, 0.3, 0.2, 1.5).requires_grad_()
    (derivative,) = torch.autograd.grad(black.otm_price(k, s).sum(), s)
    torch.testing.assert_close(derivative, black.vega(k, s.detach()), rtol=1e-9, atol=1e-15)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.floats(-8.0, 8.0), st.floats(-14.0, 2.7))
def test_log_price_has_full_relative_accuracy(standard_deviations: float, log_s: float) -> None:
    """ln b and its slope against 60 digits, from 1e-6 to 15 in total vol: no region loses a digit."""
    s = math.exp(log_s)
    x = abs(standard_deviations) * s
    with mp.workdps(60):
        a, b = mp.mpf(x) / mp.mpf(s), mp.mpf(s) / 2
        price = (
            mp.exp(-mp.mpf(x) / 2) * mp.erfc((a - b) / mp.sqrt(2))
            - mp.exp(mp.mpf(x) / 2) * mp.erfc((a + b) / mp.sqrt(2))
        ) / 2
        slope = mp.exp(-(a**2 + b**2) / 2) / mp.sqrt(2 * mp.pi) / price

    ours = black.log_price(tensor(x), tensor(s))

    assert ours.value.item() == pytest.approx(float(mp.log(price)), rel=1e-15, abs=2e-15)
    assert ours.slope.item() == pytest.approx(float(slope), rel=1e-14)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.floats(-8.0, 8.0), st.floats(-12.0, 1.6))
def test_vol_survives_price_and_back(standard_deviations: float, log_s: float) -> None:
    """vol -> price -> vol, from 6e-6 to 5 in total vol, to the rounding of the price."""
    s = math.exp(log_s)
    k = standard_deviations * s
    price = black.otm_price(tensor(k), tensor(s))

    result = black.implied_total_vol(tensor(k), price).item()

    price_rounding = 1e-15 * (2.0 + abs(k) + (k / s) ** 2) * price.item()
    rounding = price_rounding / black.vega(tensor(k), tensor(s)).item() + 2e-15 * s
    assert result == pytest.approx(s, abs=rounding)


def test_the_way_back_starts_anywhere() -> None:
    k, s = tensor(-0.5, 0.0, 0.3, 2.0), tensor(0.4, 0.2, 0.1, 3.5)
    price = black.otm_price(k, s)
    for guess in (1e-3, 0.1, 1.0, 6.0):
        torch.testing.assert_close(black.implied_total_vol(k, price, tensor(guess)), s, rtol=1e-13, atol=0.0)


@pytest.mark.slow
def test_implied_vol_has_the_derivatives_of_the_implicit_function() -> None:
    """Forward and backward, against differences; and 1 / vega."""
    k, s = tensor(-0.3, 0.05, 0.2, 1.0), tensor(0.2, 0.3, 0.15, 1.2)
    price = black.otm_price(k, s)
    assert gradcheck(black.implied_total_vol, (k.requires_grad_(), price.requires_grad_()), check_forward_ad=True)
    (derivative,) = torch.autograd.grad(black.implied_total_vol(k, price).sum(), price)
    torch.testing.assert_close(derivative, 1.0 / black.vega(k.detach(), s), rtol=1e-12, atol=0.0)


def test_extremely_small_prices_are_inverted() -> None:
    """Prices near the smallest double still have a vol."""
    k = tensor(1.0, 2.0, -3.0)
    s = tensor(0.03, 0.06, 0.09)
    price = black.otm_price(k, s)
    assert (price < 1e-200).all()
    torch.testing.assert_close(black.implied_total_vol(k, price), s, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("k", "price"), [(0.1, 0.0), (0.1, -1e-9), (0.1, 1.0), (-0.1, math.exp(-0.1)), (0.0, math.nan), (0.2, math.inf)]
)
def test_a_price_outside_its_bounds_has_no_vol(k: float, price: float) -> None:
    assert torch.isnan(black.implied_total_vol(tensor(k), tensor(price))).all()
