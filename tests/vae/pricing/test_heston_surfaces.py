import math

import numpy as np
import pytest
import torch

from tests.vae.pricing.heston_references import (
    GRID,
    SETS,
    TYPICAL,
    quantlib_vol,
    wings,
)
from vae.pricing import black, fourier, heston, heston_surfaces
from vae.surface.grid import Grid


def test_a_vol_is_right_or_flagged_in_the_extreme_wings() -> None:
    """Prices of these wings go down to 1e-58 of the forward; no vol that is given is off by more than is stated."""
    s = SETS["quantlib_extreme_wings"]
    parameters = torch.tensor([[s["v0"], s["kappa"], s["theta"], s["sigma"], s["rho"]]], dtype=torch.float64)
    tenors, k, prices = wings()
    for tenor, strikes, exact in zip(tenors, k, prices, strict=True):
        order = np.unique(strikes, return_index=True)[1]
        pair = Grid(np.array([tenor, 2 * tenor]), strikes[order], "log_moneyness")
        result = heston_surfaces.surfaces(parameters, pair, vol_tolerance=1e-6)
        vol, flag = result.vol[0, 0].numpy(), result.flag[0, 0].numpy()
        exact_vol = black.implied_total_vol(
            torch.from_numpy(strikes[order]), torch.from_numpy(exact[order])
        ).numpy() / math.sqrt(tenor)

        assert (np.isnan(vol) == (flag != heston_surfaces.OK)).all()
        assert np.abs(vol - exact_vol)[flag == heston_surfaces.OK].max() <= 1e-6
        assert (flag[exact[order] < 1e-16] == heston_surfaces.PRICE_TOO_SMALL).all()
        assert (flag[exact[order] > 1e-9] == heston_surfaces.OK).all()


def test_implied_vols_match_quantlib() -> None:
    """Analytic Heston engine and Black inversion of QuantLib, option by option, to 1e-8 in vol."""
    design = torch.quasirandom.SobolEngine(5, scramble=True, seed=3).draw(12, dtype=torch.float64)
    low = torch.tensor([0.01, 0.5, 0.01, 0.1, -0.9], dtype=torch.float64)
    high = torch.tensor([0.16, 5.0, 0.16, 1.0, 0.0], dtype=torch.float64)
    parameters = low + (high - low) * design
    ours = heston_surfaces.surfaces(parameters, GRID)

    checked = 0
    for row, theta in enumerate(parameters.tolist()):
        for i, tenor in enumerate(GRID.tenors):
            for j, k in enumerate(GRID.log_moneyness[i]):
                expected = quantlib_vol(theta, round(365 * tenor), k)
                if expected is not None and ours.flag[row, i, j] == heston_surfaces.OK:
                    assert ours.vol[row, i, j].item() == pytest.approx(expected, abs=1e-8)
                    checked += 1
    assert checked >= 0.9 * ours.vol.numel()


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["log_moneyness", "delta"])
def test_vols_on_other_grids_are_those_of_their_strikes(convention: str) -> None:
    """Each vol gives back the Heston price of its own strike, and a node of the grid in deltas its delta."""
    nodes = np.array([-0.2, 0.0, 0.05]) if convention == "log_moneyness" else np.array([0.1, 0.5, 0.9])
    grid = Grid(np.array([30, 365]) / 365, nodes, convention)
    parameters = torch.tensor([TYPICAL, [0.01, 0.5, 0.02, 1.0, -0.9]], dtype=torch.float64)
    result = heston_surfaces.surfaces(parameters, grid)
    assert (result.flag == heston_surfaces.OK).all()

    k = torch.from_numpy(np.broadcast_to(grid.log_moneyness_of(result.vol.numpy()), result.vol.shape).copy())
    for i, tenor in enumerate(grid.tenors.tolist()):
        total_vol = result.vol[:, i] * math.sqrt(tenor)
        prices = fourier.otm_prices(heston.Heston.of(parameters), torch.full((2,), tenor, dtype=torch.float64), k[:, i])
        torch.testing.assert_close(black.otm_price(k[:, i], total_vol), prices.price, rtol=0.0, atol=1e-14)
        if convention == "delta":
            delta = torch.special.ndtr(0.5 * total_vol - k[:, i] / total_vol)
            torch.testing.assert_close(delta, torch.from_numpy(nodes).expand_as(delta), rtol=0.0, atol=1e-12)


def test_a_delta_out_of_reach_is_flagged() -> None:
    """Nothing is read where prices are too small for a vol."""
    grid = Grid(np.array([1 / 365, 1.0]), np.array([1e-14, 0.5]), "delta")
    result = heston_surfaces.surfaces(torch.tensor([TYPICAL], dtype=torch.float64), grid)
    assert (result.flag[..., 0] != heston_surfaces.OK).all()
    assert torch.isnan(result.vol[..., 0]).all()
    assert (result.flag[..., 1] == heston_surfaces.OK).all()


def test_surfaces_reject_nothing_silently() -> None:
    """Each point is a positive vol with flag 0, or NaN with a reason."""
    wide = Grid(np.array([1 / 365, 0.5]), np.linspace(-3.0, 3.0, 13))
    result = heston_surfaces.surfaces(torch.tensor([TYPICAL], dtype=torch.float64), wide)

    known = result.flag == heston_surfaces.OK
    assert (result.vol[known] > 0.0).all()
    assert torch.isnan(result.vol[~known]).all()
    assert known.any()
    assert (~known).any()


@pytest.mark.gpu
def test_cuda_gives_the_vols_of_the_cpu() -> None:
    parameters = torch.tensor([TYPICAL, [0.02, 4.0, 0.1, 0.9, -0.2]], dtype=torch.float64)
    cpu, cuda = (heston_surfaces.surfaces(parameters.to(device), GRID) for device in ("cpu", "cuda"))

    assert torch.equal(cuda.flag.cpu(), cpu.flag)
    torch.testing.assert_close(cuda.vol.cpu(), cpu.vol, rtol=0.0, atol=1e-9, equal_nan=True)
