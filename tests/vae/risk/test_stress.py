"""Stress of surfaces and books: shocks with known answers, both sticky rules, and arbitrage that a stress makes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae.risk.book import CALL, PUT, UNDERLYING, Book, Underlying, greeks, valued
from vae.risk.stress import Sticky, Stress, lost, stressed, worst
from vae.surface.grid import Grid, log_moneyness_of_delta
from vae.surface.interpolation import Interpolation
from vae.surface.normal import normal_cdf
from vae.surface.surfaces import Surfaces

GRID = Grid([0.1, 0.25, 1.0], np.linspace(-0.3, 0.3, 9), "log_moneyness")
DELTAS = Grid([0.1, 0.25, 1.0], [0.1, 0.25, 0.5, 0.75, 0.9], "delta")
SPOT = Underlying(np.array([100.0]), 0.03, 0.01)


def skewed(grid: Grid) -> np.ndarray:
    """Vols that are linear in k, and on a grid of deltas in these."""
    if grid.convention == "delta":
        return 0.2 + 0.05 * (grid.nodes - 0.5) + 0.01 * grid.tenors[:, None]
    return 0.2 - 0.1 * grid.log_moneyness + 0.01 * grid.tenors[:, None]


@pytest.mark.parametrize("grid", [GRID, DELTAS])
@pytest.mark.parametrize("sticky", ["strike", "delta"])
def test_no_stress_changes_nothing(grid: Grid, sticky: Sticky) -> None:
    found = stressed(skewed(grid), grid, Stress(), sticky)
    np.testing.assert_allclose(found.iv, skewed(grid), rtol=1e-10)
    assert found.beyond.sum() <= 2 * len(grid.tenors)  # ends of smiles, by rounding


def test_shocks_of_vols_are_those_that_they_are_named_for() -> None:
    iv = skewed(GRID)
    np.testing.assert_allclose(stressed(iv, GRID, Stress(level=0.05), "delta").iv - iv, 0.05)
    term = stressed(iv, GRID, Stress(term=0.04), "delta").iv - iv
    np.testing.assert_allclose(term, (0.04 * np.sqrt(0.25 / GRID.tenors))[:, None] * np.ones(9))
    skew = Surfaces((stressed(iv, GRID, Stress(skew=0.01), "delta").iv - iv)[None] + 1.0, GRID)
    money = 0.2 + 0.01 * 0.25
    at = skew.at([-money * 0.5, 0.0, money * 0.5], 0.25)[0] - 1.0
    np.testing.assert_allclose(at, [0.01, 0.0, -0.01], atol=1e-4)


def test_a_move_of_the_spot_keeps_the_vols_of_strikes_or_those_of_deltas() -> None:
    iv, stress = skewed(GRID), Stress(spot=-0.1)
    np.testing.assert_allclose(stressed(iv, GRID, stress, "delta").iv, iv)
    found = stressed(iv, GRID, stress, "strike")
    k = GRID.log_moneyness + np.log(0.9)
    inside = k >= GRID.nodes[0]
    np.testing.assert_allclose(found.iv[inside], (0.2 - 0.1 * k + 0.01 * GRID.tenors[:, None])[inside], rtol=1e-4)
    np.testing.assert_allclose(found.iv[~inside], np.broadcast_to(iv[:, :1], iv.shape)[~inside])
    np.testing.assert_array_equal(found.beyond, ~inside & np.ones_like(iv, bool))


def test_on_a_grid_of_deltas_strikes_keep_their_vols_too() -> None:
    """The vol of a node after the move is that which its strike had before."""
    iv = skewed(DELTAS)
    found = stressed(iv, DELTAS, Stress(spot=-0.02), "strike")
    k = log_moneyness_of_delta(DELTAS.nodes, found.iv * np.sqrt(DELTAS.tenors)[:, None])
    before = Interpolation(iv, DELTAS)
    inner = slice(1, -1)
    for tenor, own, row in zip(DELTAS.tenors.tolist(), k + np.log(0.98), found.iv, strict=True):
        vols = np.sqrt(before.total_variance(tenor, own[inner]) / tenor)
        np.testing.assert_allclose(row[inner], vols, rtol=1e-9)
    assert (found.iv[:, 2] > iv[:, 2]).all()  # a fall climbs the skew
    np.testing.assert_allclose(stressed(iv, DELTAS, Stress(spot=-0.02), "delta").iv, iv, rtol=1e-10)


@given(st.floats(-0.2, 0.2), st.floats(-0.05, 0.3), st.sampled_from(["strike", "delta"]))
def test_a_flat_surface_has_blacks_value(spot: float, level: float, sticky: Sticky) -> None:
    book = Book(np.array([CALL, PUT, UNDERLYING]), np.full(3, 103.0), np.full(3, 0.4), np.ones(3))
    flat = np.full(GRID.shape, 0.2)
    found = lost(book, SPOT, flat, GRID, Stress(spot=spot, level=level), sticky).pnl
    moved = 100.0 * (1.0 + spot)

    def black(price: float, vol: float) -> np.ndarray:
        forward, deviation = price * np.exp(0.02 * 0.4), vol * np.sqrt(0.4)
        d1 = np.log(forward / 103.0) / deviation + 0.5 * deviation
        n1, n2 = normal_cdf(np.array([d1, d1 - deviation]))
        call = np.exp(-0.03 * 0.4) * (forward * n1 - 103.0 * n2)
        return np.array([call, call - np.exp(-0.03 * 0.4) * (forward - 103.0), price])

    np.testing.assert_allclose(found, black(moved, 0.2 + level) - black(100.0, 0.2), atol=1e-10)


def test_a_small_stress_is_delta_and_vega_and_sticky_delta_adds_the_skew() -> None:
    book = Book(np.array([CALL]), np.array([100.0]), np.array([0.25]), np.ones(1))
    iv, small = skewed(GRID), 1e-4
    vol = valued(book, SPOT, iv[None], GRID).vol[0]
    slopes = greeks(book, SPOT, vol)
    strike, delta = (lost(book, SPOT, iv, GRID, Stress(spot=small), rule).pnl[0] for rule in ("strike", "delta"))
    assert strike == pytest.approx(slopes.delta[0] * 100.0 * small, rel=1e-3)
    assert delta - strike == pytest.approx(slopes.vega[0] * 0.1 * small, rel=0.02)  # k falls, and its vol rises
    raised = lost(book, SPOT, iv, GRID, Stress(level=small), "strike").pnl[0]
    assert raised == pytest.approx(slopes.vega[0] * small, rel=1e-3)


def test_arbitrage_that_a_stress_makes_is_found() -> None:
    iv = skewed(GRID)
    free = worst(stressed(iv, GRID, Stress(level=0.05), "delta").arbitrage(GRID), GRID)
    assert free is not None
    assert free.profit < 1e-6
    inverted = np.repeat([[0.5], [0.4], [0.21]], 9, axis=1)  # total vols of 0.158, 0.2 and 0.21
    found = worst(stressed(inverted, GRID, Stress(level=-0.1), "delta").arbitrage(GRID), GRID)
    assert found is not None
    assert (found.kind, found.tenor) == ("calendar", 0.25)  # 0.3 at a quarter of a year, 0.11 at one year
    assert found.profit == pytest.approx(2.0 * np.ptp(normal_cdf(np.array([0.075, 0.055]))), rel=1e-3)
    steep = stressed(skewed(DELTAS), DELTAS, Stress(skew=0.17), "delta").arbitrage(DELTAS)
    assert steep.profit[0] > 1e-4


@pytest.mark.parametrize(
    ("stress", "message"),
    [
        (Stress(spot=-1.0), r"moves the spot by -1; allowed: above -1"),
        (Stress(spot=float("nan")), r"moves the spot by nan"),
        (Stress(level=-0.3), r"takes the vol at 0\.1 years and node -0\.3 to -0\.069; allowed: above 0"),
    ],
)
def test_what_cannot_be_is_refused(stress: Stress, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stressed(skewed(GRID), GRID, stress, "strike")


def test_an_option_whose_vol_would_fall_below_0_is_named() -> None:
    book = Book(np.array([CALL]), np.array([100.0]), np.array([0.25]), np.ones(1))
    with pytest.raises(ValueError, match=r"vol of the strike 100 at 0\.25 years to -0\.09\d+; allowed: above 0"):
        lost(book, SPOT, skewed(GRID), GRID, Stress(level=-0.3), "delta")


def test_strikes_beyond_the_surface_are_said() -> None:
    """A fall of 30 % takes the strike of 100 to k = 0.36; with its own vol it is where it was."""
    book = Book(np.array([CALL, UNDERLYING]), np.full(2, 100.0), np.full(2, 0.25), np.ones(2))
    for sticky, beyond in (("strike", False), ("delta", True)):
        found = lost(book, SPOT, skewed(GRID), GRID, Stress(spot=-0.3), sticky)  # type: ignore[arg-type]
        assert found.beyond.tolist() == [beyond, False]
