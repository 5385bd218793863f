import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from benchmarks import stress
from tests.vae.pricing.heston_references import SETS, TYPICAL, log_phi, model, wings
from vae.pricing import black, fourier, heston


@pytest.mark.parametrize("name", [n for n, s in SETS.items() if "T" in s])
def test_matches_published_prices(name: str) -> None:
    """Every set to 1e-13 of the forward, with the sources that tests/reference/heston.json names."""
    s = SETS[name]
    forward, discount = s["S"] * math.exp((s["r"] - s["q"]) * s["T"]), math.exp(-s["r"] * s["T"])
    k = torch.log(torch.tensor(s["K"], dtype=torch.float64) / forward)
    expected = torch.tensor(
        [float(c if x >= 0 else p) for x, c, p in zip(k, s["call"], s["put"], strict=True)], dtype=torch.float64
    )

    result = fourier.otm_prices(model(s), s["T"], k)

    error = (result.price[0] - expected / (forward * discount)).abs()
    assert error.max() <= 1e-13
    assert (error <= result.error[0]).all()  # the stated bound holds


def test_matches_lewis_reference_prices_to_1e_12_relative() -> None:
    """Calls and puts of Lewis at T = 1, the in-the-money ones through parity on the exact forward."""
    s = SETS["lewis_T1"]
    forward, discount = s["S"] * math.exp((s["r"] - s["q"]) * s["T"]), math.exp(-s["r"] * s["T"])
    strikes = torch.tensor(s["K"], dtype=torch.float64)
    k = torch.log(strikes / forward)

    otm = fourier.otm_prices(model(s), s["T"], k).price[0] * forward * discount

    intrinsic = discount * (forward - strikes)
    call = torch.where(k >= 0, otm, otm + intrinsic)
    put = torch.where(k >= 0, otm - intrinsic, otm)
    for ours, published in ((call, s["call"]), (put, s["put"])):
        expected = torch.tensor([float(p) for p in published], dtype=torch.float64)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0.0)


def test_matches_quantlib_extreme_wings() -> None:
    tenors, k, expected = wings()
    for tenor, strikes, prices in zip(tenors, k, expected, strict=True):
        result = fourier.otm_prices(model(SETS["quantlib_extreme_wings"]), float(tenor), torch.from_numpy(strikes))
        assert np.abs(result.price[0].numpy() - prices).max() <= 1e-13


@pytest.mark.parametrize(
    ("parameters", "tenor", "strike"),
    [
        ([0.155212871, 0.117152218, 0.004736333, 0.712595334, -0.979935754], 0.0334, -3.0),
        ([0.581847734, 0.100346335, 0.031306792, 0.658832752, -0.988784037], 0.12629877, -3.0),
        ([0.021779362, 0.969720055, 0.005818483, 0.283226470, 0.989396112], 0.034037, 3.0),
    ],
)
def test_no_price_is_farther_off_than_its_error(
    monkeypatch: pytest.MonkeyPatch, parameters: list[float], tenor: float, strike: float
) -> None:
    """Against a rule of a sixth of the step. Of 20,000 models these had the errors farthest beyond their estimates."""
    model = heston.Heston.of(torch.tensor([parameters], dtype=torch.float64))
    k = torch.linspace(-abs(strike), abs(strike), 31, dtype=torch.float64) * math.sqrt(tenor)
    found = fourier.otm_prices(model, tenor, k)

    monkeypatch.setattr(fourier, "_FIRST_STEP", fourier._FIRST_STEP / 6.0)
    finer = fourier.otm_prices(model, tenor, k)
    assert ((found.price - finer.price).abs() <= found.error + finer.error).all()
    assert (found.error <= 1e-14).all()


@pytest.mark.parametrize("vol_of_vol", [1e-3, 1e-6, 1e-9])
def test_small_vol_of_vol_tends_to_black(vol_of_vol: float) -> None:
    """The price tends to Black's at the mean variance without loss of digits; the correction is O(vol of vol)."""
    v0, kappa, theta = 0.04, 1.5, 0.09
    tenor = 1.0
    variance = theta * tenor + (v0 - theta) * (1 - math.exp(-kappa * tenor)) / kappa
    k = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    parameters = heston.Heston.of(torch.tensor([[v0, kappa, theta, vol_of_vol, -0.7]], dtype=torch.float64))

    result = fourier.otm_prices(parameters, tenor, k)

    expected = black.otm_price(k, torch.tensor(math.sqrt(variance), dtype=torch.float64))
    torch.testing.assert_close(result.price[0], expected, rtol=0.0, atol=0.05 * vol_of_vol + 1e-15)


def test_integral_matches_adaptive_quadrature() -> None:
    """The trapezoidal rule in sinh coordinates against scipy's adaptive Gauss-Kronrod on Lewis' integral."""
    parameters = heston.Heston.of(torch.tensor([TYPICAL], dtype=torch.float64))
    tenor, k = 0.5, 0.1

    def integrand(u: float) -> float:
        log = log_phi(TYPICAL, tenor, torch.tensor([u], dtype=torch.float64))
        phi = np.exp(log.re.item() + 1j * log.im.item())
        return float((np.exp(-1j * u * k) * phi).real / (u * u + 0.25))

    integral, _ = quad(integrand, 0.0, 200.0, epsabs=1e-13, epsrel=1e-12, limit=400)
    call = 1.0 - math.exp(k / 2) / math.pi * integral

    ours = fourier.otm_prices(parameters, tenor, torch.tensor([k], dtype=torch.float64))

    assert ours.price.item() == pytest.approx(call, abs=1e-12)


@pytest.mark.slow
def test_options_of_the_stress_grid_agree_with_quantlib_or_are_flagged() -> None:
    """One model in 23 of Andersen and Lake's, all tenors and strikes; `make bench` takes all of them."""
    found = stress.verdict(every=23)
    assert found.wrong == 0
    assert found.agree + found.flagged == 153 * 36
    assert found.flagged == 0


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_bent_contour_gives_the_integral_of_the_real_line(side: float) -> None:
    """Cauchy's theorem, where both converge: the two share no node and no value of the transform."""
    parameters = torch.tensor([TYPICAL, [0.04, 0.5, 0.09, 1.0, 0.6]], dtype=torch.float64)
    rows = fourier.Rows.of(heston.Heston.of(parameters), torch.tensor([0.5, 2.0], dtype=torch.float64))
    strikes = -side * torch.linspace(0.0, 1.5, 7, dtype=torch.float64)
    straight, bent = (fourier._along_contours(rows, strikes, int(s), fourier.EAGER) for s in (0, side))
    assert (straight[1] <= 1e-14).all()
    assert (bent[1] <= 1e-14).all()
    torch.testing.assert_close(bent[0], straight[0], rtol=0.0, atol=5e-15)


positive = st.floats(1e-3, 1.0)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(positive, st.floats(0.01, 10.0), positive, st.floats(1e-3, 3.0), st.floats(-0.99, 0.99), st.floats(0.003, 30.0))
def test_prices_are_arbitrage_free_for_any_parameters(
    v0: float, kappa: float, theta: float, xi: float, rho: float, tenor: float
) -> None:
    """Bounds, monotonicity and convexity in the strike, within the stated error of each price."""
    k = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64) * math.sqrt(tenor)
    parameters = heston.Heston.of(torch.tensor([[v0, kappa, theta, xi, rho]], dtype=torch.float64))
    result = fourier.otm_prices(parameters, tenor, k)

    strike = torch.exp(k)
    call = result.price[0] + (1.0 - strike).clamp_min(0.0)
    slack = 4.0 * result.error[0].max() + 1e-14 * strike.max()
    assert (result.price[0] >= -slack).all()
    assert (call <= 1.0 + slack).all()
    slope = call.diff() / strike.diff()
    assert (slope * strike.diff() <= slack).all()
    assert (slope.diff() * strike.diff()[1:] >= -4.0 * slack).all()


def test_prices_depend_on_their_own_parameters_alone() -> None:
    """A model priced in a batch of strangers gets the price it gets alone."""
    batch = torch.tensor([TYPICAL, [0.01, 5.0, 0.2, 2.5, 0.5], [0.5, 0.1, 0.01, 0.05, -0.95]], dtype=torch.float64)
    k = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)

    together = fourier.otm_prices(heston.Heston.of(batch), 0.3, k).price
    alone = torch.cat([fourier.otm_prices(heston.Heston.of(row[None]), 0.3, k).price for row in batch])

    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-15)
