import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import FactorAnalysis
from threadpoolctl import threadpool_limits

from vae.model.linear import Factors, factor_analysis, ppca, principal_components

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "ppca.json").read_text("utf-8"))


def data(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and test rows, prepared as tests/reference/ppca.json says."""
    if name == "digits":
        x = load_digits().data / 16.0
        train, test = x[:1500], x[1500:]
    else:
        x = load_breast_cancer().data
        mean, std = x[:450].mean(0), x[:450].std(0)
        train, test = (x[:450] - mean) / std, (x[450:] - mean) / std
    return torch.from_numpy(train), torch.from_numpy(test)


CASES = [(name, case) for name in ("digits", "breast_cancer") for case in REFERENCE[name]]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{c['q']}" for n, c in CASES])
def test_matches_closed_form_likelihoods(name: str, case: dict) -> None:
    train, test = data(name)
    components = principal_components(train)

    assert components.noise_variance(case["q"]).item() == pytest.approx(case["sigma2"], rel=1e-9)
    assert components.log_likelihood(train, case["q"]).mean().item() == pytest.approx(case["train_ll"], abs=1e-9)
    assert components.log_likelihood(test, case["q"]).mean().item() == pytest.approx(case["test_ll"], abs=1e-9)


def test_likelihood_is_the_gaussian_one() -> None:
    """Against scipy's density with the covariance W W' + sigma^2 I written out."""
    x = torch.randn(200, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    components = principal_components(x)
    noise = components.noise_variance(2)
    leading = components.vectors[:, :2]
    covariance = leading @ torch.diag(components.variances[:2] - noise) @ leading.T + noise * torch.eye(
        6, dtype=torch.float64
    )

    expected = multivariate_normal(components.mean.numpy(), covariance.numpy()).logpdf(x.numpy())

    np.testing.assert_allclose(components.log_likelihood(x, 2), expected, rtol=1e-10)


def test_reconstruction_is_the_projection() -> None:
    """All components give the data back; fewer give the least squares of numpy's singular value decomposition."""
    x = torch.randn(50, 5, dtype=torch.float64)
    components = principal_components(x)
    u, s, v = np.linalg.svd((x - x.mean(0)).numpy(), full_matrices=False)

    torch.testing.assert_close(components.reconstruct(x, 5), x)
    np.testing.assert_allclose(components.reconstruct(x, 2), x.mean(0).numpy() + (u[:, :2] * s[:2]) @ v[:2], atol=1e-12)


def log_likelihood(factors: Factors, mean: torch.Tensor, x: torch.Tensor) -> float:
    covariance = factors.loadings @ factors.loadings.T + torch.diag(factors.noise)
    return float(multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(x.numpy()).mean())


@pytest.mark.slow
@pytest.mark.parametrize("latents", [2, 3])
def test_factor_analysis_is_as_likely_as_that_of_scikit_learn(latents: int) -> None:
    """Three factors, twelve points and noise from 0.2 to 1."""
    mix = torch.randn(3, 12, dtype=torch.float64)
    noise = torch.linspace(0.2, 1.0, 12, dtype=torch.float64) * torch.randn(2000, 12, dtype=torch.float64)
    train = torch.randn(2000, 3, dtype=torch.float64) @ mix + noise
    components = principal_components(train)

    ours = log_likelihood(factor_analysis(components, latents), components.mean, train)

    with threadpool_limits(1):  # its thousands of small decompositions wait for each other's threads on a busy machine
        theirs = FactorAnalysis(latents, tol=1e-5, max_iter=20_000, svd_method="lapack").fit(train.numpy())
    assert ours == pytest.approx(theirs.score(train.numpy()), abs=1e-3)
    assert ours > components.log_likelihood(train, latents).mean().item()  # as pPCA is a case of it


@pytest.mark.parametrize("kind", [ppca, factor_analysis])
def test_the_posterior_of_the_factors_is_diagonal(kind) -> None:
    train, _ = data("breast_cancer")
    found = kind(principal_components(train), 4)
    information = found.loadings.T @ (found.loadings / found.noise[:, None])
    torch.testing.assert_close(information, torch.diag(found.information), rtol=1e-6, atol=1e-6)
    assert (found.information.diff() <= 0.0).all()


def test_ppca_is_the_maximum_likelihood_covariance() -> None:
    """The leading eigenvalues of the covariance are those of the sample, the others their mean."""
    train, _ = data("breast_cancer")
    components = principal_components(train)
    found = ppca(components, 3)
    covariance = found.loadings @ found.loadings.T + torch.diag(found.noise)
    expected = torch.cat([components.variances[:3], components.variances[3:].mean().expand(27)])
    np.testing.assert_allclose(torch.linalg.eigvalsh(covariance).flip(0), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", [ppca, factor_analysis])
def test_rounding_is_neither_a_direction_nor_a_noise(kind) -> None:
    """Three directions and 1e-9 around them, in single precision; one column never changes."""
    x = torch.randn(500, 3, dtype=torch.float64) @ torch.randn(3, 10, dtype=torch.float64)
    x += 1e-9 * torch.randn(500, 10, dtype=torch.float64)
    x[:, 4] = 7.0
    components = principal_components(x.float())
    assert components.directions == 3
    least = 1e-6 * components.variances[0].sqrt()
    assert components.noise_variance(3).sqrt() == pytest.approx(least)
    assert components.noise_variance(10).sqrt() == pytest.approx(least)
    found = kind(components, 3)
    assert (found.noise.sqrt() >= 0.999 * least).all()
    assert torch.isfinite(found.loadings).all()
    assert torch.isfinite(components.log_likelihood(x, 3)).all()
