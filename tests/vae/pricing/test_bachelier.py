import math

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from vae.pricing import bachelier
from vae.pricing.bachelier import Array

FORWARDS = st.sampled_from([0.002, 0.031, 1.1, 97.5, 4000.0])


def array(*values: float) -> Array:
    return np.array(values)


def kind(forward: float, strike: float) -> int:
    """The option out of the money."""
    return ql.Option.Call if strike >= forward else ql.Option.Put


def test_price_at_the_money_is_that_of_the_textbook() -> None:
    """s / sqrt(2 pi), whatever the forward; also below zero."""
    prices = bachelier.otm_price(array(-0.01, 0.0, 100.0), array(-0.01, 0.0, 100.0), array(0.01, 0.01, 20.0))
    np.testing.assert_allclose(prices, array(0.01, 0.01, 20.0) / math.sqrt(2.0 * math.pi), rtol=1e-15)


@settings(max_examples=300, deadline=None)
@given(FORWARDS, st.floats(-6.0, 6.0), st.floats(0.001, 0.5))
def test_price_is_quantlibs(forward: float, d: float, relative: float) -> None:
    s = relative * forward
    strike = forward + d * s
    expected = ql.bachelierBlackFormula(kind(forward, strike), strike, forward, s)
    ours = bachelier.otm_price(array(forward), array(strike), array(s)).item()
    # QuantLib subtracts two products of this size
    assert ours == pytest.approx(expected, rel=1e-12, abs=4e-15 * s * (1.0 + abs(d)))


@settings(max_examples=200, deadline=None)
@given(FORWARDS, st.floats(-4.0, 4.0), st.floats(0.01, 0.3), st.floats(1.0, 10.0))
def test_black_vol_has_the_same_price_and_leads_back(forward: float, d: float, relative: float, tenor: float) -> None:
    """normal -> Black -> normal through QuantLib's prices and inverses; these lose digits beyond 4 deviations."""
    s = relative * forward
    strike = max(forward + d * s, 0.02 * forward)
    normal = s / math.sqrt(tenor)

    black = bachelier.black_vols(array(normal), array(forward), array(strike), array(tenor)).item()

    option = kind(forward, strike)
    price = ql.bachelierBlackFormula(option, strike, forward, s)
    expected = ql.blackFormulaImpliedStdDev(option, strike, forward, price, 1.0, 0.0, relative, 1e-16, 1000)
    assert black == pytest.approx(expected / math.sqrt(tenor), abs=1e-12)
    price = ql.blackFormula(option, strike, forward, black * math.sqrt(tenor))
    back = ql.bachelierBlackFormulaImpliedVol(option, strike, forward, tenor, price)
    assert back == pytest.approx(normal, abs=1e-12 * forward)


@pytest.mark.parametrize("d", [-9.0, -6.0, 6.0, 15.0, 30.0])
def test_wings_keep_their_digits(d: float) -> None:
    """The normal vol of Black's price of the result, with 400 digits."""
    forward, s = 100.0, 0.5
    strike = forward + d * s
    black = bachelier.black_vols(array(s), array(forward), array(strike), array(1.0)).item()
    with mp.workdps(400):
        sign = 1 if d > 0.0 else -1
        k = mp.log(mp.mpf(strike) / forward)
        d1 = -k / black + mp.mpf(black) / 2
        price = sign * (forward * mp.ncdf(sign * d1) - strike * mp.ncdf(sign * (d1 - black)))

        def excess(x: object) -> object:
            z = abs(strike - forward) / x
            return mp.log((x * mp.npdf(z) - abs(strike - forward) * mp.ncdf(-z)) / price)

        back = float(mp.findroot(excess, (0.49, 0.51)))
    assert back == pytest.approx(s, abs=1e-12)


def test_strikes_that_black_does_not_know_are_nan() -> None:
    one = np.ones(8)
    forward = array(-0.01, 0.0, 0.01, 0.01, 0.01, 0.01, 0.01, np.nan)
    strike = array(0.01, 0.01, -0.01, 0.0, 0.01, 0.01, 0.01, 0.01)
    normal = array(0.01, 0.01, 0.01, 0.01, 0.0, -0.01, 5.0, 0.01)  # 5.0: the call is worth more than the forward
    assert np.isnan(bachelier.black_vols(normal, forward, strike, one)).all()
    assert np.isnan(bachelier.black_vols(array(0.01), array(0.01), array(0.01), array(0.0))).all()
