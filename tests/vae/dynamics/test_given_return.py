"""Paths given their return: exact for a linear Gaussian law, and as brute-force selection where the law is neither."""

import re

import numpy as np
import pytest

from tests.vae.dynamics.histories import wild_history
from vae.dynamics import law as motion
from vae.dynamics.fit import walk
from vae.dynamics.given_return import LEAST, Paths, given_return
from vae.dynamics.law import FORMS, Array

_COUNT = 40_000


def gaussian_paths() -> tuple[Paths, Array]:
    """Paths of two steps and two coordinates, jointly normal, and the covariance of these and the returns, [6, 6]."""
    random = np.random.default_rng(3)
    root = 0.01 * random.standard_normal((6, 6))
    drawn = random.standard_normal((_COUNT, 6)) @ root.T
    places = np.arange(2 * _COUNT).reshape(_COUNT, 2)
    return Paths(drawn[:, :4].reshape(-1, 2, 2), drawn[:, 4:], places), root @ root.T


@pytest.mark.parametrize("deviations", [-2.0, 0.3, 1.5])
def test_a_linear_gaussian_law_is_conditioned_exactly(deviations: float) -> None:
    paths, covariance = gaussian_paths()
    asked = deviations * covariance[5, 5] ** 0.5
    found = given_return(paths, asked)
    parts = np.column_stack([found.paths.coordinates.reshape(_COUNT, 4), found.paths.log_return])
    mean = found.weights @ parts
    spread = (parts - mean).T @ (found.weights[:, None] * (parts - mean))
    scale = np.sqrt(np.diag(covariance))
    error = 5.0 * scale / np.sqrt(found.effective_size)
    assert (np.abs(mean - covariance[:, 5] / covariance[5, 5] * asked) < error).all()
    exact = covariance - np.outer(covariance[:, 5], covariance[5]) / covariance[5, 5]
    np.testing.assert_allclose(
        spread / np.outer(scale, scale), exact / np.outer(scale, scale), atol=7.0 / np.sqrt(found.effective_size)
    )
    np.testing.assert_allclose(found.paths.log_return[:, -1], asked, rtol=1e-12)
    np.testing.assert_allclose(found.weights.sum(), 1.0)


@pytest.mark.parametrize("steps", [1, 2])
def test_paths_are_those_that_brute_force_selects(steps: int) -> None:
    """Paths of a heavy-tailed law, of which those are taken that end close to the return."""
    history = wild_history(with_price=True, dates=1500)
    assert history.log_price is not None
    against = history.coordinates - np.multiply.outer(
        history.log_price, (1.0, 0.5, -1.0)
    )  # vols rise as the price falls
    walked = walk(history._replace(coordinates=against), FORMS["filtered_historical"])
    law, random = walked.law(), np.random.default_rng(4)
    weeks = np.zeros((steps, 7))

    def drawn(count: int) -> Paths:
        places = motion.draw(law, random.random((count, steps)))
        return Paths(*motion.scenarios(law, walked.state(), weeks, places), places)

    many = drawn(200_000)
    returns = many.log_return[:, -1]
    asked = -1.5 * returns.std()
    near = np.abs(returns - asked) < 0.05 * returns.std()
    brute, by_itself = many.coordinates[near, -1], many.coordinates[:, -1]
    found = given_return(drawn(8192), asked)
    ends = found.paths.coordinates[:, -1]
    mean = found.weights @ ends
    deviation = np.sqrt(found.weights @ np.square(ends - mean))
    size = min(found.effective_size, len(np.unique(many.shocks[near], axis=0)))
    error = 3.0 * brute.std(axis=0) / np.sqrt(size)
    assert (np.abs(mean - brute.mean(axis=0)) < error).all()
    np.testing.assert_allclose(deviation / brute.std(axis=0), 1.0, atol=4.0 / np.sqrt(size))
    assert (np.abs(by_itself.mean(axis=0) - brute.mean(axis=0)) > 2.0 * error)[::2].all()
    assert (by_itself.std(axis=0) > 1.1 * brute.std(axis=0))[::2].all()


def test_a_return_beyond_what_the_law_can_say_is_refused_with_what_is_allowed() -> None:
    paths = gaussian_paths()[0]
    few = Paths(*(part[:200] for part in paths))
    for asked in (-1.0, float(few.log_return[:, -1].min()), float(few.log_return[:, -1].max())):
        with pytest.raises(
            ValueError, match=r"of the paths that the law of motion draws lie near it; allowed"
        ) as refused:
            given_return(few, asked)
        ends = re.search(r"allowed: (\S+) to (\S+), where 10 do", str(refused.value))
        assert ends is not None
        for end in map(float, ends.groups()):
            assert LEAST <= given_return(few, end).effective_size < 2.0 * LEAST


def test_paths_of_the_same_shocks_count_as_one() -> None:
    paths = Paths(*(np.repeat(part[:100], 50, axis=0) for part in gaussian_paths()[0]))
    once = given_return(Paths(*(part[::50] for part in paths)), 0.0)
    again = given_return(paths, 0.0)
    assert again.effective_size == pytest.approx(once.effective_size, rel=1e-9)


def test_a_price_that_never_moves_says_nothing() -> None:
    paths = gaussian_paths()[0]
    with pytest.raises(ValueError, match=r"0\.0 of the paths .* allowed: 0\.0000 to 0\.0000"):
        given_return(paths._replace(log_return=np.zeros_like(paths.log_return)), 0.0)


@pytest.mark.parametrize(("share", "tries"), [(1.0, 16), (0.6, 3), (0.2, 4), (0.0, 2)])
def test_the_effective_size_is_that_of_what_rejection_leaves(share: float, tries: int) -> None:
    """As of very many paths drawn so, whose shocks are counted: the first of some that is free, or the last."""
    paths, random = gaussian_paths()[0], np.random.default_rng(5)
    few = Paths(paths.coordinates[:300], paths.log_return[:300], np.repeat(np.arange(100), 3)[:, None])
    found = given_return(few, float(np.quantile(few.log_return[:, -1], 0.3)))
    free = np.repeat(random.random(100) < share, 3)
    candidates = random.choice(300, size=(400_000, tries), p=found.weights)
    first = np.where(free[candidates].any(axis=1), free[candidates].argmax(axis=1), tries - 1)
    counts = np.bincount(candidates[np.arange(len(first)), first] // 3) / len(first)
    drawn = random.choice(300, size=100_000, p=found.weights)
    size = found.size_of_kept(drawn, free[drawn], tries)
    assert size == pytest.approx(1.0 / np.square(counts).sum(), rel=0.03)
    assert (size == found.effective_size) is (share in (0.0, 1.0))
