"""Linear opponents against scipy's normal law and the best linear predictor."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from vae.evaluation.opponents import (
    Gaussian,
    linear_opponents,
    opponent_completion_metrics,
    opponent_likelihood_metrics,
)
from vae.model.completion import random_points
from vae.model.linear import principal_components

GENERATOR = np.random.default_rng(5)
LOADINGS = GENERATOR.normal(size=(6, 3))
COVARIANCE = 0.01 * (LOADINGS @ LOADINGS.T + np.diag([0.1, 0.2, 0.3, 0.1, 0.2, 0.3]))
MEAN = np.log(np.linspace(0.15, 0.3, 6))


def surfaces(count: int) -> torch.Tensor:
    return torch.from_numpy(np.exp(GENERATOR.multivariate_normal(MEAN, COVARIANCE, count)))


def opponent(transform: str) -> Gaussian:
    return Gaussian(torch.from_numpy(MEAN), torch.from_numpy(COVARIANCE), transform)


def with_gaps(x: torch.Tensor) -> torch.Tensor:
    gaps = torch.zeros(x.shape, dtype=torch.bool)
    gaps[0, 2], gaps[1, 1:4], gaps[3, 2] = True, True, True
    return torch.where(gaps, torch.nan, x)


@pytest.mark.parametrize("transform", ["none", "log"])
def test_the_density_is_that_of_scipy(transform: str) -> None:
    x = with_gaps(surfaces(5))
    found = opponent(transform).log_likelihood(x)
    for row, density in zip(x.numpy(), found, strict=True):
        known = ~np.isnan(row)
        inner, slope = (np.log(row[known]), -np.log(row[known]).sum()) if transform == "log" else (row[known], 0.0)
        law = multivariate_normal(MEAN[known], COVARIANCE[known][:, known])
        assert density.item() == pytest.approx(law.logpdf(inner) + slope, abs=1e-9)


def test_completion_is_the_regression_on_the_known_points() -> None:
    x = with_gaps(surfaces(5))
    found = opponent("log").complete(x).log().numpy()
    for row, completed in zip(np.log(x.numpy()), found, strict=True):
        known = ~np.isnan(row)
        weights = np.linalg.solve(COVARIANCE[known][:, known], COVARIANCE[known])
        np.testing.assert_allclose(completed, MEAN + (row[known] - MEAN[known]) @ weights, atol=1e-12)
        np.testing.assert_allclose(completed[known], row[known], atol=1e-12)


def test_opponents_of_low_rank_are_ppca() -> None:
    """Which ``PrincipalComponents`` completes with the noise of the known points taken away."""
    x = torch.from_numpy(GENERATOR.multivariate_normal(MEAN, COVARIANCE, 400))
    components = principal_components(x)
    _, ppca, double = linear_opponents(x, 2, "none")
    seen = with_gaps(x[:5])
    hidden = seen.isnan()
    expected = torch.where(hidden, components.complete(seen, 2), seen)
    torch.testing.assert_close(ppca.complete(seen), expected, rtol=0.0, atol=1e-10)
    torch.testing.assert_close(double.log_likelihood(seen), components.log_likelihood(seen, 4), rtol=0.0, atol=1e-8)


def test_the_full_covariance_wins_where_it_is_the_law() -> None:
    """Its density is the largest, and its error at hidden points the least; no point is hidden of six."""
    fitted, held = surfaces(4000), surfaces(1000)
    opponents = linear_opponents(fitted, 1, "log")
    density = opponent_likelihood_metrics(opponents, held)["opponent_log_likelihood_nats"]
    assert density == opponents[0].log_likelihood(held).mean().item()
    figures = opponent_completion_metrics(opponents, held, known=(3, 6, 7), seed=1)
    (_, seen), (_, all_seen) = random_points(held, (3, 6, 7), seed=1)
    hidden = seen.isnan()
    full = 1e4 * (opponents[0].complete(seen) - held).abs()
    assert figures["opponent_completion_hidden_mae_bp_3"] == pytest.approx(full[hidden].mean().item())
    assert figures["opponent_completion_mae_bp_3"] == pytest.approx(full.mean().item())
    assert torch.equal(all_seen, held)
    assert figures["opponent_completion_mae_bp_6"] < 1e-6
    names = ("opponent_completion_mae_bp_3", "opponent_completion_hidden_mae_bp_3", "opponent_completion_mae_bp_6")
    assert set(figures) == set(names)


def test_without_opponents_there_are_no_figures() -> None:
    assert opponent_likelihood_metrics((), surfaces(3)) == {}
    assert opponent_completion_metrics((), surfaces(3), known=(3,), seed=1) == {}


def test_data_in_a_plane_have_an_opponent() -> None:
    """Directions without variance do not stop it."""
    plane = torch.randn(50, 2, dtype=torch.float64) @ torch.randn(2, 5, dtype=torch.float64)
    full, *_ = linear_opponents(plane, 1, "none")
    assert full.log_likelihood(plane).isfinite().all()
