import numpy as np
import pytest
from scipy.stats import multivariate_normal

from vae.model.mixture import Mixture, TooFewRowsError, fit_mixture

MIXTURE = Mixture(
    np.array([0.3, 0.7]),
    np.array([[1.0, -1.0, 0.5], [-2.0, 0.5, 0.0]]),
    np.array([[[0.5, 0, 0], [0.2, 1.0, 0], [0.1, -0.3, 0.4]], [[1.0, 0, 0], [-0.5, 0.7, 0], [0.3, 0.2, 0.9]]]),
)


def draws(mixture: Mixture, count: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return mixture.sample(generator.random(count), generator.standard_normal((count, mixture.dimension)))


def densities(mixture: Mixture, z: np.ndarray) -> np.ndarray:
    parts = [
        w * multivariate_normal(m, f @ f.T).pdf(z)
        for w, m, f in zip(mixture.weights, mixture.means, mixture.factors, strict=True)
    ]
    return np.log(np.sum(parts, axis=0))


def test_log_density_is_that_of_scipy() -> None:
    z = np.random.default_rng(0).normal(size=(4, 50, 3)) * 2.0
    np.testing.assert_allclose(MIXTURE.log_density(z), densities(MIXTURE, z), rtol=1e-10)
    standard = Mixture.standard_normal(3).log_density(z)
    np.testing.assert_allclose(standard, multivariate_normal(np.zeros(3)).logpdf(z), rtol=1e-12)


def test_a_mixture_of_mixtures_comes_apart_again() -> None:
    """Its density is the sum of the shares times theirs; each part keeps its own."""
    other, z = Mixture.standard_normal(3), np.random.default_rng(0).normal(size=(50, 3))
    whole = Mixture.joined([MIXTURE, other], np.array([0.4, 0.6]))
    expected = np.log(0.4 * np.exp(MIXTURE.log_density(z)) + 0.6 * np.exp(other.log_density(z)))
    np.testing.assert_allclose(whole.log_density(z), expected, rtol=1e-12)
    np.testing.assert_allclose(whole.part(np.array([1, 1, 0], bool)).table(), MIXTURE.table(), rtol=1e-15)


def test_moments_are_those_of_its_draws() -> None:
    """Within five standard errors."""
    z, (mean, covariance) = draws(MIXTURE, 400_000), MIXTURE.moments()
    np.testing.assert_allclose(z.mean(0), mean, atol=5 * z.std(0).max() / np.sqrt(len(z)))
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=5 * np.sqrt(3.0) * z.var(0).max() / np.sqrt(len(z)))


def test_draws_have_the_moments_of_the_mixture() -> None:
    z = draws(MIXTURE, 400_000)
    mean = MIXTURE.weights @ MIXTURE.means
    second = sum(
        w * (f @ f.T + np.outer(m, m)) for w, m, f in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.factors, strict=True)
    )
    np.testing.assert_allclose(z.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(z.T @ z / len(z), second, atol=0.03)


@pytest.mark.slow
def test_draws_given_some_numbers_follow_bayes() -> None:
    """Mean and variance of the third number given the first two, by weighting many draws that nearly agree."""
    known = np.array([-1.0, 0.2])
    z = draws(MIXTURE, 4_000_000)
    near = z[np.abs(z[:, :2] - known).max(axis=1) < 0.03]
    generator = np.random.default_rng(2)
    given = np.broadcast_to(known, (100_000, 2))

    third = MIXTURE.sample_given(given, generator.random(100_000), generator.standard_normal((100_000, 1)))[:, 0]

    error = near[:, 2].std() / np.sqrt(len(near))
    assert third.mean() == pytest.approx(near[:, 2].mean(), abs=5 * error)
    assert third.std() == pytest.approx(near[:, 2].std(), rel=0.05)


def test_select_is_the_law_of_some_numbers_in_another_order() -> None:
    z = draws(MIXTURE, 10)
    chosen = MIXTURE.select([2, 0])
    for index in range(2):
        covariance = MIXTURE.factors[index] @ MIXTURE.factors[index].T
        expected = covariance[np.ix_([2, 0], [2, 0])]
        np.testing.assert_allclose(chosen.factors[index] @ chosen.factors[index].T, expected, atol=1e-12)
    np.testing.assert_allclose(MIXTURE.select(range(3)).log_density(z), MIXTURE.log_density(z), rtol=1e-9)


def test_weights_count_as_rows_do() -> None:
    z, count = draws(MIXTURE, 500), np.random.default_rng(1).integers(1, 4, 500)
    weighted = fit_mixture(z, 1, seed=0, weights=0.25 * count)
    repeated = fit_mixture(np.repeat(z, count, axis=0), 1, seed=0)
    np.testing.assert_allclose(weighted.table(), repeated.table(), rtol=1e-9, atol=1e-12)


def test_a_fit_finds_the_mixture_that_made_its_rows() -> None:
    z = draws(MIXTURE, 60_000)
    found = fit_mixture(z, 2, seed=3)
    order = np.argsort(found.weights)
    np.testing.assert_allclose(found.weights[order], MIXTURE.weights, atol=0.01)
    np.testing.assert_allclose(found.means[order], MIXTURE.means, atol=0.05)
    fresh = draws(MIXTURE, 60_000, seed=9)
    assert found.log_density(fresh).mean() == pytest.approx(MIXTURE.log_density(fresh).mean(), abs=2e-3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_mixture_and_more_components_fit_better() -> None:
    z = np.random.default_rng(4).uniform(-1.0, 1.0, (5000, 2))
    one, many, again = (fit_mixture(z, count, seed=5) for count in (1, 20, 20))
    np.testing.assert_array_equal(many.table(), again.table())
    assert one.log_density(z).mean() < many.log_density(z).mean() < -np.log(4.0) + 1e-9  # the true density is 1/4


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(TooFewRowsError, match="10 components of 2 latents need 60 surfaces, not 59"):
        fit_mixture(np.zeros((59, 2)), 10, seed=0)


def test_a_table_gives_the_mixture_back() -> None:
    again = Mixture.from_table(MIXTURE.table())
    for ours, theirs in zip(again, MIXTURE, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "table", [np.zeros(3), np.zeros((2, 4)), np.full((1, 3), np.nan), np.array([[0.5, 0.0, 1.0]]), np.zeros((0, 0))]
)
def test_what_is_no_mixture_is_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="mixture"):
        Mixture.from_table(table)
