"""Paths given the return of their underlying over all of their steps.

Of many paths those count whose return is near the given one, each by a normal kernel (importance resampling). What the
return explains of a path, by a regression with the same weights, then moves it from its own return to the given one.

This is exact for any width of the kernel where a path is linear in its return and the rest does not depend on it, as
under a linear Gaussian law. Elsewhere the kernel bounds how far a path is moved.

Reference: Beaumont, Zhang, Balding (2002), "Approximate Bayesian computation in population genetics", Genetics 162(4).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.dynamics.law import Array

LEAST = 10.0  # paths that must count: fewer are an anecdote, and no law
_WIDTH = 0.5  # of the kernel, in deviations of the returns
_TRIED = 200  # returns on each side among which the end of what can be given is looked for
_DIGITS = 1e4  # of a log return that is shown


class Paths(NamedTuple):
    """Equally probable paths.

    Attributes:
        coordinates: of the surfaces, [path, step, R].
        log_return: of the underlying since the start, [path, step].
        shocks: places of the shocks that made the steps, [path, step].
    """

    coordinates: Array
    log_return: Array
    shocks: NDArray[np.int64]


class Given(NamedTuple):
    """Paths that have the given return, and how much each counts.

    Attributes:
        paths: moved to the return, in the order of the paths that they were made of.
        weights: their probabilities, [path].
        together: probabilities of all paths with the shocks of each, [path].
        effective_size: number of equally probable paths that would say as much.
    """

    paths: Paths
    weights: Array
    together: Array
    effective_size: float

    def size_of_kept(self, drawn: NDArray[np.intp], free: NDArray[np.bool_], tries: int) -> float:
        """The effective size of the paths that rejection leaves: the first of some draws that is free, or the last.

        It is exact only where all paths of one set of shocks are equally free. Elsewhere it is too small: how often
        each set is taken is squared path by path, and the mean of squares is above the square of the mean.

        Args:
            drawn: places of paths drawn by their probabilities, [draw].
            free: whether they are free of static arbitrage, [draw].
            tries: number of draws of which one is taken.
        """
        share = float(free.mean())
        missed = 1.0 - share
        taken = (1.0 - missed**tries) / share if share else 0.0  # times as often as drawn
        ratio = np.where(free, taken, missed ** (tries - 1))
        together = self.together[drawn]
        return self.effective_size * float(together.mean() / (np.square(ratio) * together).mean())


def given_return(paths: Paths, log_return: float) -> Given:
    """Paths given the return over all steps.

    Raises:
        ValueError: fewer than ``LEAST`` paths count, as the return is beyond what the law can say.
    """
    returns = paths.log_return[:, -1]
    same = np.unique(paths.shocks, axis=0, return_inverse=True)[1].reshape(-1)
    weights, together, size = _weighed(returns, same, log_return)
    if size < LEAST:
        low, high = (_end(returns, same, end) for end in (returns.min(), returns.max()))
        raise ValueError(
            f"log_return is {log_return:g}, and {size:.1f} of the paths that the law of motion draws lie near it; "
            f"allowed: {np.ceil(_DIGITS * low) / _DIGITS:.4f} to {np.floor(_DIGITS * high) / _DIGITS:.4f}, where "
            f"{LEAST:g} do"
        )
    missing = log_return - returns
    return Given(
        Paths(_moved(paths.coordinates, weights, missing), _moved(paths.log_return, weights, missing), paths.shocks),
        weights,
        together,
        size,
    )


def _weighed(returns: Array, same: NDArray[np.intp], log_return: float) -> tuple[Array, Array, float]:
    """Weights of paths, of all with the same shocks, which count as one, and the effective size; beyond all paths 0."""
    width = _WIDTH * returns.std()
    if not (width > 0.0 and returns.min() <= log_return <= returns.max()):
        return np.zeros(len(returns)), np.zeros(len(returns)), 0.0
    exponents = -0.5 * np.square((returns - log_return) / width)
    weights = np.exp(exponents - exponents.max())
    weights /= weights.sum()
    groups = np.bincount(same, weights).astype(np.float64)
    return weights, groups[same], float(1.0 / np.square(groups).sum())


def _end(returns: Array, same: NDArray[np.intp], extreme: float) -> float:
    """The last return on the way from the median to an extreme one near which enough paths lie."""
    last = float(np.median(returns))
    for tried in np.linspace(last, extreme, _TRIED).tolist():
        if _weighed(returns, same, tried)[2] < LEAST:
            break
        last = tried
    return last


def _moved(parts: Array, weights: Array, missing: Array) -> Array:
    """Parts of paths [path, ...] with what the return that each path misses, [path], explains of them."""
    apart = missing - weights @ missing
    slopes = -np.tensordot(weights * apart, parts, axes=1) / (weights @ np.square(apart))
    found: Array = parts + np.multiply.outer(missing, slopes)
    return found
