import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis
from threadpoolctl import threadpool_limits

from tests.vae.model.test_linear import data
from vae.model.factors import Factors, factor_analysis, ppca
from vae.model.linear import principal_components


def log_likelihood(factors: Factors, mean: torch.Tensor, x: torch.Tensor) -> float:
    covariance = factors.loadings @ factors.loadings.T + torch.diag(factors.noise)
    return float(multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(x.numpy()).mean())


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
