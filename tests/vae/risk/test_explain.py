"""Parts of a P&L: they add up, name what moved, and leave a rest of higher order."""

import numpy as np
import pytest

from tests.vae.risk.test_book import BOOK, GRID, SMILES, TODAY
from vae.risk.book import Valued, valued
from vae.risk.explain import explained, least_variance_hedge

DAY = 1.0 / 365.0


def after(log_return: np.ndarray, iv: np.ndarray, years: float) -> Valued:
    """The positions in scenarios."""
    return valued(BOOK.after(years), TODAY.after(log_return), iv, GRID)


def of(log_return: float, iv: np.ndarray, years: float = DAY) -> dict[str, float]:
    returns = np.array([log_return])
    found = explained(BOOK, TODAY, returns, SMILES, after(returns, iv[None], years), GRID, years)
    return {name: float(part[0]) for name, part in found._asdict().items()}


def test_parts_add_up_to_the_difference_of_two_values() -> None:
    rng = np.random.default_rng(1)
    returns, surfaces = 0.02 * rng.standard_normal(50), SMILES * np.exp(0.03 * rng.standard_normal((50, 1, 1)))
    found = explained(BOOK, TODAY, returns, SMILES, after(returns, surfaces, DAY), GRID, DAY)
    before = valued(BOOK, TODAY, SMILES[None], GRID).value @ BOOK.quantity
    later = valued(BOOK.after(DAY), TODAY.after(returns), surfaces, GRID).value @ BOOK.quantity
    np.testing.assert_allclose(found.pnl, later - before, rtol=1e-12, atol=1e-12)


def test_nothing_moves_nothing() -> None:
    assert of(0.0, SMILES, 0.0) == pytest.approx(dict.fromkeys(("time", "delta", "gamma", "vega", "skew", "rest"), 0.0))


def test_time_alone_is_time() -> None:
    found = of(0.0, SMILES)
    assert found["time"] != 0.0
    assert sum(abs(part) for name, part in found.items() if name != "time") < 1e-12


def test_a_parallel_shift_of_vols_is_vega() -> None:
    found = of(0.0, SMILES + 1e-4)
    assert abs(found["vega"]) > 1e-3
    assert abs(found["skew"]) < 1e-2 * abs(found["vega"])
    assert abs(found["rest"]) < 1e-2 * abs(found["vega"])


def test_a_tilt_of_the_smile_is_skew() -> None:
    found = of(0.0, SMILES + 1e-3 * np.linspace(1.0, -1.0, 9))
    assert abs(found["skew"]) > 10.0 * max(abs(found["vega"]), abs(found["rest"]))


def test_the_rest_is_of_higher_order() -> None:
    """Halving a move of the spot at fixed strike vols leaves an eighth of what delta and gamma miss."""
    flat = np.full_like(SMILES, 0.2)
    moves = [np.array([size]) for size in (0.02, 0.01)]
    rest = [
        float(explained(BOOK, TODAY, move, flat, after(move, flat[None], 0.0), GRID, 0.0).rest[0]) for move in moves
    ]
    assert rest[0] / rest[1] == pytest.approx(8.0, rel=0.1)


def test_a_hedge_finds_the_instruments_of_a_combination() -> None:
    rng = np.random.default_rng(3)
    units, noise = rng.standard_normal((2000, 2)) @ [[1.0, 0.5], [0.0, 1.0]], 0.1 * rng.standard_normal(2000)
    found = least_variance_hedge(units @ [2.0, -3.0] + noise + 7.0, units)
    np.testing.assert_allclose(found.quantity, [-2.0, 3.0], atol=0.02)
    assert found.left == pytest.approx(0.1 / np.std(units @ [2.0, -3.0] + noise), rel=0.05)


def test_what_does_not_move_hedges_nothing() -> None:
    rng = np.random.default_rng(3)
    moving, pnl = rng.standard_normal(200), rng.standard_normal(200)
    still = np.full(200, 100.0 * np.exp(-0.05))
    still[::2] *= 1.0 + 1e-15
    found = least_variance_hedge(pnl, np.stack([still, moving], axis=1))
    alone = least_variance_hedge(pnl, moving[:, None])
    np.testing.assert_allclose(found.quantity, [0.0, alone.quantity[0]], atol=1e-15)
    assert least_variance_hedge(pnl, still[:, None]).left == pytest.approx(1.0)
