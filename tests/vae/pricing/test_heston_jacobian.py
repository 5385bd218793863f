import math

import numpy as np
import pytest
import torch

from tests.vae.pricing.heston_references import (
    TYPICAL,
    quantlib_price,
)
from vae.pricing import black, heston_jacobian, heston_surfaces
from vae.surface.grid import Grid


@pytest.mark.parametrize(
    "parameters",
    [
        [0.05, 1.2, 0.07, 0.6, -0.5],
        # kappa at rho vol_of_vol / 2, where the formula changes its form, and to both sides
        [0.04, 0.25, 0.05, 1.0, 0.5],
        [0.04, 0.25001, 0.05, 1.0, 0.5],
        [0.04, 0.24999, 0.05, 1.0, 0.5],
    ],
)
def test_jacobian_is_the_derivative_of_quantlibs_vols(parameters: list[float]) -> None:
    """Each parameter against central differences of QuantLib's prices over vega, extrapolated to step 0."""
    grid = Grid(np.array([90, 365]) / 365, np.array([-0.25, 0.0, 0.2]))
    jacobian = heston_jacobian.jacobian(torch.tensor([parameters], dtype=torch.float64), grid)[0]
    vols = heston_surfaces.surfaces(torch.tensor([parameters], dtype=torch.float64), grid).vol[0]

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
        heston_jacobian.jacobian(torch.tensor([TYPICAL]), Grid(np.array([0.5, 1.0]), np.array([0.2, 0.5]), "delta"))
