"""Tails of surfaces whose features are known."""

import pytest
import torch
from scipy.stats import norm

from vae.evaluation.tails import features, tail_metrics
from vae.surface.grid import Grid

GRID = Grid([0.1, 0.5, 1.0], [-0.2, 0.0, 0.2], "log_moneyness")


def test_features_of_a_surface() -> None:
    surface = torch.tensor([[0.30, 0.20, 0.25], [0.27, 0.22, 0.23], [0.26, 0.24, 0.24]], dtype=torch.float64)
    found = {name: (weights @ surface.flatten()).item() for name, weights in features(GRID).items()}
    expected = {
        "atm_first": 0.20, "atm_middle": 0.22, "atm_last": 0.24, "term_slope": 0.04, "left_wing": 0.30,
        "right_wing": 0.25, "curvature": 0.06, "skew": -0.1,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_grid_without_the_money_has_no_features() -> None:
    grid = Grid([0.1, 0.5], [0.1, 0.2, 0.3], "log_moneyness")
    assert features(grid) == {}
    assert tail_metrics(torch.rand(100, 6), torch.rand(100, 6), features(grid)) == {}


def test_wider_samples_have_wider_tails() -> None:
    """A level and a slope, both normal: quantiles apart by 3.09 of the spread added, none where there is none added."""
    generator = torch.Generator().manual_seed(1)
    level, other = 0.2 + 0.01 * torch.randn(2, 20_000, 1, generator=generator, dtype=torch.float64)
    data, same, wider = level.expand(-1, 9), other.expand(-1, 9), 0.2 + 1.5 * (other - 0.2).expand(-1, 9)
    found = tail_metrics(wider, data, features(GRID))
    assert found["tail_level"] == 1e-3
    for end, sign in (("low", -1.0), ("high", 1.0)):
        error = found[f"sample_tail_atm_first_{end}_se_bp"]
        assert found[f"sample_tail_atm_first_{end}_bp"] == pytest.approx(sign * 0.5 * 309.0, abs=4.0 * error)
        assert abs(tail_metrics(same, data, features(GRID))[f"sample_tail_atm_middle_{end}_bp"]) < 4.0 * error
        assert found[f"sample_tail_term_slope_{end}_bp"] == pytest.approx(0.0, abs=1e-9)
    assert found["data_joint_tail_both_wings_high_rate"] == pytest.approx(0.01, abs=1e-4)
    wide = norm.sf(norm.isf(0.01) / 1.5)
    assert found["sample_joint_tail_both_wings_high_rate"] == pytest.approx(wide, rel=0.1)


def test_few_surfaces_have_wider_tails_and_very_few_none() -> None:
    rows = torch.rand(100, 9, dtype=torch.float64)
    assert tail_metrics(rows, rows, features(GRID))["tail_level"] == 0.1
    assert tail_metrics(rows[:20], rows, features(GRID)) == {}
