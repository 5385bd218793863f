"""Gaussians of rows with missing points against closed forms and a likelihood that is computed otherwise."""

import pytest
import torch

from vae.model import known_points
from vae.model.known_points import components_by_em
from vae.model.linear import PrincipalComponents, components_of_covariance, principal_components

GENERATOR = torch.Generator().manual_seed(3)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def as_they_are(components: PrincipalComponents) -> torch.Tensor:
    return components.variances


def of_rank_two(components: PrincipalComponents) -> torch.Tensor:
    noise = components.noise_variance(2)
    return torch.cat([components.variances[:2], noise.expand(len(components.mean) - 2)])


def covariance_of(components: PrincipalComponents) -> torch.Tensor:
    return (components.vectors * components.variances) @ components.vectors.T


@pytest.fixture(autouse=True)
def to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until nothing changes, a few rows at a time."""
    monkeypatch.setattr(known_points, "_SETTLED", 1e-14)
    monkeypatch.setattr(known_points, "_ENTRIES", 40)
    monkeypatch.setattr(known_points, "ROWS", 32)


@pytest.mark.parametrize("weighted", [False, True])
def test_of_two_points_the_second_follows_by_regression(*, weighted: bool) -> None:
    """Anderson (1957), "Maximum likelihood estimates for a multivariate normal distribution when some observations are
    missing", JASA 52: the law of the first point, and that of the second given the first, are fitted apart.
    """
    x = normal(90, 2) @ torch.tensor([[1.0, 0.7], [0.0, 0.5]]).double() + 3.0
    weights = torch.linspace(0.2, 1.0, 90).double() if weighted else torch.ones(90).double()
    seen = x.clone()
    seen[60:, 1] = torch.nan
    found = components_by_em([seen[:50], seen[50:]], as_they_are, weights)
    first = torch.cov(x[:, 0], correction=0, aweights=weights)
    both = torch.cov(x[:60].T, correction=0, aweights=weights[:60])
    slope = both[0, 1] / both[0, 0]
    means = [(w @ part) / w.sum() for w, part in ((weights, x), (weights[:60], x[:60]))]
    second = means[1][1] + slope * (means[0][0] - means[1][0])
    variance = both[1, 1] - slope * both[0, 1] + slope**2 * first
    torch.testing.assert_close(found.mean, torch.stack([means[0][0], second]), rtol=1e-7, atol=0.0)
    expected = torch.stack([first, slope * first, slope * first, variance]).view(2, 2)
    torch.testing.assert_close(covariance_of(found), expected, rtol=1e-6, atol=0.0)


def test_no_law_of_its_rank_near_that_of_ppca_is_more_likely() -> None:
    x = normal(200, 2) @ normal(2, 6) + 0.3 * normal(200, 6)
    seen = torch.where(torch.rand(x.shape, generator=GENERATOR) < 0.3, torch.nan, x)
    found = components_by_em([seen], of_rank_two)
    most = found.log_likelihood(seen, 2).mean()
    for scale in (1e-3, 1e-2):
        for _ in range(10):
            moved = torch.eye(6, dtype=torch.float64) + scale * normal(6, 6)
            near = components_of_covariance(found.mean + scale * normal(6), moved @ covariance_of(found) @ moved.T)
            assert near.log_likelihood(seen, 2).mean() < most


def test_without_missing_points_they_are_those_of_the_sample() -> None:
    x = normal(40, 5)
    torch.testing.assert_close(tuple(components_by_em([x], of_rank_two)), tuple(principal_components(x)))


def test_a_point_that_no_row_knows_is_refused() -> None:
    x = normal(4, 3)
    x[:, 1] = torch.nan
    with pytest.raises(ValueError, match="column 2 of 3 has no known point"):
        components_by_em([x], as_they_are)
