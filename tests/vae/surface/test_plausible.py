import numpy as np
import pytest

from vae.surface import plausible


@pytest.mark.parametrize("vols", [[0.2], [0.05, np.nan, 0.3], [1.8, 0.9], np.full((2, 3), 0.011)])
def test_decimal_vols_pass(vols: list[float]) -> None:
    plausible.check_vols(vols)


@pytest.mark.parametrize(
    ("vols", "message"),
    [
        ([18.0, 24.0, 26.0], "2400 %.*; in percent it would be 24 %: divide by 100$"),
        ([2400.0], "; in bp it would be 24 %: divide by 10000$"),
        ([150.0], "; in percent it would be 150 %: divide by 100; in bp it would be 1.5 %: divide by 10000$"),
        ([0.002], "0.2 %, but must be within 1 % and 200 %$"),
        ([0.2, 0.21, 1e-5], "the vol 1e-05 at index 2 is no quote beside a median of 0.2"),
        ([[0.2, np.nan], [0.21, 30.0]], "the vol 30 at index 1, 1 is no quote beside"),
    ],
)
def test_vols_in_another_unit_are_refused_with_what_they_may_be(vols: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plausible.check_vols(vols)


def test_a_model_of_a_pegged_currency_takes_its_own_vols() -> None:
    pegged = plausible.around(0.004)
    plausible.check_vols([0.003, 0.0005, 0.008], pegged)
    plausible.check_surfaces(np.full((2, 1, 3), 0.002), pegged)
    with pytest.raises(ValueError, match=r"the median vol 0\.003 is 0\.3 %, but must be within 1 %"):
        plausible.check_vols([0.003, 0.0005, 0.008])
    with pytest.raises(ValueError, match="divide by 100"):
        plausible.check_vols([40.0], pegged)


def test_a_surface_in_another_unit_is_named_among_others() -> None:
    """An odd point alone makes a surface odd, but of no other unit."""
    surfaces = np.full((4, 2, 3), 0.2, np.float32)
    surfaces[1, 0], surfaces[2, 1] = np.nan, 1e-5
    surfaces[2, 0, 0] = 30.0
    plausible.check_surfaces(surfaces)
    surfaces[3] = 20.0
    with pytest.raises(ValueError, match=r"surface 3: the median vol 20 is 2000 %.*divide by 100$"):
        plausible.check_surfaces(surfaces)


def test_a_point_that_no_market_has_is_named_among_others() -> None:
    """A short wing of 500 % and a point in percent pass; what no market has, such as a mark for a gap, does not."""
    surfaces = np.full((3, 2, 3), 0.2, np.float32)
    surfaces[0, 0, 0], surfaces[1, 0, 0], surfaces[1, 1] = 5.0, 21.0, np.nan
    plausible.check_surfaces(surfaces)
    surfaces[2, 1, 0] = 1e38
    with pytest.raises(ValueError, match=r"surface 2: the vol 1e\+38 at tenor 1, node 0, .*at most 5000 % is allowed"):
        plausible.check_surfaces(surfaces)


def test_days_are_no_years() -> None:
    plausible.check_tenors([0.001, 30.0])
    with pytest.raises(ValueError, match=r"the tenor 364 is more than 50 years; in days it would be 0\.997 years"):
        plausible.check_tenors([26.0, 364.0])


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (np.log([900.0, 1000.0, 1100.0]), "the median of ln.K/F. is 6.91.*; strikes times 1000 would show this"),
        (np.log([90.0, 100.0, 110.0]), "; strikes times 100 would show this"),
        ([80.0, 100.0, 120.0], "the median of ln.K/F. is 100, .*in different units$"),
        ([-20.0, -10.0, 0.0, 10.0, 20.0], "the median of .ln.K/F.. is 10, .*; in percent it would be 0.1: divide by"),
        ([0.8, 0.9, 1.0, 1.1, 1.2], "log-moneyness from 0.8 to 1.2 .*; take its logarithm"),
    ],
)
def test_strikes_in_another_unit_are_refused(k: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plausible.check_log_moneyness(k)


def test_smiles_pass_even_where_few_of_their_quotes_are_known() -> None:
    for k in ([-3.0, -0.5, 0.0, 0.4], [0.5, 0.6], []):
        plausible.check_log_moneyness(k)


@pytest.mark.parametrize(
    ("delta", "remedy"), [(25.0, "in percent: divide by 100"), (-0.25, "has the call delta 0.75"), (0.0, "inside")]
)
def test_other_deltas_are_refused(delta: float, remedy: str) -> None:
    plausible.check_call_deltas([0.1, 0.9])
    with pytest.raises(ValueError, match=remedy):
        plausible.check_call_deltas([0.5, delta])
