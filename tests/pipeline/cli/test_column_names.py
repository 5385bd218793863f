import numpy as np
import pytest

from pipeline.cli.column_names import FIELD_NAMES, Column, candidates
from pipeline.tables.name_words import plain

DAYS = np.array([19000.0, 19030.0])
VALUES = {
    "date": Column(None, DAYS, ()),
    "snapshot": Column(None, DAYS + 0.4, ()),
    "quoted_at": Column(None, DAYS + 0.4, ()),
    "expiry": Column(None, DAYS + 90.0, ()),
    "market": Column(None, None, ("SPX", "SPXW")),
    "type": Column(None, None, ("C", "P")),
    "exercise": Column(None, None, ("european",)),
    "tenor": Column(None, None, ("1M", "1Y"), labels=True),
    "tenor_years": Column(np.array([0.1, 1.0]), None, ()),
    "days": Column(np.array([30.0, 91.0]), None, ()),
    "log_moneyness": Column(np.array([-0.2, 0.1]), None, ()),
    "call_delta": Column(np.array([0.25, 0.5]), None, ()),
    "strike": Column(np.array([90.0, 110.0]), None, ()),
    "moneyness": Column(np.array([0.9, 1.1]), None, ()),
    "spot": Column(np.array([100.0, 100.0]), None, ()),
    "rate": Column(np.array([-0.01, 0.03]), None, ()),
}
VALUES |= dict.fromkeys(("iv", "bid_iv", "ask_iv"), Column(np.array([0.2, 0.3]), None, ()))
NUMBERS = Column(np.array([1.0, 2.0]), None, ())


def test_every_name_of_the_field_is_known_as_people_write_it() -> None:
    for canonical, names in FIELD_NAMES.items():
        assert len(set(names)) == len(names)
        for name in names:
            assert plain(name) == name
            written = f"[{name.upper()}] "
            assert candidates({written: VALUES.get(canonical, NUMBERS)}).get(canonical) == [written], name


@pytest.mark.parametrize(
    ("name", "numbers", "canonical"),
    [
        ("tenor", [26.0, 364.0], "tenor_years"),  # days
        ("delta", [-0.25, 0.25, -0.5], "call_delta"),
        ("k", [90.0, 100.0], "log_moneyness"),
        ("moneyness", [9.0, 11.0], "moneyness"),  # 90 and 110 are percent
        ("vol", [1200.0, 3.0e6], "iv"),  # volume
        ("strike", [-1.0, -2.0], "strike"),
        ("iv", [np.nan, np.nan], "iv"),
    ],
)
def test_a_name_without_its_values_is_no_guess(name: str, numbers: list[float], canonical: str) -> None:
    assert canonical not in candidates({name: Column(np.array(numbers), None, ())})


def test_one_bad_row_of_many_is_no_evidence_against_a_column() -> None:
    vols = np.append(np.full(30, 0.2), -1.0)
    assert candidates({"IV": Column(vols, None, ())}) == {"iv": ["IV"]}


def test_the_usual_name_comes_first() -> None:
    prices = Column(np.array([1.0, 2.0]), None, ())
    assert candidates({"last": prices, "Mid": prices})["price"] == ["Mid", "last"]
