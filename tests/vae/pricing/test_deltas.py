import itertools

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st

from vae.pricing import deltas

KINDS = {
    ("spot", False): ql.DeltaVolQuote.Spot,
    ("forward", False): ql.DeltaVolQuote.Fwd,
    ("spot", True): ql.DeltaVolQuote.PaSpot,
    ("forward", True): ql.DeltaVolQuote.PaFwd,
}


@pytest.mark.parametrize(("kind", "adjusted"), KINDS)
def test_strikes_have_quantlibs_deltas(kind: str, adjusted: bool) -> None:  # noqa: FBT001
    """Its BlackDeltaCalculator, from deep in the money to the wings; forward 1.07, spot 1.1."""
    spot, domestic, foreign = 1.1, 0.9, 0.9 * 1.1 / 1.07
    discount = foreign if kind == "spot" else 1.0
    cases = itertools.product((True, False), (0.01, 0.1, 0.25, 0.5, 0.75, 0.9), (0.003, 0.05, 0.3, 0.9))
    for call, delta, s in cases:
        option, sign = (ql.Option.Call, 1.0) if call else (ql.Option.Put, -1.0)
        theirs = ql.BlackDeltaCalculator(option, KINDS[kind, adjusted], spot, domestic, foreign, s)
        k = deltas.log_moneyness(
            np.array([delta]), np.array([s]), call=call, discount=np.array([discount]), premium_adjusted=adjusted
        ).item()
        if np.isnan(k):  # a call less its premium has no delta this high, at any strike
            strikes = 1.07 * np.exp(np.linspace(-10.0 * s, 10.0 * s, 2001))
            assert adjusted
            assert max(theirs.deltaFromStrike(x) for x in strikes.tolist()) < delta
            continue
        strike = spot * domestic**-1 * foreign * np.exp(k)
        assert theirs.deltaFromStrike(strike) == pytest.approx(sign * delta, abs=1e-10)
        if adjusted and call:  # the higher of two strikes: the delta falls from here on
            assert theirs.deltaFromStrike(strike * 1.0001) < delta


def test_a_put_and_a_call_of_complementary_forward_deltas_are_one_place() -> None:
    put, call = (
        deltas.log_moneyness(np.array([d]), np.array([0.2]), call=c, discount=np.ones(1))
        for d, c in ((0.25, False), (0.75, True))
    )
    np.testing.assert_allclose(put, call, rtol=1e-14)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-4, 0.999), st.floats(1e-3, 3.0), st.booleans())
def test_premium_adjusted_deltas_come_back(delta: float, s: float, call: bool) -> None:  # noqa: FBT001
    k = deltas.log_moneyness(
        np.array([delta]), np.array([s]), call=call, discount=np.ones(1), premium_adjusted=True
    ).item()
    if not np.isnan(k):
        d2 = -k / s - s / 2
        back = np.exp(k) * ql.CumulativeNormalDistribution()(d2 if call else -d2)
        assert back == pytest.approx(delta, abs=1e-10)
    else:
        assert call


def test_deltas_without_a_strike_are_nan() -> None:
    delta, s = np.array([0.0, -0.25, 1.0, 0.95, np.nan, 0.25, 0.25]), np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.0, np.nan])
    for adjusted in (False, True):
        k = deltas.log_moneyness(delta, s, call=True, discount=np.full(7, 0.94), premium_adjusted=adjusted)
        assert np.isnan(k).all()
