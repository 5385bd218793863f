"""Values and their derivatives against QuantLib, and what expiry and the ends of a surface do."""

import numpy as np
import pytest
import QuantLib as ql

from vae.risk.book import CALL, PUT, UNDERLYING, Book, Underlying, greeks, valued
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces

GRID = Grid([0.25, 0.5, 1.0], np.linspace(-0.4, 0.4, 9))
SMILES = np.array([0.22, 0.2, 0.19])[:, None] + np.linspace(0.04, -0.02, 9) ** 2 * 20.0 + np.linspace(0.03, 0.0, 9)
BOOK = Book(
    np.array([CALL, PUT, CALL, PUT, UNDERLYING]),
    np.array([100.0, 90.0, 115.0, 120.0, 0.0]),
    np.array([0.25, 0.7, 1.0, 0.4, 0.0]),
    np.array([1.0, -2.0, 3.0, 1.0, -5.0]),
)
TODAY = Underlying(np.array([100.0]), rate=0.03, dividend_yield=0.01)


def by_quantlib(position: int, vol: float) -> list[float]:
    """Value, delta, gamma and vega of Black's formula."""
    kind = ql.Option.Call if BOOK.kind[position] == CALL else ql.Option.Put
    tenor = float(BOOK.tenor[position])
    forward, discount = 100.0 * np.exp(0.02 * tenor), np.exp(-0.03 * tenor)
    payoff = ql.PlainVanillaPayoff(kind, float(BOOK.strike[position]))
    black = ql.BlackCalculator(payoff, forward, vol * np.sqrt(tenor), discount)
    return [black.value(), black.delta(100.0), black.gamma(100.0), black.vega(tenor)]


def test_values_and_derivatives_are_those_of_quantlib() -> None:
    found = valued(BOOK, TODAY, SMILES[None], GRID)
    slopes = greeks(BOOK, TODAY, found.vol[0])
    for i in range(4):
        k = np.log(BOOK.strike[i] / (100.0 * np.exp(0.02 * BOOK.tenor[i])))
        vol = float(Surfaces(SMILES[None], GRID).at(k, BOOK.tenor[i])[0, 0])
        assert found.vol[0, i] == pytest.approx(vol, rel=1e-12)
        ours = [found.value[0, i], slopes.delta[i], slopes.gamma[i], slopes.vega[i]]
        np.testing.assert_allclose(ours, by_quantlib(i, vol), rtol=1e-9, atol=1e-11)
    assert (found.value[0, 4], slopes.delta[4], slopes.gamma[4], slopes.vega[4]) == (100.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("vols", "tenor"),
    [([0.25, 0.18, 0.19, 0.18], 0.375), ([0.2, 0.25, 0.21, 0.2], 0.625)],
)
def test_calls_fall_with_the_strike_where_a_shorter_smile_ends(vols: list[float], tenor: float) -> None:
    """Half-way between two flat smiles of a rough term structure, the vol is that of their mean total variance."""
    grid = Grid([0.25, 0.5, 0.75, 1.0], np.linspace(-0.4, 0.4, 9))
    later = int(np.searchsorted(grid.tenors, tenor))
    variance = np.mean([vols[i] ** 2 * grid.tenors[i] for i in (later - 1, later)])
    strike = 100.0 * np.exp(0.4 * np.sqrt(grid.tenors[later - 1]) + np.linspace(-1e-3, 1e-3, 8))
    book = Book(np.full(8, CALL), strike, np.full(8, tenor), np.ones(8))
    found = valued(book, Underlying(np.array([100.0])), np.repeat(np.array(vols)[:, None], 9, axis=1)[None], grid)
    assert not found.beyond.any()
    np.testing.assert_allclose(found.vol[0], np.sqrt(variance / tenor), rtol=1e-12)
    fall = -np.diff(found.value[0]) / np.diff(strike)
    assert (fall > 0.0).all()
    assert (np.diff(fall) < 0.0).all()  # calls are convex in the strike


def test_each_scenario_has_its_own_surface_and_spot() -> None:
    spots, surfaces = np.array([95.0, 100.0, 107.0]), np.stack([SMILES, 1.1 * SMILES, 0.9 * SMILES])
    together = valued(BOOK, TODAY._replace(spot=spots), surfaces, GRID)
    for i in range(3):
        alone = valued(BOOK, TODAY._replace(spot=spots[i : i + 1]), surfaces[i : i + 1], GRID)
        np.testing.assert_allclose(together.value[i], alone.value[0], rtol=1e-13)


def test_a_position_has_the_same_value_in_any_book() -> None:
    """Alone and among others in any order: options of an expiry are valued together."""
    rng = np.random.default_rng(4)
    tenor = rng.choice([0.0, 0.1, 0.25, 0.3, 0.7, 0.9, 1.0], 60)
    kind, strike = rng.choice([CALL, PUT, UNDERLYING], 60), 100.0 * np.exp(0.3 * rng.standard_normal(60))
    book = Book(kind, strike, tenor, np.ones(60))
    scenarios = np.stack([SMILES, 1.1 * SMILES]), TODAY._replace(spot=np.array([95.0, 107.0]))
    together = valued(book, scenarios[1], scenarios[0], GRID)
    for i in range(60):
        alone = valued(book.at(np.array([i])), scenarios[1], scenarios[0], GRID)
        for whole, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[:, [i]], one, rtol=1e-12, atol=1e-13)
    assert valued(book.at(np.arange(0)), scenarios[1], scenarios[0], GRID).value.shape == (2, 0)


def test_an_option_that_expires_is_worth_its_payoff() -> None:
    later = BOOK.after(0.45)
    found = valued(later, TODAY._replace(spot=np.array([110.0])), SMILES[None], GRID)
    assert found.value[0, 0] == 10.0
    assert found.value[0, 3] == 10.0
    assert np.isnan(found.vol[0, [0, 3, 4]]).all()
    assert found.value[0, 2] > 0.0


def test_a_strike_beyond_the_nodes_has_the_vol_of_the_end() -> None:
    far = Book(np.array([CALL]), np.array([200.0]), np.array([0.5]), np.ones(1))
    found = valued(far, Underlying(np.array([100.0])), SMILES[None], GRID)
    assert found.beyond[0, 0]
    assert found.vol[0, 0] == pytest.approx(SMILES[1, -1], rel=1e-12)
    assert not valued(BOOK, TODAY, SMILES[None], GRID).beyond.any()


def test_before_the_first_tenor_a_smile_is_that_of_the_first_at_equal_deviation() -> None:
    short = Book(np.array([CALL]), np.array([110.0]), np.array([0.0625]), np.ones(1))
    found = valued(short, Underlying(np.array([100.0])), SMILES[None], GRID)
    expected = Surfaces(SMILES[None], GRID).at(2.0 * np.log(1.1), 0.25)[0, 0]
    assert found.vol[0, 0] == pytest.approx(expected, rel=1e-12)
