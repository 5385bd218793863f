import itertools

import numpy as np
import pytest
import QuantLib as ql
from scipy.interpolate import CubicSpline
from scipy.stats import norm

from vae.pricing import fx_smile
from vae.pricing.fx_smile import Array, Conventions, FxSmiles

TENOR = np.array([1 / 12, 1 / 6, 0.25, 0.5, 1.0, 2.0])
# Clark (2011), tables 3.3 and 3.4: EURUSD and EURJPY, at the money, 25 delta risk reversal and market strangle
EURUSD = (
    [21.0, 21.0, 20.75, 19.4, 18.25, 17.677],
    [-0.2, -0.25, -0.3, -0.5, -0.6, -0.562],
    [0.65, 0.75, 0.85, 0.9, 0.95, 0.85],
)
EURJPY = (
    [21.5, 20.5, 19.85, 18.0, 15.95, 14.009],
    [-8.35, -8.65, -8.95, -9.25, -9.55, -9.5],
    [0.35, 0.325, 0.3, 0.225, 0.175, 0.1],
)
SPOT = 1.3465
DOMESTIC, FOREIGN = np.exp(-0.0294 * TENOR), np.exp(-0.0346 * TENOR)
FORWARD = SPOT * FOREIGN / DOMESTIC
KINDS = {
    ("spot", False): ql.DeltaVolQuote.Spot,
    ("forward", False): ql.DeltaVolQuote.Fwd,
    ("spot", True): ql.DeltaVolQuote.PaSpot,
    ("forward", True): ql.DeltaVolQuote.PaFwd,
}
ATM = {
    "delta_neutral": ql.DeltaVolQuote.AtmDeltaNeutral,
    "forward": ql.DeltaVolQuote.AtmFwd,
    "spot": ql.DeltaVolQuote.AtmSpot,
}
MARKETS = [
    Conventions(delta=kind, premium_adjusted=adjusted, atm=atm, strangle="smile")  # type: ignore[arg-type]
    for (kind, adjusted), atm in itertools.product(KINDS, ATM)
]


def conventions_of(delta: str, strangle: str, *, adjusted: bool = False) -> Conventions:
    """Those of a delta-neutral straddle."""
    return Conventions(delta=delta, premium_adjusted=adjusted, atm="delta_neutral", strangle=strangle)  # type: ignore[arg-type]


def built(quotes: tuple[list[float], ...], conventions: Conventions, wing: float | None = None) -> FxSmiles:
    """Smiles of quotes in percent; with ``wing``, 10 delta butterflies of so many times the 25 delta ones."""
    atm, risk_reversal, butterfly = (np.array(x) / 100.0 for x in quotes)
    columns = [(risk_reversal, butterfly)] + ([] if wing is None else [(1.8 * risk_reversal, wing * butterfly)])
    rr, bf = (np.stack(part, axis=-1) for part in zip(*columns, strict=True))
    deltas = np.array([0.25, 0.1][: len(columns)])
    return fx_smile.smiles(
        atm, rr, bf, deltas, TENOR, conventions, foreign_discount=FOREIGN, spot_moneyness=SPOT / FORWARD
    )


def calculator(option: int, conventions: Conventions, i: int, vol: float) -> ql.BlackDeltaCalculator:
    kind = KINDS[conventions.delta, conventions.premium_adjusted]
    return ql.BlackDeltaCalculator(option, kind, SPOT, DOMESTIC[i], FOREIGN[i], vol * np.sqrt(TENOR[i]))


@pytest.mark.parametrize("conventions", MARKETS, ids=str)
def test_table_to_smile_and_back_is_quantlibs(conventions: Conventions) -> None:
    """Deltas and at-the-money strikes of our points by its BlackDeltaCalculator; and the table from our vols."""
    points = built(EURUSD, conventions, wing=3.5)
    for i, (k, vol) in enumerate(zip(points.k.tolist(), points.vol.tolist(), strict=True)):
        strikes = FORWARD[i] * np.exp(k)
        for j, delta in ((0, -0.1), (1, -0.25), (3, 0.25), (4, 0.1)):
            own = calculator(ql.Option.Put if delta < 0.0 else ql.Option.Call, conventions, i, vol[j])
            assert own.deltaFromStrike(strikes[j]) == pytest.approx(delta, abs=1e-10)
        atm = calculator(ql.Option.Call, conventions, i, vol[2])
        if not (conventions.premium_adjusted and conventions.atm == "spot"):  # QuantLib has no such pair
            assert strikes[2] == pytest.approx(atm.atmStrike(ATM[conventions.atm]), abs=1e-10)
        assert vol[2] == pytest.approx(EURUSD[0][i] / 100.0, abs=1e-15)
        assert vol[3] - vol[1] == pytest.approx(EURUSD[1][i] / 100.0, abs=1e-15)
        assert 0.5 * (vol[3] + vol[1]) - vol[2] == pytest.approx(EURUSD[2][i] / 100.0, abs=1e-15)


@pytest.mark.parametrize(
    ("quotes", "adjusted", "wing"), [(EURUSD, False, None), (EURUSD, False, 3.5), (EURJPY, True, None)]
)
def test_market_strangles_cost_what_the_smile_says(
    quotes: tuple[list[float], ...],
    adjusted: bool,  # noqa: FBT001
    wing: float | None,
) -> None:
    """QuantLib's prices of the market strangle by its one vol, and by the vols that a smile through our points has."""
    conventions = conventions_of("spot", "market", adjusted=adjusted)
    points = built(quotes, conventions, wing)
    atm, _, butterfly = (np.array(x) / 100.0 for x in quotes)
    for i in range(len(TENOR)):
        for delta, strangle in ((0.25, butterfly[i]), (0.1, (wing or 0.0) * butterfly[i])):
            if delta == 0.1 and wing is None:
                continue
            vol, price, smile_price = atm[i] + strangle, 0.0, 0.0
            for option, signed in ((ql.Option.Call, delta), (ql.Option.Put, -delta)):
                strike = calculator(option, conventions, i, vol).strikeFromDelta(signed)
                at_strike = read(points, i, float(np.log(strike / FORWARD[i])), atm[i])
                price += ql.blackFormula(option, strike, FORWARD[i], vol * np.sqrt(TENOR[i]))
                smile_price += ql.blackFormula(option, strike, FORWARD[i], at_strike * np.sqrt(TENOR[i]))
            assert smile_price == pytest.approx(price, abs=1e-10)
        assert points.vol[i, -1] - points.vol[i, 0] == pytest.approx(
            (1.0 if wing is None else 1.8) * quotes[1][i] / 100.0, abs=1e-14
        )


def read(points: FxSmiles, i: int, k: float, atm: float) -> float:
    """The vol at k by scipy: the logarithm is a spline in N(k / total vol), straight beyond its ends."""
    width = atm * np.sqrt(TENOR[i])
    nodes, x = norm.cdf(points.k[i] / width), norm.cdf(k / width)
    spline = CubicSpline(nodes, np.log(points.vol[i]), bc_type="not-a-knot")
    inside = np.clip(x, nodes[0], nodes[-1])
    return float(np.exp(spline(inside) + spline(inside, 1) * (x - inside)))


def test_market_and_smile_strangles_agree_without_skew() -> None:
    market, smile = (
        built((EURUSD[0], [0.0] * 6, [0.3] * 6), conventions_of("forward", strangle))
        for strangle in ("market", "smile")
    )
    np.testing.assert_allclose(market.vol, smile.vol, atol=1e-14)


@pytest.mark.parametrize("strangle", ["smile", "market"])
def test_wings_that_are_not_quoted_are_nan_and_change_nothing(strangle: str) -> None:
    """A table in which the 10 delta stands only in some rows; deltas in any order."""
    rr, bf = np.full((2, 2), -0.01), np.full((2, 2), 0.005)
    rr[1, 0] = bf[1, 0] = np.nan

    def smiles(rr: Array, bf: Array, deltas: list[float]) -> FxSmiles:
        atm, tenor, one = np.full(2, 0.1), np.array([0.5, 0.5]), np.ones(2)
        own = conventions_of("spot", strangle)
        return fx_smile.smiles(atm, rr, bf, np.array(deltas), tenor, own, foreign_discount=one, spot_moneyness=one)

    both, single = smiles(rr, bf, [0.1, 0.25]), smiles(rr[:, 1:], bf[:, 1:], [0.25])
    assert np.isnan(both.vol[1, [0, 4]]).all()
    np.testing.assert_allclose(both.vol[1, 1:4], single.vol[1], atol=1e-15)
    np.testing.assert_array_equal(both, smiles(rr[:, ::-1], bf[:, ::-1], [0.25, 0.1]))


def test_quotes_that_are_no_smile_are_nan() -> None:
    """A negative vol; strikes that do not rise; market strangles that no smile prices."""
    one, conventions = np.ones(1), conventions_of("forward", "smile")
    own = {"foreign_discount": one, "spot_moneyness": one}

    def smile(rr: list[float], bf: list[float], conventions: Conventions = conventions) -> FxSmiles:
        deltas = np.array([0.1, 0.25][-len(rr) :])
        return fx_smile.smiles(np.array([0.2]), np.array([rr]), np.array([bf]), deltas, one / 12, conventions, **own)

    assert np.isnan(smile([0.6], [0.0]).vol).tolist() == [[True, False, False]]
    assert np.isnan(smile([-0.2, -0.02], [0.0, 0.0]).vol).all()
    market = conventions_of("spot", "market", adjusted=True)
    assert np.isnan(smile([-0.15, -0.0835], [0.02, 0.0035], market).vol).tolist() == [[True, True, False, True, True]]


@pytest.mark.parametrize("deltas", [[0.25, 0.25], [0.5, 0.25], [25.0, 10.0], [0.0, 0.1]])
def test_deltas_must_be_decimal_and_distinct(deltas: list[float]) -> None:
    one, two = np.ones(1), np.zeros((1, 2))
    with pytest.raises(ValueError, match="distinct and inside"):
        fx_smile.smiles(one, two, two, np.array(deltas), one, MARKETS[0], foreign_discount=one, spot_moneyness=one)
