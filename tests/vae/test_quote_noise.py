"""The noise of quotes, with a surface that is linear in two latents, whose posterior is known exactly."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vae import quote_noise
from vae.quote_noise import QuotedVols

KNOWN = 1e-4
COUNT = 60


class Fit(NamedTuple):
    fitted: NDArray[np.float32]
    fitted_std: NDArray[np.float32]
    used: NDArray[np.bool_]
    p_value: float


class Line:
    """Vols 0.2 + z @ (1 / 100, node / 10) with latents z of N(0, I) at random places."""

    def __init__(self, seed: int, count: int = COUNT) -> None:
        self.random = np.random.default_rng(seed)
        self.tenor = self.random.uniform(0.05, 1.0, count)
        self.node = self.random.uniform(-0.3, 0.3, count)
        self.k = self.node * np.sqrt(self.tenor)
        self.slopes = np.stack([np.full(count, 0.01), 0.1 * self.node])
        self.exact = 0.2 + self.random.standard_normal(2) @ self.slopes

    def quotes(self, errors: NDArray[np.float64]) -> QuotedVols:
        return QuotedVols(self.exact + errors, self.tenor, self.k)

    def estimate(self, errors: NDArray[np.float64]) -> quote_noise.NoiseEstimate:
        quotes = self.quotes(errors)

        def complete(weight: NDArray[np.float32]) -> Fit:
            precision = weight.astype(np.float64) / KNOWN**2
            covariance = np.linalg.inv(np.eye(2) + (self.slopes * precision) @ self.slopes.T)
            z = covariance @ (self.slopes * precision) @ (quotes.iv - 0.2)
            fitted, std = 0.2 + z @ self.slopes, np.sqrt((self.slopes * (covariance @ self.slopes)).sum(0))
            misfit = (precision * (quotes.iv - fitted) ** 2).sum() + z @ z
            p_value = stats.chi2(np.count_nonzero(weight)).sf(misfit)
            return Fit(fitted.astype(np.float32), std.astype(np.float32), weight >= 0.0, float(p_value))

        return quote_noise.estimate(complete, quotes, KNOWN)


@pytest.mark.parametrize("noise", [2e-3, 5e-3])
def test_noise_is_found_without_bias(noise: float) -> None:
    """60 quotes give a standard deviation to 9 %, so that the mean of 20 trials is within 6 % with three errors."""
    lines = [Line(seed) for seed in range(20)]
    found = [line.estimate(noise * line.random.standard_normal(COUNT)) for line in lines]
    assert np.mean([one.noise for one in found]) == pytest.approx(noise, rel=0.06)
    assert sum(one.cause == "noise" for one in found) >= 17
    assert all(one.weight.max() == pytest.approx((KNOWN / one.noise) ** 2, rel=1e-5) for one in found)


def test_errors_that_neighbours_share_are_a_shape() -> None:
    for seed in range(10):
        line = Line(seed)
        for errors in (0.004 * np.cos(12.0 * line.node), np.where(line.tenor > 0.4, 0.004, 0.0)):
            assert line.estimate(errors + KNOWN * line.random.standard_normal(COUNT)).cause == "shape"


def test_wild_quotes_are_named_and_the_others_keep_their_noise() -> None:
    for seed in range(10):
        line = Line(seed)
        errors = KNOWN * line.random.standard_normal(COUNT)
        errors[[3, 40]] = 0.05, -0.005
        found = line.estimate(errors)
        assert (found.cause, found.noise, np.flatnonzero(found.wild).tolist()) == ("none", KNOWN, [3, 40])
        np.testing.assert_array_equal(found.weight, ~found.wild)
        said = quote_noise.warning(found, line.quotes(errors), KNOWN)
        assert f"iv {line.exact[3] + 0.05:.4f} at {line.tenor[3]:.3f} years" in said


def test_few_quotes_do_not_tell_noise_from_shape() -> None:
    line = Line(0, count=6)
    errors = 2e-3 * line.random.standard_normal(6)
    found = line.estimate(errors)
    assert found.cause == "unknown"
    assert "so few quotes do not tell noise from a shape" in quote_noise.warning(found, line.quotes(errors), KNOWN)


def test_thousands_of_quotes_are_told_apart_in_bounded_memory() -> None:
    line = Line(0, count=5_000)
    assert line.estimate(2e-3 * line.random.standard_normal(5_000)).noise == pytest.approx(2e-3, rel=0.05)


@pytest.mark.parametrize(("error", "stated"), [(4e-6, "less than 0.1"), (5.1e-6, "0.1"), (2.34e-4, "2.3")])
def test_no_miss_is_stated_as_zero(error: float, stated: str) -> None:
    assert f"misses the quotes by {stated} bp beyond" in quote_noise.of_recalled(error, kept=True)
