"""The figures of a book over scenarios that are known, and what they say as text."""

import datetime as dt
import json

import numpy as np
import pytest

from pipeline.cli.book_risk import figures, text
from pipeline.errors import InputError
from vae.risk.book import CALL, PUT, UNDERLYING, Book, Underlying
from vae.runtime import Scenarios, State
from vae.surface.grid import Grid

GRID = Grid([0.1, 0.25, 1.0], np.linspace(-0.3, 0.3, 5))
FLAT = np.full(GRID.shape, 0.2, np.float32)
TODAY, TOMORROW = dt.date(2026, 11, 26), dt.date(2026, 11, 27)
STATE = State(
    TODAY,
    *(np.zeros(1, np.float32) for _ in range(3)),
    FLAT,
    np.zeros((1, 1)),
    np.zeros(1),
    np.zeros((1, 1)),
    np.zeros(1, np.float32),
)
SPOT = Underlying(np.array([100.0]))
SHARES = Book(np.array([UNDERLYING]), np.zeros(1), np.zeros(1), np.array([5.0]))


def drawn(log_return: np.ndarray) -> Scenarios:
    """Scenarios of the underlying with vols that stay."""
    iv = np.broadcast_to(FLAT, (len(log_return), 1, *GRID.shape))
    return Scenarios(iv, log_return[:, None].astype(np.float32), (TOMORROW,), np.zeros((len(log_return), 1), int))


RETURNS = np.log1p(np.arange(-100, 101) / 1000.0)  # from -10 to 10 percent


def test_a_position_in_the_underlying_has_the_risk_of_its_return() -> None:
    found = figures(SHARES, SPOT, GRID, STATE, drawn(RETURNS), (0.95,))
    assert found["value"] == 500.0
    assert found["risk"]["0.95"]["value_at_risk"] == pytest.approx(45.0, rel=1e-5)  # rank 191 of 201: 9.0 % of 500
    assert found["explained"]["delta"]["deviation"] == pytest.approx(found["pnl_deviation"], rel=1e-6)
    assert found["hedge"]["underlying"] == pytest.approx(-5.0, rel=1e-6)
    assert found["hedge"]["left"] == pytest.approx(0.0, abs=1e-6)


def test_a_call_less_a_put_is_a_forward() -> None:
    book = Book(np.array([CALL, PUT]), np.full(2, 100.0), np.full(2, 0.25), np.array([3.0, -3.0]))
    found = figures(book, SPOT, GRID, STATE, drawn(RETURNS), (0.95, 0.99))
    forward = figures(SHARES._replace(quantity=np.array([3.0])), SPOT, GRID, STATE, drawn(RETURNS), (0.95, 0.99))
    for level in ("0.95", "0.99"):
        assert found["risk"][level] == pytest.approx(forward["risk"][level], rel=1e-6)


def test_the_text_says_what_cannot_be_known() -> None:
    still = text(figures(SHARES, SPOT, GRID, STATE, drawn(np.zeros(200)), (0.95,)))
    assert "the spot stays" in still
    edge = Book(np.array([CALL]), np.array([115.0]), np.array([0.25]), np.ones(1))
    found = text(figures(edge, SPOT, GRID, STATE, drawn(RETURNS), (0.95,)))
    assert "a strike ends beyond the nodes of the surface" in found
    assert "value at risk" in found


def test_rates_are_shown_as_they_were_understood() -> None:
    """A rate of 0.5 that was meant as 0.5 % is then seen."""
    carried = SPOT._replace(rate=0.5, dividend_yield=0.01)
    first = text(figures(SHARES, carried, GRID, STATE, drawn(RETURNS), (0.95,))).splitlines()[0]
    assert first.endswith(" scenarios, rate 50 %, dividend yield 1 %")
    assert text(figures(SHARES, SPOT, GRID, STATE, drawn(RETURNS), (0.95,))).splitlines()[0].endswith(" scenarios")


def test_a_level_that_so_few_scenarios_do_not_reach_is_said_to_be_unknown() -> None:
    found = figures(SHARES, SPOT, GRID, STATE, drawn(RETURNS[:100]), (0.95, 0.999))
    assert (list(found["risk"]), found["not_stated"]) == (["0.95"], [0.999])
    assert "\nrisk 99.9 % not known: it takes 1,000 scenarios, and these are worth 100\n" in text(found)


def test_a_book_whose_losses_do_not_differ_has_no_known_error() -> None:
    found = figures(SHARES, SPOT, GRID, STATE, drawn(np.full(200, -0.01)), (0.95,))
    each = found["risk"]["0.95"]
    assert each["value_at_risk"] == pytest.approx(4.975, rel=1e-3)
    assert (each["value_at_risk_se"], each["expected_shortfall_se"]) == (None, None)
    said = text(found)
    assert "value at risk 4.975 (error not known), expected shortfall 4.975 (error not known)" in said
    assert "+- 0" not in said
    assert "an error is not known where all losses there are the same" in said
    json.loads(json.dumps(found, allow_nan=False))


def test_scenarios_whose_surfaces_have_arbitrage_are_counted() -> None:
    scenarios = drawn(RETURNS)
    wrong = scenarios.iv.copy()
    wrong[:3, 0, -1] = 0.05  # of the longest tenor, whose total variance then falls
    for known_free in (None, np.arange(201)[:, None] >= 3):
        found = figures(SHARES, SPOT, GRID, STATE, scenarios._replace(iv=wrong, known_free=known_free), (0.95,))
        assert found["with_arbitrage"] == 3
        assert "note       the surfaces of 3 of 201 scenarios have static arbitrage" in text(found)
    assert "static arbitrage" not in text(figures(SHARES, SPOT, GRID, STATE, scenarios, (0.95,)))


@pytest.mark.parametrize(("strike", "tenor"), [(100.0, 1.1), (100.0, 0.05), (140.0, 0.25), (70.0, 0.25)])
def test_an_option_outside_of_the_surface_is_refused(strike: float, tenor: float) -> None:
    book = Book(np.array([CALL, CALL]), np.array([100.0, strike]), np.array([0.25, tenor]), np.ones(2))
    with pytest.raises(InputError, match="does not enclose the options of rows 2: it reaches from 36 to 365 days"):
        figures(book, SPOT, GRID, STATE, drawn(RETURNS), (0.95,))


def test_scenarios_that_are_worth_few_state_no_risk_that_needs_many() -> None:
    """40 equally probable ones know a level of 95 %, with errors that are sqrt(5) those of 201."""
    scenarios = drawn(np.full(201, -0.05))
    smiles = scenarios.iv * np.linspace(0.9, 1.1, 201, dtype=np.float32)[:, None, None, None]
    book = Book(np.array([CALL]), np.array([100.0]), np.array([0.25]), np.ones(1))
    by_count, by_worth = (
        figures(book, SPOT, GRID, STATE, scenarios._replace(iv=smiles, effective_size=size), (0.9, 0.95, 0.99))
        for size in (201.0, 40.2)
    )
    assert (list(by_count["risk"]), by_count["not_stated"]) == (["0.9", "0.95", "0.99"], [])
    assert (list(by_worth["risk"]), by_worth["not_stated"]) == (["0.9", "0.95"], [0.99])
    few, many = by_worth["risk"]["0.9"], by_count["risk"]["0.9"]
    assert few["value_at_risk"] == many["value_at_risk"]
    for name in ("value_at_risk_se", "expected_shortfall_se"):
        assert few[name] == pytest.approx(5.0**0.5 * many[name])
    assert by_worth["hedge"]["underlying"] == 0.0
    said = text(by_worth)
    assert "the log return is -0.05, and the scenarios are worth 40 equally probable ones" in said
    assert "risk 99 %  not known: it takes 100 scenarios, and these are worth 40" in said
    assert "delta 0, gamma 0" in said
    assert figures(book, SPOT, GRID, STATE, drawn(RETURNS), (0.95,))["given_return"] is None


def test_an_option_that_expires_on_the_way_is_paid_at_the_spot_of_its_expiry() -> None:
    """By hand, on paths whose spot goes on; with interest from then on."""
    dates = tuple(dt.date(2027, 1, day) for day in (4, 5, 6))  # 39, 40 and 41 days
    returns = np.log1p(np.array([[0.10, 0.20, -0.30], [-0.10, 0.05, 0.40]]).repeat(60, axis=0))
    iv = np.broadcast_to(FLAT, (len(returns), 3, *GRID.shape))
    paths = Scenarios(iv, returns.astype(np.float32), dates, np.zeros(returns.shape, int))
    carried = SPOT._replace(rate=0.05)
    for days, spots in ((40, (120.0, 105.0)), (39.5, (110.0, 90.0)), (38.0, (100.0, 100.0))):
        book = Book(np.array([CALL]), np.array([95.0]), np.array([days / 365]), np.ones(1))
        found = figures(book, carried, GRID, STATE, paths, (0.95,))
        paid = np.maximum(np.array(spots) - 95.0, 0.0) * np.exp(0.05 * (41 - days) / 365)
        assert found["pnl_mean"] + found["value"] == pytest.approx(paid.mean(), rel=1e-6)
        assert found["expired"] == 1
        assert "1 options expire on the way, and are paid at the spot of the last date" in text(found)
    long = Book(np.array([CALL]), np.array([95.0]), np.array([0.15]), np.ones(1))
    found = figures(long, carried, GRID, STATE, paths, (0.95,))
    assert (found["expired"], found["shorter_than_grid"]) == (0, 1)
    assert "1 options end with less time left than the first tenor" in text(found)


def test_a_straddle_that_expires_on_the_way_hedges_as_it_is_paid() -> None:
    """One straddle that is sold is hedged by one that is bought, also past their expiry."""
    dates = (dt.date(2027, 2, 1), dt.date(2027, 4, 1))  # 67 and 126 days; the straddle has 91.25
    random = np.random.default_rng(1)
    returns = np.cumsum(0.05 * random.standard_normal((400, 2)), axis=1)
    paths = Scenarios(
        np.broadcast_to(FLAT, (400, 2, *GRID.shape)), returns.astype(np.float32), dates, np.zeros((400, 2), int)
    )
    sold = Book(np.array([CALL, PUT]), np.full(2, 100.0), np.full(2, 0.25), np.full(2, -1.0))
    hedge = figures(sold, SPOT, GRID, STATE, paths, (0.95,))["hedge"]
    assert hedge["with_straddle"] == pytest.approx([0.0, 1.0], abs=1e-6)
    assert hedge["left_with_straddle"] == pytest.approx(0.0, abs=1e-6)
