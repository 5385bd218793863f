"""Stresses that a user writes, and what is said of a book under them."""

import numpy as np
import pytest

from pipeline.cli.book_stress import figures, lines, parsed
from pipeline.errors import InputError
from tests.pipeline.cli.test_book_risk import GRID, SPOT, STATE
from vae.risk.book import CALL, UNDERLYING, Book
from vae.risk.stress import Stress

BOOK = Book(np.array([CALL, UNDERLYING]), np.full(2, 100.0), np.full(2, 0.25), np.array([1.0, 2.0]))


def test_a_stress_is_read_by_its_names() -> None:
    assert parsed("spot=-0.1, level = 0.05") == Stress(spot=-0.1, level=0.05)
    assert parsed("skew=1e-2,term=0") == Stress(skew=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vega=1", "has 'vega'; allowed: NAME=NUMBER with commas between, each of spot, level, skew, term once"),
        ("", "has ''; allowed"),
        ("spot=1,spot=2", "has 'spot' twice; allowed"),
        ("spot", "spot is ''; it must be a number"),
        ("level=5%", "level is '5%'; it must be a number from -3 to 3, such as 0.05"),
        ("level=nan", "level is 'nan'; it must be a number from -3 to 3, such as 0.05"),
        ("spot=inf", "spot is 'inf'; it must be a number"),
        ("skew=1e200", "skew is '1e200'; it must be a number"),
        ("level=5", "level is '5'; it must be a number from -3 to 3"),
    ],
)
def test_what_is_no_stress_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(text)
    assert message in str(refused.value)


def test_a_move_of_the_spot_is_told_by_both_rules() -> None:
    found = figures(BOOK, SPOT, GRID, STATE, [Stress(spot=-0.1), Stress(level=0.01)])
    assert [(each["sticky"], each["arbitrage_free"]) for each in found] == [
        ("strike", True),
        ("delta", True),
        (None, True),
    ]
    assert found[0]["pnl"] == found[1]["pnl"]  # the surface is flat
    said = lines(found)
    assert len(said) == 3
    assert said[0].startswith("stress     spot -10 % (sticky strike): P&L -")
    assert said[2].startswith("stress     level +1 points: P&L ")
    assert all(line.endswith("; the surface is free of static arbitrage") for line in said)


def test_arbitrage_and_guesses_are_said() -> None:
    inverted = STATE._replace(iv=(np.array([[0.5], [0.4], [0.21]]) + 0.0 * STATE.iv).astype(np.float32))
    found = figures(BOOK, SPOT, GRID, inverted, [Stress(level=-0.1), Stress(spot=-0.25)])
    assert not found[0]["arbitrage_free"]
    assert found[0]["arbitrage"]["profit"] > 1e-6
    assert "the surface is not free of static arbitrage: a calendar spread earns 0.016 of the " in lines(found)[0]
    by_strike, by_delta = found[1:]
    assert (by_strike["positions_beyond"], by_delta["positions_beyond"]) == (0, 1)
    assert by_strike["beyond_rate"] > 0.0 == by_delta["beyond_rate"]
    assert ", 1 position at the vol of the end of a smile; " in lines(found)[2]
