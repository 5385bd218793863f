import json
import math
from pathlib import Path

import numpy as np
import pytest
import QuantLib as ql
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from benchmarks import stress
from vae.pricing import black, heston
from vae.pricing.complex_pairs import Pair
from vae.surface.grid import Grid

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "heston.json").read_text("utf-8"))
SETS = {s["id"]: s for s in REFERENCE["sets"]}
GRID = Grid(np.array([6, 26, 182, 364]) / 365, np.linspace(-0.5, 0.4, 7))
TYPICAL = [0.04, 1.5, 0.06, 0.5, -0.7]


def model(values: dict) -> heston.Heston:
    names = {"vol_of_vol": "sigma"}
    return heston.Heston(
        *(torch.tensor([float(values[names.get(n, n)])], dtype=torch.float64) for n in heston.PARAMETERS)
    )


def log_phi(parameters: list[float], tenor: float, u: torch.Tensor) -> Pair:
    row = heston.Heston.of(torch.tensor([parameters], dtype=torch.float64))
    return heston.log_characteristic_function(row, torch.tensor([tenor], dtype=torch.float64), Pair(u, 0.0 * u))


def wings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """QuantLib's extreme wings: per maturity, log-moneyness and exact undiscounted prices per unit of forward."""
    s = SETS["quantlib_extreme_wings"]
    tenors = np.array(s["days"]) / 365
    k = -np.array(s["moneyness"]) * np.sqrt(s["theta"] * tenors)[:, None]
    forward = s["S"] * np.exp((s["r"] - s["q"]) * tenors)
    discount = np.exp(-s["r"] * tenors)
    return tenors, k, np.array(s["otm"], dtype=float) / (forward * discount)[:, None]


@pytest.mark.parametrize("name", [n for n, s in SETS.items() if "T" in s])
def test_matches_published_prices(name: str) -> None:
    """Every set to 1e-13 of the forward, with the sources that tests/reference/heston.json names."""
    s = SETS[name]
    forward, discount = s["S"] * math.exp((s["r"] - s["q"]) * s["T"]), math.exp(-s["r"] * s["T"])
    k = torch.log(torch.tensor(s["K"], dtype=torch.float64) / forward)
    expected = torch.tensor(
        [float(c if x >= 0 else p) for x, c, p in zip(k, s["call"], s["put"], strict=True)], dtype=torch.float64
    )

    result = heston.otm_prices(model(s), s["T"], k)

    error = (result.price[0] - expected / (forward * discount)).abs()
    assert error.max() <= 1e-13
    assert (error <= result.error[0]).all()  # the stated bound holds


def test_matches_lewis_reference_prices_to_1e_12_relative() -> None:
    """Calls and puts of Lewis at T = 1, the in-the-money ones through parity on the exact forward."""
    s = SETS["lewis_T1"]
    forward, discount = s["S"] * math.exp((s["r"] - s["q"]) * s["T"]), math.exp(-s["r"] * s["T"])
    strikes = torch.tensor(s["K"], dtype=torch.float64)
    k = torch.log(strikes / forward)

    otm = heston.otm_prices(model(s), s["T"], k).price[0] * forward * discount

    intrinsic = discount * (forward - strikes)
    call = torch.where(k >= 0, otm, otm + intrinsic)
    put = torch.where(k >= 0, otm - intrinsic, otm)
    for ours, published in ((call, s["call"]), (put, s["put"])):
        expected = torch.tensor([float(p) for p in published], dtype=torch.float64)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0.0)


def test_matches_quantlib_extreme_wings() -> None:
    tenors, k, expected = wings()
    for tenor, strikes, prices in zip(tenors, k, expected, strict=True):
        result = heston.otm_prices(model(SETS["quantlib_extreme_wings"]), float(tenor), torch.from_numpy(strikes))
        assert np.abs(result.price[0].numpy() - prices).max() <= 1e-13


def test_a_vol_is_right_or_flagged_in_the_extreme_wings() -> None:
    """Prices of these wings go down to 1e-58 of the forward; no vol that is given is off by more than is stated."""
    s = SETS["quantlib_extreme_wings"]
    parameters = torch.tensor([[s["v0"], s["kappa"], s["theta"], s["sigma"], s["rho"]]], dtype=torch.float64)
    tenors, k, prices = wings()
    for tenor, strikes, exact in zip(tenors, k, prices, strict=True):
        order = np.unique(strikes, return_index=True)[1]
        pair = Grid(np.array([tenor, 2 * tenor]), strikes[order], "log_moneyness")
        result = heston.surfaces(parameters, pair, vol_tolerance=1e-6)
        vol, flag = result.vol[0, 0].numpy(), result.flag[0, 0].numpy()
        exact_vol = black.implied_total_vol(
            torch.from_numpy(strikes[order]), torch.from_numpy(exact[order])
        ).numpy() / math.sqrt(tenor)

        assert (np.isnan(vol) == (flag != heston.OK)).all()
        assert np.abs(vol - exact_vol)[flag == heston.OK].max() <= 1e-6
        assert (flag[exact[order] < 1e-16] == heston.PRICE_TOO_SMALL).all()
        assert (flag[exact[order] > 1e-9] == heston.OK).all()


@pytest.mark.parametrize("tenor", [6 / 365, 1.0, 10.0])
def test_characteristic_function_is_hestons(tenor: float) -> None:
    """Against the textbook form in complex arithmetic, at ordinary parameters where it has no branch trouble."""
    v0, kappa, theta, xi, rho = TYPICAL
    u = np.linspace(0.0, 5.0, 41)
    z = u - 0.5j
    beta = kappa - 1j * rho * xi * z
    d = np.sqrt(beta**2 + xi**2 * (z**2 + 1j * z))
    g = (beta - d) / (beta + d)
    decay = np.exp(-d * tenor)
    expected = kappa * theta / xi**2 * ((beta - d) * tenor - 2 * np.log((1 - g * decay) / (1 - g)))
    expected += v0 / xi**2 * (beta - d) * (1 - decay) / (1 - g * decay)

    ours = log_phi(TYPICAL, tenor, torch.from_numpy(u))

    np.testing.assert_allclose(ours.re[0] + 1j * ours.im[0].numpy(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("vol_of_vol", [1e-3, 1e-6, 1e-9])
def test_small_vol_of_vol_tends_to_black(vol_of_vol: float) -> None:
    """The price tends to Black's at the mean variance without loss of digits; the correction is O(vol of vol)."""
    v0, kappa, theta = 0.04, 1.5, 0.09
    tenor = 1.0
    variance = theta * tenor + (v0 - theta) * (1 - math.exp(-kappa * tenor)) / kappa
    k = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    parameters = heston.Heston.of(torch.tensor([[v0, kappa, theta, vol_of_vol, -0.7]], dtype=torch.float64))

    result = heston.otm_prices(parameters, tenor, k)

    expected = black.otm_price(k, torch.tensor(math.sqrt(variance), dtype=torch.float64))
    torch.testing.assert_close(result.price[0], expected, rtol=0.0, atol=0.05 * vol_of_vol + 1e-15)


def test_price_matches_quadrature_over_the_variance_path_when_uncorrelated() -> None:
    """At rho = 0 and u = 0 the transform is E[exp(-V/8)] of the integrated variance V: a CIR bond price."""
    v0, kappa, theta, xi, tenor = 0.04, 1.5, 0.06, 0.5, 2.0
    rate = 1 / 8
    h = math.sqrt(kappa**2 + 2 * xi**2 * rate)
    denominator = (h + kappa) * (math.exp(h * tenor) - 1) + 2 * h
    bond = (2 * h * math.exp((kappa + h) * tenor / 2) / denominator) ** (2 * kappa * theta / xi**2)
    bond *= math.exp(-rate * v0 * 2 * (math.exp(h * tenor) - 1) / denominator)

    ours = log_phi([v0, kappa, theta, xi, 0.0], tenor, torch.zeros(1, dtype=torch.float64))

    assert ours.re.item() == pytest.approx(math.log(bond), rel=1e-12)


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

    ours = heston.otm_prices(parameters, tenor, torch.tensor([k], dtype=torch.float64))

    assert ours.price.item() == pytest.approx(call, abs=1e-12)


def test_implied_vols_match_quantlib() -> None:
    """Analytic Heston engine and Black inversion of QuantLib, option by option, to 1e-8 in vol."""
    design = torch.quasirandom.SobolEngine(5, scramble=True, seed=3).draw(12, dtype=torch.float64)
    low = torch.tensor([0.01, 0.5, 0.01, 0.1, -0.9], dtype=torch.float64)
    high = torch.tensor([0.16, 5.0, 0.16, 1.0, 0.0], dtype=torch.float64)
    parameters = low + (high - low) * design
    ours = heston.surfaces(parameters, GRID)

    checked = 0
    for row, theta in enumerate(parameters.tolist()):
        for i, tenor in enumerate(GRID.tenors):
            for j, k in enumerate(GRID.log_moneyness[i]):
                expected = quantlib_vol(theta, round(365 * tenor), k)
                if expected is not None and ours.flag[row, i, j] == heston.OK:
                    assert ours.vol[row, i, j].item() == pytest.approx(expected, abs=1e-8)
                    checked += 1
    assert checked >= 0.9 * ours.vol.numel()


def quantlib_price(theta: list[float], days: int, k: float) -> float:
    """Price of the out-of-the-money option by the analytic engine with adaptive Gauss-Lobatto quadrature."""
    today = ql.Date(1, 7, 2020)
    ql.Settings.instance().evaluationDate = today
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    v0, kappa, long_run, xi, rho = theta
    process = ql.HestonProcess(flat, flat, ql.QuoteHandle(ql.SimpleQuote(1.0)), v0, kappa, long_run, xi, rho)
    option = ql.VanillaOption(ql.PlainVanillaPayoff(kind(k), math.exp(k)), ql.EuropeanExercise(today + days))
    option.setPricingEngine(ql.AnalyticHestonEngine(ql.HestonModel(process), 1e-14, 100_000))
    return float(option.NPV())


def quantlib_vol(theta: list[float], days: int, k: float) -> float | None:
    """QuantLib's implied vol; None where its own price is too small to carry 1e-8 in vol."""
    price = quantlib_price(theta, days, k)
    if price < 1e-9:
        return None
    deviation = ql.blackFormulaImpliedStdDev(kind(k), math.exp(k), 1.0, price, 1.0, 0.0, 0.2, 1e-15, 1000)
    return float(deviation) / math.sqrt(days / 365)


def kind(k: float) -> int:
    return ql.Option.Call if k >= 0 else ql.Option.Put


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
    rows = heston.Rows.of(heston.Heston.of(parameters), torch.tensor([0.5, 2.0], dtype=torch.float64))
    strikes = -side * torch.linspace(0.0, 1.5, 7, dtype=torch.float64)
    straight, bent = (heston._along_contours(rows, strikes, int(s), heston.EAGER) for s in (0, side))
    assert (straight[1] <= 1e-14).all()
    assert (bent[1] <= 1e-14).all()
    torch.testing.assert_close(bent[0], straight[0], rtol=0.0, atol=5e-15)


@pytest.mark.parametrize("convention", ["log_moneyness", "delta"])
def test_vols_on_other_grids_are_those_of_their_strikes(convention: str) -> None:
    """Each vol gives back the Heston price of its own strike, and a node of the grid in deltas its delta."""
    nodes = np.array([-0.2, 0.0, 0.05]) if convention == "log_moneyness" else np.array([0.1, 0.5, 0.9])
    grid = Grid(np.array([30, 365]) / 365, nodes, convention)
    parameters = torch.tensor([TYPICAL, [0.01, 0.5, 0.02, 1.0, -0.9]], dtype=torch.float64)
    result = heston.surfaces(parameters, grid)
    assert (result.flag == heston.OK).all()

    k = torch.from_numpy(np.broadcast_to(grid.log_moneyness_of(result.vol.numpy()), result.vol.shape).copy())
    for i, tenor in enumerate(grid.tenors.tolist()):
        total_vol = result.vol[:, i] * math.sqrt(tenor)
        prices = heston.otm_prices(heston.Heston.of(parameters), torch.full((2,), tenor, dtype=torch.float64), k[:, i])
        torch.testing.assert_close(black.otm_price(k[:, i], total_vol), prices.price, rtol=0.0, atol=1e-14)
        if convention == "delta":
            delta = torch.special.ndtr(0.5 * total_vol - k[:, i] / total_vol)
            torch.testing.assert_close(delta, torch.from_numpy(nodes).expand_as(delta), rtol=0.0, atol=1e-12)


def test_a_delta_out_of_reach_is_flagged() -> None:
    """Nothing is read where prices are too small for a vol."""
    grid = Grid(np.array([1 / 365, 1.0]), np.array([1e-14, 0.5]), "delta")
    result = heston.surfaces(torch.tensor([TYPICAL], dtype=torch.float64), grid)
    assert (result.flag[..., 0] != heston.OK).all()
    assert torch.isnan(result.vol[..., 0]).all()
    assert (result.flag[..., 1] == heston.OK).all()


def test_jacobian_is_the_derivative_of_quantlibs_vols() -> None:
    """Each parameter against central differences of QuantLib's prices over vega, extrapolated to step 0."""
    parameters = [0.05, 1.2, 0.07, 0.6, -0.5]
    grid = Grid(np.array([90, 365]) / 365, np.array([-0.25, 0.0, 0.2]))
    jacobian = heston.jacobian(torch.tensor([parameters], dtype=torch.float64), grid)[0]
    vols = heston.surfaces(torch.tensor([parameters], dtype=torch.float64), grid).vol[0]

    def price(number: int, step: float, days: int, k: float) -> float:
        moved = list(parameters)
        moved[number] += step
        return quantlib_price(moved, days, k)

    for number in range(len(parameters)):
        for i, tenor in enumerate(grid.tenors.tolist()):
            for j, k in enumerate(grid.log_moneyness[i].tolist()):
                days = round(365 * tenor)
                slopes = [(price(number, h, days, k) - price(number, -h, days, k)) / (2.0 * h) for h in (2e-3, 1e-3)]
                slope = (4.0 * slopes[1] - slopes[0]) / 3.0
                total_vol = vols[i, j] * math.sqrt(tenor)
                by_vol = black.vega(torch.tensor(k), total_vol).item() * math.sqrt(tenor)
                assert jacobian[i, j, number].item() == pytest.approx(slope / by_vol, rel=2e-6, abs=1e-8)


def test_jacobian_needs_fixed_strikes() -> None:
    with pytest.raises(ValueError, match="depends on the vols"):
        heston.jacobian(torch.tensor([TYPICAL]), Grid(np.array([0.5, 1.0]), np.array([0.2, 0.5]), "delta"))


positive = st.floats(1e-3, 1.0)


@settings(max_examples=60, deadline=None)
@given(positive, st.floats(0.01, 10.0), positive, st.floats(1e-3, 3.0), st.floats(-0.99, 0.99), st.floats(0.003, 30.0))
def test_prices_are_arbitrage_free_for_any_parameters(
    v0: float, kappa: float, theta: float, xi: float, rho: float, tenor: float
) -> None:
    """Bounds, monotonicity and convexity in the strike, within the stated error of each price."""
    k = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64) * math.sqrt(tenor)
    parameters = heston.Heston.of(torch.tensor([[v0, kappa, theta, xi, rho]], dtype=torch.float64))
    result = heston.otm_prices(parameters, tenor, k)

    strike = torch.exp(k)
    call = result.price[0] + (1.0 - strike).clamp_min(0.0)
    slack = 4.0 * result.error[0].max() + 1e-14 * strike.max()
    assert (result.price[0] >= -slack).all()
    assert (call <= 1.0 + slack).all()
    slope = call.diff() / strike.diff()
    assert (slope * strike.diff() <= slack).all()
    assert (slope.diff() * strike.diff()[1:] >= -4.0 * slack).all()


def test_surfaces_reject_nothing_silently() -> None:
    """Each point is a positive vol with flag 0, or NaN with a reason."""
    wide = Grid(np.array([1 / 365, 0.5]), np.linspace(-3.0, 3.0, 13))
    result = heston.surfaces(torch.tensor([TYPICAL], dtype=torch.float64), wide)

    known = result.flag == heston.OK
    assert (result.vol[known] > 0.0).all()
    assert torch.isnan(result.vol[~known]).all()
    assert known.any()
    assert (~known).any()


def test_prices_depend_on_their_own_parameters_alone() -> None:
    """A model priced in a batch of strangers gets the price it gets alone."""
    batch = torch.tensor([TYPICAL, [0.01, 5.0, 0.2, 2.5, 0.5], [0.5, 0.1, 0.01, 0.05, -0.95]], dtype=torch.float64)
    k = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)

    together = heston.otm_prices(heston.Heston.of(batch), 0.3, k).price
    alone = torch.cat([heston.otm_prices(heston.Heston.of(row[None]), 0.3, k).price for row in batch])

    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-15)


@pytest.mark.gpu
def test_cuda_gives_the_vols_of_the_cpu() -> None:
    parameters = torch.tensor([TYPICAL, [0.02, 4.0, 0.1, 0.9, -0.2]], dtype=torch.float64)
    cpu, cuda = (heston.surfaces(parameters.to(device), GRID) for device in ("cpu", "cuda"))

    assert torch.equal(cuda.flag.cpu(), cpu.flag)
    torch.testing.assert_close(cuda.vol.cpu(), cpu.vol, rtol=0.0, atol=1e-9, equal_nan=True)
