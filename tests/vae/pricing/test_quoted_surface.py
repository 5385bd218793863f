import itertools

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from scipy.stats import norm

from vae.pricing import quoted_surface
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces

FORWARD, DISCOUNT, TENOR = 104.3, 0.97, 0.75
TENORS = np.array([30, 91, 182, 365]) / 365
NODES = {"log_moneyness": np.linspace(-0.3, 0.3, 7), "sqrt_time": np.linspace(-0.5, 0.5, 7), "delta": [0.1, 0.4, 0.8]}
CONVENTIONS = tuple(NODES)


def svi(k: np.ndarray, tenor: float) -> np.ndarray:
    """A total variance without arbitrage, linear in the tenor at equal k."""
    return tenor * (0.02 + 0.1 * (-0.4 * (k + 0.05) + np.sqrt((k + 0.05) ** 2 + 0.2**2)))


def quoted(tenor: float, k: np.ndarray) -> quoted_surface.Smile:
    return quoted_surface.smile(tenor, k, np.sqrt(svi(k, tenor) / tenor), np.ones(len(k)))


def black(strikes: np.ndarray, vols: np.ndarray, *, call: bool, discount: float = DISCOUNT) -> np.ndarray:
    """QuantLib's price of each option."""
    kind = ql.Option.Call if call else ql.Option.Put
    pairs = zip(strikes.tolist(), (vols * np.sqrt(TENOR)).tolist(), strict=True)
    return np.array([ql.blackFormula(kind, strike, FORWARD, deviation, discount) for strike, deviation in pairs])


def ragged(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Strikes at random and the vols there."""
    strikes = np.sort(np.random.default_rng(seed).uniform(0.7, 1.3, count)) * FORWARD
    return strikes, np.sqrt(svi(np.log(strikes / FORWARD), TENOR) / TENOR)


def parity(strikes: np.ndarray, difference: np.ndarray, *, discount: float) -> tuple[float, float]:
    """Forward and discount factor of one expiry."""
    expiry = np.zeros(len(strikes), np.int64)
    found = quoted_surface.parity(expiry, strikes, difference, discount=np.array([discount]))
    return found.forward[0], found.discount[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 60), st.integers(0, 2**32 - 1))
def test_parity_finds_forward_and_discount_factor(count: int, seed: int) -> None:
    """Also where the rate is not known, the strikes are ragged and the smile is not flat."""
    strikes, vols = ragged(count, seed)
    difference = black(strikes, vols, call=True) - black(strikes, vols, call=False)
    forward, discount = parity(strikes, difference, discount=1.0)
    assert forward == pytest.approx(FORWARD, rel=1e-10)
    assert discount == pytest.approx(DISCOUNT, rel=1e-9)


def test_bad_quotes_do_not_move_the_forward() -> None:
    strikes, vols = ragged(25, 1)
    difference = black(strikes, vols, call=True) - black(strikes, vols, call=False)
    difference[[3, 11, 17]] += [5.0, -3.0, 0.4]
    found = parity(strikes, difference, discount=1.0)
    assert found == pytest.approx((FORWARD, DISCOUNT), rel=1e-9)


@pytest.mark.parametrize("count", [1, 3])
def test_few_pairs_use_the_discount_factor_that_is_known(count: int) -> None:
    strikes = np.array([90.0, 100.0, 110.0])[:count]
    found = parity(strikes, DISCOUNT * (FORWARD - strikes), discount=DISCOUNT)
    assert found == pytest.approx((FORWARD, DISCOUNT), rel=1e-14)


@pytest.mark.parametrize("unit", [-1.0, 0.01, 100.0])
def test_strikes_of_another_unit_have_no_forward(unit: float) -> None:
    strikes = np.linspace(90.0, 110.0, 9)
    assert np.isnan(parity(unit * strikes, DISCOUNT * (FORWARD - strikes), discount=1.0)).all()


def test_expiries_together_have_what_each_has_alone() -> None:
    """Of any number of pairs, none included, in any order."""
    random, counts = np.random.default_rng(3), [5, 0, 2, 60, 5, 41]
    expiry = np.repeat(np.arange(len(counts)), counts)
    strikes = np.concatenate([np.sort(random.uniform(80.0, 120.0, count)) for count in counts])
    difference = 0.9 * (100.0 + expiry - strikes) + random.normal(0.0, 0.05, len(expiry))
    discount = np.linspace(0.85, 0.95, len(counts))
    order = random.permutation(len(expiry))
    found = quoted_surface.parity(expiry[order], strikes[order], difference[order], discount=discount)
    for i in range(len(counts)):
        own = expiry == i
        alone = parity(strikes[own], difference[own], discount=discount[i]) if own.any() else (np.nan, np.nan)
        np.testing.assert_array_equal([found.forward[i], found.discount[i]], alone)


@pytest.mark.parametrize("call", [True, False])
def test_vols_of_prices_in_and_out_of_the_money(*, call: bool) -> None:
    strikes, vols = ragged(40, 2)
    price = black(strikes, vols, call=call, discount=1.0) / FORWARD
    tenor = np.full(40, TENOR)
    found = quoted_surface.implied_vols(np.log(strikes / FORWARD), price, tenor, call=np.full(40, call))
    np.testing.assert_allclose(found, vols, rtol=1e-10)


def test_an_option_in_the_money_whose_time_value_is_rounding_has_no_vol() -> None:
    """At the strikes where it is more, the vol is right."""
    strikes = FORWARD * np.linspace(0.3, 0.9, 40)
    price = black(strikes, np.full(40, 0.2), call=True, discount=1.0) / FORWARD
    found = quoted_surface.implied_vols(np.log(strikes / FORWARD), price, np.full(40, TENOR), call=np.ones(40, bool))
    np.testing.assert_allclose(found[~np.isnan(found)], 0.2, rtol=1e-4)
    assert 0 < np.isnan(found).sum() < 20


@pytest.mark.parametrize(("k", "price"), [(0.1, 0.0), (0.1, -0.01), (0.1, 1.0), (-0.1, 0.09), (-0.1, 1.0)])
def test_calls_outside_the_bounds_have_no_vol(k: float, price: float) -> None:
    """max(0, 1 - e^k) < call < 1 per unit of forward."""
    found = quoted_surface.implied_vols(np.array([k]), np.array([price]), np.array([1.0]), call=np.array([True]))
    assert np.isnan(found).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CONVENTIONS), st.integers(0, 2**32 - 1))
def test_quotes_on_the_grid_come_back_exactly(convention: str, seed: int) -> None:
    """Whichever of them there are, beside others that lie between: bit for bit."""
    random = np.random.default_rng(seed)
    grid = Grid(TENORS, NODES[convention], convention)
    vols = random.uniform(0.1, 0.4, grid.shape)
    k = np.broadcast_to(grid.log_moneyness_of(vols), grid.shape)
    there = random.uniform(size=grid.shape) < 0.7
    smiles = []
    for i, tenor in enumerate(grid.tenors.tolist()):
        extra = random.uniform(-0.29, 0.29, random.integers(0, 4)) + 1e-4
        places = np.concatenate((k[i, there[i]], extra))
        order = random.permutation(len(places))
        smile_vols = np.concatenate((vols[i, there[i]], random.uniform(0.1, 0.4, len(extra))))
        if len(places):
            smiles.append(quoted_surface.smile(tenor, places[order], smile_vols[order], np.ones(len(places))))
    read = quoted_surface.surface(smiles, grid)
    np.testing.assert_array_equal(read[there], vols[there])


def test_a_smile_is_scipys_monotone_cubic_inside_its_quotes_only() -> None:
    k = np.array([-0.2, -0.12, -0.03, 0.04, 0.15])
    smile = quoted(TENORS[1], k)
    grid = Grid(TENORS[1:3], np.linspace(-0.3, 0.3, 31), "log_moneyness")
    read = quoted_surface.surface([smile], grid)
    theirs = PchipInterpolator(k, smile.vol**2 * smile.tenor, extrapolate=False)(grid.nodes)
    np.testing.assert_allclose(read[0], np.sqrt(theirs / smile.tenor), rtol=1e-13)
    assert np.isnan(read[0]).sum() > 5
    assert np.isnan(read[1]).all()  # a later tenor


def test_expiries_are_read_like_the_tenors_of_a_surface() -> None:
    """Where all of them quote the nodes, the tenors of another grid are those that the surface itself reads."""
    nodes = np.linspace(-0.3, 0.3, 7)
    random = np.random.default_rng(1)
    source = Grid([0.05, 0.1, 0.2, 0.5, 1.0], nodes, "log_moneyness")
    vols = random.uniform(0.2, 0.21, source.shape)
    smiles = [quoted_surface.smile(t, nodes, v, np.ones(7)) for t, v in zip(source.tenors.tolist(), vols, strict=True)]
    grid = Grid([0.04, 0.05, 0.07, 0.15, 0.3, 0.7, 1.0, 1.1], nodes, "log_moneyness")
    read = quoted_surface.surface(smiles, grid)
    for row, tenor in zip(read, grid.tenors.tolist(), strict=True):
        np.testing.assert_allclose(row, Surfaces(vols[None], source).at(nodes, tenor)[0], rtol=1e-12)


def test_between_expiries_no_calendar_arbitrage_is_added() -> None:
    """Variance that falls as fast as it may and then rises steeply: a cubic would leave the range of its ends."""
    nodes = np.linspace(-0.2, 0.2, 5)
    total = {0.1: 0.02, 0.2: 0.0201, 0.4: 0.0202, 0.5: 0.06, 1.0: 0.0601}
    smiles = [quoted_surface.smile(t, nodes, np.full(5, np.sqrt(w / t)), np.ones(5)) for t, w in total.items()]
    grid = Grid(np.linspace(0.1, 1.0, 91), nodes, "log_moneyness")
    w = quoted_surface.surface(smiles, grid) ** 2 * grid.tenors[:, None]
    for short, long in itertools.pairwise(total):
        between = w[(grid.tenors > short + 1e-9) & (grid.tenors < long - 1e-9)]
        assert (between >= total[short] - 1e-12).all()
        assert (between <= total[long] + 1e-12).all()


def test_an_expiry_that_does_not_reach_a_strike_is_passed_over() -> None:
    """A wing between two wide smiles is not lost to a narrow one in between."""
    wide = np.linspace(-0.4, 0.4, 17)
    smiles = [quoted(0.1, wide), quoted(0.3, wide[7:10]), quoted(0.5, wide)]
    grid = Grid([0.2, 0.3, 0.4], [-0.3, 0.0, 0.3], "log_moneyness")
    read = quoted_surface.surface(smiles, grid)
    assert np.isfinite(read).all()
    outer = [quoted_surface.surface([smiles[0], smiles[2]], grid)[:, i] for i in (0, 2)]
    np.testing.assert_array_equal(read[:, [0, 2]].T, outer)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_quote_serves_only_the_point_that_it_is(convention: str) -> None:
    grid = Grid(TENORS, NODES[convention], convention)
    k = np.broadcast_to(grid.log_moneyness_of(np.full(grid.shape, 0.2)), grid.shape)[1, 1]
    lone = quoted_surface.Smile(TENORS[1], np.array([k]), np.array([0.2]))
    around = [quoted(t, np.linspace(-0.4, 0.4, 9)) for t in TENORS[[0, 2]]]

    assert np.argwhere(np.isfinite(quoted_surface.surface([lone], grid))).tolist() == [[1, 1]]
    with_it, without = (quoted_surface.surface(s, grid) for s in ([around[0], lone, around[1]], around))
    assert with_it[1, 1] == 0.2
    with_it[1, 1] = without[1, 1]
    np.testing.assert_array_equal(with_it, without)


def test_a_grid_in_deltas_is_the_root_of_the_delta() -> None:
    """Against Brent's method on the function that the quotes sample densely; what they do not reach is missing."""
    grid = Grid([0.1, 0.3, 0.5], [0.1, 0.25, 0.5, 0.75, 0.9], "delta")
    smiles = [quoted(t, np.linspace(-0.12, 0.12, 201)) for t in (0.1, 0.5)]
    read = quoted_surface.surface(smiles, grid)

    def excess(k: float, delta: float, tenor: float) -> float:
        s = np.sqrt(svi(k, tenor))
        return norm.cdf(-k / s + s / 2) - delta

    for i, tenor in enumerate(grid.tenors.tolist()):
        for j, delta in enumerate(grid.nodes.tolist()):
            k = brentq(excess, -0.6, 0.6, args=(delta, tenor), xtol=1e-14)
            exact = np.sqrt(svi(k, tenor) / tenor) if abs(k) < 0.12 else np.nan
            np.testing.assert_allclose(read[i, j], exact, rtol=1e-5, equal_nan=True)
    assert 0 < np.isnan(read).sum() < 8


def test_tenors_written_with_few_digits_keep_the_vols_of_their_expiry() -> None:
    smile = quoted(1 / 12, np.linspace(-0.2, 0.2, 5))
    grid = Grid([30.41667 / 365, 1.0], [-0.15, 0.0, 0.05], "log_moneyness")
    exact = quoted_surface.surface([smile], Grid([1 / 12, 1.0], grid.nodes, "log_moneyness"))
    np.testing.assert_allclose(quoted_surface.surface([smile], grid), exact, rtol=1e-14, equal_nan=True)


def test_quotes_at_one_strike_are_averaged_by_weight() -> None:
    k, vol, weight = np.array([0.1, 0.0, 0.1, -0.1]), np.array([0.3, 0.2, 0.2, 0.25]), np.array([3.0, 1.0, 1.0, 2.0])
    smile = quoted_surface.smile(0.5, k, vol, weight)
    assert smile.k.tolist() == [-0.1, 0.0, 0.1]
    np.testing.assert_allclose(smile.vol, [0.25, 0.2, 0.275], rtol=1e-15)
    assert smile.vol[:2].tolist() == [0.25, 0.2]
