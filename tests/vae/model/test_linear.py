import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_digits

from vae.model.linear import principal_components

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
