"""The skew-stickiness ratio where it is known: surfaces that keep the vols of strikes, of deltas, or follow a slope."""

import numpy as np
import pytest

from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS
from vae.evaluation.skew_stickiness import stickiness_metrics
from vae.surface.grid import Grid
from vae.surface.interpolation import Interpolation
from vae.surface.smile_features import money_is_inside, skew_at_the_money

GRID = Grid([0.25, 1.0], [-0.2, 0.0, 0.1, 0.2], "log_moneyness")
SKEW = -0.1


def figures(ratio: float, noise: float = 0.0) -> dict[str, float]:
    """Of surfaces that are linear in k and whose vols at the money move by the ratio times skew times return."""
    random = np.random.default_rng(8)
    log_price = np.cumsum(0.01 * random.standard_normal(200))
    level = 0.3 + ratio * SKEW * log_price + noise * random.standard_normal(200)
    iv = level[:, None, None] + SKEW * GRID.log_moneyness
    center = np.full(8, np.log(0.3))
    history = History(np.log(iv).reshape(200, -1) - center, np.arange(200), np.eye(8), log_price)
    laws = {name: walk(history, FORMS["filtered_historical"]) for name in ("scenario", "fhs")}
    return stickiness_metrics(laws, iv, center, GRID, log_price, first=150)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 2.0])
def test_a_surface_that_follows_the_price_has_the_ratio_that_it_was_made_with(ratio: float) -> None:
    """1 keeps the vol of each strike, 0 that of each delta; scenarios of the log vols differ by their curvature."""
    found = figures(ratio)
    assert ("scenario_skew_stickiness_to_data_lowest" in found) == (ratio > 0.0)
    for day in (91, 365):
        assert found[f"data_skew_stickiness_{day}"] == pytest.approx(ratio, abs=1e-6)
        assert found[f"data_skew_stickiness_se_{day}"] == pytest.approx(0.0, abs=1e-6)
        for law in ("scenario", "fhs"):
            assert found[f"{law}_skew_stickiness_{day}"] == pytest.approx(ratio, abs=0.02)


def test_the_standard_error_is_that_of_a_regression() -> None:
    """Independent noise of vols of 0.001, whose changes have a deviation of 0.001 sqrt(2), beside returns of 0.01."""
    found = figures(1.5, noise=0.001)
    error = 0.001 * np.sqrt(2.0 / 50.0) / 0.01 / abs(SKEW)
    assert found["data_skew_stickiness_se_91"] == pytest.approx(error, rel=0.3)
    assert found["data_skew_stickiness_91"] == pytest.approx(1.5, abs=3.0 * error)
    assert found["scenario_skew_stickiness_to_data_lowest"] <= found["scenario_skew_stickiness_to_data_highest"]
    assert found["scenario_skew_stickiness_to_data_lowest"] == pytest.approx(
        found["scenario_skew_stickiness_91"] / found["data_skew_stickiness_91"]
    )


def test_the_skew_on_a_grid_of_deltas_is_by_log_moneyness() -> None:
    grid = Grid([0.1, 1.0], np.linspace(0.1, 0.9, 17), "delta")
    iv = 0.12 + 0.04 * (grid.nodes - 0.45) + 0.05 * (grid.nodes - 0.5) ** 2 + 0.02 * grid.tenors[:, None]
    surfaces, found = Interpolation(iv, grid), skew_at_the_money(iv, grid)
    assert (found < 0.0).all()
    for tenor, slope in zip(grid.tenors.tolist(), found, strict=True):
        money = 0.5 * surfaces.total_variance(tenor, np.zeros(1))[0]  # near delta 0.5
        low, high = np.sqrt(surfaces.total_variance(tenor, money + np.array([-1e-3, 1e-3])) / tenor)
        assert slope == pytest.approx((high - low) / 2e-3, rel=0.02)


def test_a_grid_without_the_money_has_no_figures() -> None:
    wings = Grid([0.25, 1.0], [0.1, 0.2, 0.3], "log_moneyness")
    assert not money_is_inside(wings)
    history = History(np.zeros((150, 6)), np.arange(150), np.eye(6), np.zeros(150))
    walked = {"scenario": walk(history, FORMS["historical"])}
    assert stickiness_metrics(walked, np.full((150, 2, 3), 0.2), np.zeros(6), wings, np.zeros(150), first=140) == {}
