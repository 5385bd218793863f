import math

import numpy as np
import pytest
import QuantLib as ql
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from vae.pricing import heston_surfaces
from vae.surface import arbitrage
from vae.surface.arbitrage import KINDS, PRICE_KINDS, Violations, summarise, violations
from vae.surface.grid import Grid
from vae.surface.spline import Curve

TENORS = np.array([0.25, 0.5, 1.0])
GRID = Grid(TENORS, np.linspace(-0.4, 0.4, 17))
FLAT = Grid(TENORS, np.linspace(-0.4, 0.4, 17), "log_moneyness")
NARROW = Grid(TENORS, np.linspace(-0.2, 0.2, 9), "log_moneyness")
DELTAS = Grid(TENORS, np.linspace(0.2, 0.8, 7), "delta")

# Axel Vogt's raw SVI of one year: calls that are not convex between k = 0.7 and 1.1 although the smile looks harmless.
# Gatheral, Jacquier (2014), arXiv:1204.0646, example 3.1.
VOGT = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)  # a, b, rho, m, sigma


def flat(grid: Grid, vol: float = 0.2) -> np.ndarray:
    return np.full((1, *grid.shape), vol)


def svi(k: np.ndarray, a: float, b: float, rho: float, m: float, sigma: float) -> Curve:
    """Raw SVI total variance with its derivatives; Gatheral, Jacquier (2014), equation 3.1."""
    root = np.sqrt((k - m) ** 2 + sigma**2)
    first = b * (rho + (k - m) / root)
    return Curve(a + b * (rho * (k - m) + root), first, b * sigma**2 / root**3)


def sizes(found: Violations) -> dict[str, float]:
    return {kind: found.largest(kind)[0] for kind in KINDS}


@pytest.mark.parametrize("grid", [GRID, FLAT, DELTAS])
def test_black_scholes_is_free_of_arbitrage(grid: Grid) -> None:
    assert sizes(violations(flat(grid), grid)) == dict.fromkeys(KINDS, 0.0)


@pytest.mark.parametrize("grid", [GRID, NARROW, DELTAS])
def test_exact_heston_is_free_of_arbitrage_in_single_precision(grid: Grid) -> None:
    """Every kind, on the surfaces as the splits hold them."""
    design = torch.quasirandom.SobolEngine(5, scramble=True, seed=1).draw(64, dtype=torch.float64)
    low = torch.tensor([0.01, 0.5, 0.01, 0.1, -0.9], dtype=torch.float64)
    high = torch.tensor([0.16, 5.0, 0.16, 1.0, 0.0], dtype=torch.float64)
    iv = heston_surfaces.surfaces(low + (high - low) * design, grid).vol.numpy()
    complete = ~np.isnan(iv).any(axis=(1, 2))
    assert complete.sum() > 40

    found = violations(iv[complete].astype(np.float32), grid)

    assert arbitrage.free_rate(found, tolerance=1e-6) == 1.0
    assert {kind: s.free_rate for kind, s in summarise(found, grid, tolerance=1e-6).items()} == dict.fromkeys(
        KINDS, 1.0
    )


@pytest.mark.parametrize("grid", [GRID, FLAT])
def test_total_variance_that_falls_is_a_calendar_arbitrage(grid: Grid) -> None:
    """Its size is the largest difference of two call prices, by QuantLib at the points of the shorter tenor."""
    iv = flat(grid)
    iv[0, 1] = 0.1  # total variance 0.005 at half a year, 0.01 before
    found = violations(iv, grid)

    def call(k: float, variance: float) -> float:
        return float(ql.blackFormula(ql.Option.Call, math.exp(k), 1.0, math.sqrt(variance)))

    points = np.linspace(grid.log_moneyness[0, 0], grid.log_moneyness[0, -1], 81)
    earned = [call(k, 0.01) - call(k, 0.005) for k in points]
    assert found.largest("calendar")[0] == pytest.approx(max(earned), rel=1e-10)
    assert found.k[0, 0, 0] == pytest.approx(points[int(np.argmax(earned))], abs=1e-12)
    assert (found.size[0, 0] > 0.0).tolist() == [True, False, False]


def test_calendar_compares_strikes_of_equal_forward_moneyness_not_nodes() -> None:
    """A steep smile in k, the same times T at each tenor: node by node total variance falls, strike by strike never."""
    k = GRID.log_moneyness
    w = TENORS[:, None] * 0.04 * np.exp(-1.5 * k)
    assert sizes(violations(np.sqrt(w / TENORS[:, None])[None], GRID))["calendar"] == 0.0


def test_durrlemans_function_is_the_density() -> None:
    """g of SVI against the second derivative of QuantLib's call prices in the strike: Breeden and Litzenberger."""
    smile = (0.04, 0.2, -0.4, 0.1, 0.3)
    for k in (-0.6, -0.1, 0.0, 0.2, 0.7):
        w, first, second = svi(np.array([k]), *smile)
        g = arbitrage.durrleman(Curve(w, first, second), np.array([k]))[0]
        d2 = -k / math.sqrt(w[0]) - 0.5 * math.sqrt(w[0])
        density_of_strike = g * math.exp(-0.5 * d2**2) / math.sqrt(2 * math.pi * w[0]) / math.exp(k)

        strike, h = math.exp(k), 1e-3 * math.exp(k)
        calls = [
            ql.blackFormula(ql.Option.Call, x, 1.0, math.sqrt(svi(np.array([math.log(x)]), *smile).value[0]))
            for x in (strike - h, strike, strike + h)
        ]
        assert density_of_strike == pytest.approx((calls[0] - 2 * calls[1] + calls[2]) / h**2, rel=1e-4)


def test_finds_the_butterfly_of_vogts_smile() -> None:
    """Where g of the closed form is negative, and as large as a wide butterfly of QuantLib's prices earns there."""
    wide = Grid(np.array([0.9, 1.0]), np.linspace(-1.5, 1.5, 61), "log_moneyness")
    iv = np.sqrt(svi(wide.nodes, *VOGT).value * np.array([[0.99], [1.0]]) / wide.tenors[:, None])[None]
    found = violations(iv, wide)

    k = np.linspace(-1.5, 1.5, 301)
    g = arbitrage.durrleman(svi(k, *VOGT), k)
    assert found.size[KINDS.index("density"), 0, 1] == pytest.approx(-g.min(), rel=2e-3)
    assert found.k[KINDS.index("density"), 0, 1] == pytest.approx(k[g.argmin()], abs=0.011)

    strikes = np.exp(k)
    call = [
        ql.blackFormula(ql.Option.Call, x, 1.0, math.sqrt(w)) for x, w in zip(strikes, svi(k, *VOGT).value, strict=True)
    ]
    worst = max(
        call[i] - np.interp(strikes[i], strikes[[i - r, i + r]], [call[i - r], call[i + r]])
        for r in (1, 2, 4, 8, 16, 32, 64, 128)
        for i in range(r, len(k) - r)
    )
    assert found.size[KINDS.index("butterfly"), 0, 1] == pytest.approx(worst, rel=1e-3)
    assert 0.7 < found.k[KINDS.index("butterfly"), 0, 1] < 1.1
    assert arbitrage.free_rate(found, tolerance=1e-6) == 0.0


def test_vogts_smile_at_few_nodes_is_found_between_them() -> None:
    """Nodes alone, 0.5 apart, show convex prices: the refined smile shows the trade."""
    coarse = Grid(np.array([0.9, 1.0]), np.linspace(-1.0, 1.5, 6), "log_moneyness")
    iv = np.sqrt(svi(coarse.nodes, *VOGT).value * np.array([[0.99], [1.0]]) / coarse.tenors[:, None])[None]
    assert violations(iv, coarse).largest("butterfly")[0] > 1e-5


def test_a_dent_in_the_smile_is_a_butterfly_arbitrage_of_its_own_size() -> None:
    iv = flat(FLAT)
    iv[0, 1, 8] += 0.02
    found = violations(iv, FLAT)
    assert 1e-3 < found.largest("butterfly")[0] < 0.02
    assert found.k[KINDS.index("butterfly"), 0, 1] == pytest.approx(0.0, abs=0.011)


def test_a_call_that_rises_with_the_strike_is_a_vertical_arbitrage() -> None:
    iv = flat(FLAT)
    iv[0, 0, 9:] = 0.6
    assert violations(iv, FLAT).largest("vertical")[0] > 1e-2


def test_a_wing_steeper_than_lees_bound() -> None:
    """|dw/dk| = 2.5 at both ends: an excess of 0.5; 1.9 is none."""
    for slope, excess in ((2.5, 0.5), (1.9, 0.0)):
        w = 0.5 + slope * (np.sqrt(FLAT.nodes**2 + 1e-4))
        iv = np.sqrt(w * TENORS[:, None] / TENORS[0] / TENORS[:, None])[None]
        found = violations(iv, FLAT)
        assert found.size[KINDS.index("wing"), 0, 0] == pytest.approx(excess, abs=5e-3)


@pytest.mark.parametrize("grid", [GRID, DELTAS])
@pytest.mark.parametrize("bad", [0.0, -0.1, np.inf])
def test_a_vol_that_is_not_positive_counts(grid: Grid, bad: float) -> None:
    iv = np.concatenate([flat(grid), flat(grid)])
    iv[1, 2, 3] = bad
    found = violations(iv, grid)
    assert found.usable.tolist() == [True, False]
    assert arbitrage.free_rate(found, tolerance=1e-6) == 0.5


def test_surfaces_with_the_same_missing_points_may_all_be_unusable() -> None:
    """Only one of three surfaces is quoted at two points a smile, and its vols are not positive."""
    iv = np.repeat(flat(DELTAS), 3, axis=0)
    iv[1, :, 2:] = np.nan
    iv[1, :, :2] = -0.2
    found = violations(iv, DELTAS)
    assert found.usable.tolist() == [True, False, True]
    assert found.profit.tolist() == [0.0, math.inf, 0.0]


def test_missing_quotes_are_passed_over_not_filled() -> None:
    """A dent next to a hole is found at the quotes alone; one smile of one quote and one of none say nothing."""
    iv = np.concatenate([flat(FLAT), flat(FLAT)])
    iv[0, 1, 8] += 0.02
    iv[:, 1, 2] = iv[:, 0, 1:] = iv[:, 2] = np.nan
    found = violations(iv, FLAT)
    assert found.usable.all()
    assert (found.largest("butterfly") > 1e-3).tolist() == [True, False]
    assert not found.size[:, :, [0, 2]].any()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_surface_is_measured_alone(seed: int, count: int) -> None:
    """Nothing depends on the other surfaces of the batch, holes or not."""
    random = np.random.default_rng(seed)
    iv = 0.2 * np.exp(0.1 * random.standard_normal((count, *GRID.shape)))
    iv[random.uniform(size=iv.shape) < 0.1 * random.integers(0, 2)] = np.nan
    together = violations(iv, GRID)
    for row in range(count):
        alone = violations(iv[row : row + 1], GRID)
        np.testing.assert_allclose(together.size[:, row], alone.size[:, 0], rtol=1e-9, atol=1e-15)


def test_summary_says_how_often_how_large_and_where() -> None:
    iv = np.concatenate([flat(FLAT)] * 4)
    iv[1, 1, 8] += 0.02
    iv[2, 1, 8] += 0.04
    found = violations(iv, FLAT)
    summary = summarise(found, FLAT, tolerance=1e-6)["butterfly"]
    largest = found.largest("butterfly")
    assert summary.free_rate == 0.5
    assert summary.mean == pytest.approx(largest[1:3].mean())
    assert (summary.largest, summary.tenor) == (largest[2], 0.5)
    assert summary.k == pytest.approx(0.0, abs=0.011)
    assert summary.surfaces_by_tenor == [0, 2, 0]
    assert arbitrage.free_rate(found, tolerance=1e-6) == 0.5
    assert set(PRICE_KINDS) < set(KINDS)


def test_call_prices_are_those_of_the_normal_distribution_function() -> None:
    """In the money and far out of it, at the forward and where d1 or d2 is 0."""
    k, deviation = np.meshgrid(np.linspace(-4.0, 4.0, 161), np.geomspace(1e-6, 3.0, 60))
    k = np.concatenate([k.ravel(), 0.5 * deviation[:, 0] ** 2, -0.5 * deviation[:, 0] ** 2])
    deviation = np.concatenate([deviation.ravel(), deviation[:, 0], deviation[:, 0]])
    d1 = -k / deviation + 0.5 * deviation
    expected = ndtr(d1) - np.exp(k) * ndtr(d1 - deviation)
    np.testing.assert_allclose(arbitrage.call_price(deviation**2, k), expected, rtol=0.0, atol=1e-13)
