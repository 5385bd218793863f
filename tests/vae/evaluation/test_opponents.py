"""Linear opponents against scipy's normal law and the best linear predictor."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from vae.evaluation.opponents import (
    Gaussian,
    Opponent,
    linear_opponents,
    opponent_completion_metrics,
    opponent_error_ratio,
    opponent_likelihood_metrics,
    usable_transforms,
)
from vae.model.completion import random_points
from vae.model.linear import age_weights, principal_components
from vae.surface.units import OWN, VOL_BP

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
    law = 0.01 * LOADINGS @ LOADINGS.T + 0.002 * np.eye(6)  # the noise of all points alike
    train, validation = (torch.from_numpy(GENERATOR.multivariate_normal(MEAN, law, n)) for n in (2000, 1000))
    components = principal_components(torch.cat([train, validation]))
    _, ppca = linear_opponents(train, validation, ("none",))
    assert ppca.name == "ppca"
    rank = ppca.rank
    assert rank >= 3, "that of the loadings, or one that is as likely"
    seen = with_gaps(validation[:5])
    expected = torch.where(seen.isnan(), components.complete(seen, rank), seen)
    torch.testing.assert_close(ppca.law.complete(seen), expected, rtol=0.0, atol=1e-10)
    torch.testing.assert_close(
        ppca.law.log_likelihood(seen), components.log_likelihood(seen, rank), rtol=0.0, atol=1e-8
    )


def test_the_full_covariance_wins_where_it_is_the_law() -> None:
    """Its density is the largest, and its error at hidden points the least; no point is hidden of six."""
    opponents, held = linear_opponents(surfaces(3000), surfaces(1000), ("none", "log")), surfaces(1000)
    assert [one.name for one in opponents] == ["gaussian", "ppca", "log_gaussian", "log_ppca"]
    law = opponents[2].law
    figures = opponent_likelihood_metrics(opponents, held)
    assert figures["opponent_log_likelihood_nats"] == max(v for name, v in figures.items() if name.endswith("_nats"))
    best = figures["opponent_log_gaussian_log_likelihood_nats"]
    assert best == pytest.approx(figures["opponent_log_likelihood_nats"], abs=1e-3)
    assert figures["opponent_log_gaussian_log_likelihood_nats"] == law.log_likelihood(held).mean().item()
    assert {name for name in figures if name.endswith("_rank")} == {"opponent_ppca_rank", "opponent_log_ppca_rank"}
    found = opponent_completion_metrics(opponents, held, known=(3, 6, 7), seed=1)
    (_, seen), (_, all_seen) = random_points(held, (3, 6, 7), seed=1)
    hidden, errors = seen.isnan(), 1e4 * (law.complete(seen) - held).abs()
    assert found["opponent_log_gaussian_completion_hidden_mae_bp_3"] == pytest.approx(errors[hidden].mean().item())
    assert found["opponent_log_gaussian_completion_mae_bp_3"] == pytest.approx(errors.mean().item())
    names = [one.name for one in opponents]
    for figure in ("completion_mae_bp_3", "completion_hidden_mae_bp_3"):
        assert found[f"opponent_{figure}"] == min(found[f"opponent_{name}_{figure}"] for name in names)
    assert torch.equal(all_seen, held)
    assert found["opponent_log_gaussian_completion_mae_bp_6"] < 0.1
    assert not any(name.endswith(("hidden_mae_bp_6", "_7")) for name in found)


def test_a_ridge_is_added_where_rows_are_few() -> None:
    """Seven rows span six points barely; without the ridge held-out rows would be far less likely."""
    train, held = surfaces(7).log(), surfaces(500).log()
    opponents = linear_opponents(train, surfaces(50).log(), ("none",))
    covariance = torch.cov(train.T, correction=0)
    bare = Gaussian(train.mean(0), covariance + 1e-12 * torch.eye(6, dtype=torch.float64), "none")
    assert opponents[0].law.log_likelihood(held).mean() > bare.log_likelihood(held).mean() + 1.0


def test_old_rows_weigh_less() -> None:
    """After one half-life the level moved: weights are those of exponential decay, and the mean is theirs."""
    days = torch.tensor([0, 100, 200, 200], dtype=torch.int32)
    weights = age_weights(days, 100.0)
    assert weights.tolist() == pytest.approx([0.25, 0.5, 1.0, 1.0])
    weights = weights / weights.sum()
    x = surfaces(4).log()
    alike, _, aged, _ = linear_opponents(x[:3], x[3:], ("none",), days, [100.0])
    assert (alike.name, aged.name) == ("gaussian", "gaussian_100_days")
    torch.testing.assert_close(alike.law.mean, x.mean(0))
    torch.testing.assert_close(aged.law.mean, weights @ x)
    apart = x - weights @ x
    spread = aged.law.covariance - (apart * weights.unsqueeze(1)).T @ apart
    torch.testing.assert_close(spread, spread.diagonal().mean() * torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-9)


def test_logarithms_need_points_above_zero() -> None:
    gap = torch.tensor([[0.2, torch.nan]])
    assert usable_transforms(surfaces(3), gap) == ("none", "log")
    assert usable_transforms(surfaces(3), gap, torch.zeros(1, 2)) == ("none",)


def test_the_ratio_is_the_geometric_mean_over_numbers_of_known_points() -> None:
    figures = {
        "opponent_completion_hidden_mae_bp_5": 4.0, "completion_hidden_mae_bp_5": 1.0,
        "opponent_completion_hidden_mae_bp_10": 1.0, "completion_hidden_mae_bp_10": 2.0,
        "opponent_gaussian_completion_hidden_mae_bp_10": 9.0, "completion_hidden_mae_bp_20": 1.0,
    }  # fmt: skip
    assert opponent_error_ratio(figures) == {"opponent_error_ratio": pytest.approx(2.0**0.5)}
    assert opponent_error_ratio({"completion_hidden_mae_bp_5": 1.0}) == {}
    exact = {"opponent_completion_hidden_mae_bp_5": 1.0, "completion_hidden_mae_bp_5": 0.0}
    assert opponent_error_ratio(exact)["opponent_error_ratio"] > 1e9


def test_errors_of_vectors_are_in_their_own_units() -> None:
    rows = surfaces(200)
    opponents = linear_opponents(rows, rows, ("none",))
    own, vols = (opponent_completion_metrics(opponents, rows, known=(3,), seed=1, unit=u) for u in (OWN, VOL_BP))
    assert 1e4 * own["opponent_completion_mae_3"] == pytest.approx(vols["opponent_completion_mae_bp_3"])


def test_without_opponents_there_are_no_figures() -> None:
    assert opponent_likelihood_metrics((), surfaces(3)) == {}
    assert opponent_completion_metrics((), surfaces(3), known=(3,), seed=1) == {}


def test_data_in_a_plane_have_an_opponent() -> None:
    """Directions without variance do not stop it."""
    plane = torch.randn(50, 2, dtype=torch.float64) @ torch.randn(2, 5, dtype=torch.float64)
    full, *_ = linear_opponents(plane, plane, ("none",))
    assert full.law.log_likelihood(plane).isfinite().all()


@pytest.mark.slow
def test_missing_points_do_not_make_an_opponent_weaker() -> None:
    """Of smooth Gaussian rows, it is nearly as good as their law: the conditional mean under it has the least error."""
    generator, place = torch.Generator().manual_seed(1), torch.linspace(0.0, 1.0, 20, dtype=torch.float64)
    covariance = 4e-4 * torch.exp(-0.5 * ((place[:, None] - place) / 0.15) ** 2) + 1e-7 * torch.eye(20).double()
    law = Gaussian(torch.full((20,), 0.2).double(), covariance, "none")

    def rows(count: int) -> torch.Tensor:
        normal = torch.randn(count, 20, generator=generator, dtype=torch.float64)
        return law.mean + normal @ torch.linalg.cholesky(covariance).T

    def holed(x: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.rand(x.shape, generator=generator) < 0.3, torch.nan, x)

    opponents, held = linear_opponents(holed(rows(1000)), holed(rows(200)), ("none",)), rows(150)
    found, best = (
        opponent_completion_metrics(rivals, held, known=(5, 10), seed=0, unit=OWN)
        for rivals in (opponents, [Opponent("law", law)])
    )
    for count in (5, 10):
        figure = f"opponent_completion_hidden_mae_{count}"
        assert found[figure] < 1.05 * best[figure]
    density = opponent_likelihood_metrics(opponents, held)["opponent_log_likelihood_nats"]
    assert density > law.log_likelihood(held).mean() - 0.5, "what 1,200 rows tell of 230 moments"
