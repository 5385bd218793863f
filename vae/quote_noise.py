"""The noise of quotes, estimated from the quotes where those do not fit the model at the noise that it knows.

The ratio of the quotes' noise variance to the model's is found by expectation and maximisation over completions: it is
the mean of the squared errors that are expected at the quotes, where quotes far off count less. Errors that near quotes
share are no noise: then the surface has a shape that the model does not know.

Reference: Dempster, Laird, Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm"; Moran (1950),
"Notes on continuous stochastic phenomena".
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vae.surface.units import BASIS_POINTS

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]
Cause = Literal["none", "noise", "shape", "unknown"]

LEAST_P = 0.005  # quotes with a smaller p-value lie outside of what the model learned
_FORECAST_DEVIATIONS = 2.576  # the same limit for the chi-square of a forecast, on a normal scale
_SURELY_FITS = 0.05  # once wild quotes are left out, the others fit if their p-value is larger
_ROBUST_STEPS, _STEPS = 3, 6  # the first steps take a median in place of the mean
_FEWEST_OF_MEDIAN = 20  # quotes of which a median is taken: that of fewer is too rough
_MEDIAN_SQUARE = 0.455  # of a standard normal number
_LEAST_STATED = 0.1  # bp: a smaller number would be stated as none
_FAR, _WILD = 3.0, 5.0  # deviations from which a quote counts less, and is called wild
_FEWEST = 10  # quotes with which noise can be told from shape
_MOST = 1000  # quotes whose neighbours are looked at
_STRETCHES = ((1.0, 1.0), (4.0, 1.0), (1.0, 4.0))  # of the axes, within which neighbours are the nearest
_NAMED = 3  # wild quotes in a sentence
_SHARED = 0.1  # correlation of the errors of neighbours above which they are of a shape


class FittedQuotes(Protocol):
    """A completion, as far as it speaks of its quotes; see ``vae.runtime.Completion``."""

    @property
    def fitted(self) -> Array: ...  # noqa: D102

    @property
    def fitted_std(self) -> Array: ...  # noqa: D102

    @property
    def used(self) -> Mask: ...  # noqa: D102

    @property
    def p_value(self) -> float: ...  # noqa: D102


class QuotedVols(NamedTuple):
    """Quotes of one surface, each [quote].

    Attributes:
        iv: decimal vols.
        tenor: years.
        k: log-moneyness ln(K/F).
    """

    iv: Numbers
    tenor: Numbers
    k: Numbers


class NoiseEstimate(NamedTuple):
    """The noise of quotes that do not fit a model at the noise that it knows.

    Attributes:
        weight: of each quote, in units of the model's precision, [quote].
        noise: standard deviation of a quote that is not wild, decimal.
        wild: quotes more than five standard deviations off, [quote].
        cause: of the misfit; ``none`` where the quotes that are not wild fit.
    """

    weight: Array
    noise: float
    wild: Mask
    cause: Cause


def estimate(complete: Callable[[Array], FittedQuotes], quotes: QuotedVols, known: float) -> NoiseEstimate:
    """The noise of quotes that do not fit a model at the noise that it knows.

    Args:
        complete: the surface from weights of the quotes.
        quotes: the quotes.
        known: standard deviation of the noise that the model knows, decimal.
    """
    trust = ratio = np.ones(len(quotes.iv))
    for step in range(_STEPS + 1):
        fit = complete((trust / ratio).astype(np.float32))
        error = (quotes.iv - fit.fitted) / known
        square = error**2 + (fit.fitted_std / known) ** 2
        if step <= _ROBUST_STEPS and fit.used.sum() >= _FEWEST_OF_MEDIAN:
            typical = np.median(square[fit.used]) / _MEDIAN_SQUARE
        else:
            typical = (trust * square)[fit.used].mean()
        ratio = np.maximum(1.0, typical)
        trust = np.minimum(1.0, _FAR**2 * ratio / np.maximum(error**2, 1.0))
    wild = fit.used & (error**2 > _WILD**2 * ratio)
    kept = (~wild).astype(np.float32)
    if wild.any() and complete(kept).p_value >= _SURELY_FITS:
        return NoiseEstimate(kept, known, wild, "none")
    cause = _cause((np.sqrt(trust) * error)[fit.used], quotes.tenor[fit.used], quotes.k[fit.used])
    return NoiseEstimate((trust / ratio).astype(np.float32), known * float(ratio) ** 0.5, wild, cause)


def unexplained(error: Array, deviation: Array, known: float) -> float:
    """The root mean square of errors, [quote], that neither their deviations nor the known noise explain, decimal.

    Args:
        error: quotes less the surface, decimal.
        deviation: standard deviations of the surface there, decimal.
        known: standard deviation of the noise that the model knows, decimal.
    """
    if not len(error):
        return 0.0
    more = float((np.square(error) - np.square(deviation)).mean()) - known**2
    return math.sqrt(max(more, 0.0))


def fits_forecast(misfit: float, number: int) -> bool:
    """Whether quotes fit a forecast, given their chi-square and its degrees of freedom.

    Reference: Wilson, Hilferty (1931), "The distribution of chi-square", PNAS 17(12).
    """
    spread = 2.0 / (9.0 * max(number, 1))
    root = math.pow(max(misfit, 0.0) / max(number, 1), 1.0 / 3.0)
    return root <= 1.0 - spread + _FORECAST_DEVIATIONS * math.sqrt(spread)


def _cause(error: Numbers, tenor: Numbers, k: Numbers) -> Cause:
    """Noise where errors, [quote], are independent, and a shape where near quotes share them."""
    if len(error) < _FEWEST:
        return "unknown"
    step = -(-len(error) // _MOST)
    error, tenor, k = error[::step], tenor[::step], k[::step]
    place = np.stack([np.log(tenor), k / np.sqrt(tenor)], axis=1)
    place /= np.maximum(place.std(axis=0), 1e-9)
    shared = max(_correlation(error, place * stretch) for stretch in _STRETCHES)
    return "shape" if shared > _SHARED else "noise"


def _correlation(error: Numbers, place: Numbers) -> float:
    """Mean product of the errors of quotes and of their nearest neighbours, by their mean square: Moran's I."""
    distance = np.square(place[:, None] - place).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    neighbours = np.argsort(distance, axis=1)[:, : min(4, len(error) // 5)]
    return float((error[:, None] * error[neighbours]).mean() / np.square(error).mean())


def warning(found: NoiseEstimate, quotes: QuotedVols, known: float, *, recalled: bool = False) -> str:
    """Why the quotes do not fit, in one sentence.

    Args:
        found: their noise.
        quotes: themselves.
        known: standard deviation of the noise that the model knows, decimal.
        recalled: whether the surface that is returned is not that of the quotes alone, of which this speaks;
            ``of_recalled`` goes on.
    """
    size = f"{BASIS_POINTS * found.noise:.1f} bp, {found.noise / known:.1f} times the noise that the model learned"
    wild = _named(quotes, found.wild)
    if found.cause == "none":
        return f"the model fits all quotes but the wild ones, which are left out: {wild}"
    also = f"; quotes that are wild beside that: {wild}" if found.wild.any() else ""
    if found.cause == "noise":
        return f"the quotes are noisy: their errors are independent and {size}; intervals are wider by that{also}"
    then = also if recalled else f"; intervals are wider by that{also}"
    alone = "without the previous state " if recalled else ""
    if found.cause == "shape":
        return (
            f"the surface lies outside of what the model learned: {alone}neighbouring quotes miss it alike, by about "
            f"{size}{then}"
        )
    return (
        f"the quotes do not fit the model: {alone}their errors are about {size}; so few quotes do not tell noise from "
        f"a shape that the model did not learn{then}"
    )


MISFIT_OF_WEIGHTS_ALONE = (
    "the quotes do not fit the model at the noise that their weights state: either that is larger, or the surface lies "
    "outside of what the model learned"
)
MISFIT_OF_WEIGHTS = f"{MISFIT_OF_WEIGHTS_ALONE}; intervals are wider by the misfit"


def of_recalled(error: float, *, kept: bool) -> str:
    """Part of a sentence: how the surface from a previous state misses the quotes, and the worth of the state then.

    Args:
        error: root mean square beyond the noise of quotes, decimal.
        kept: whether a state goes on.
    """
    if error == 0.0:
        return "from the previous state the surface meets the quotes within their noise"
    size = BASIS_POINTS * error
    stated = f"{size:.1f}" if round(size, 1) >= _LEAST_STATED else f"less than {_LEAST_STATED}"
    missed = f"from the previous state the surface misses the quotes by {stated} bp beyond their noise"
    if kept:
        return f"{missed}, and intervals and the state that goes on are wider by that"
    return (
        f"{missed}, and intervals are wider by that; a day moves the surface by less, so no new state follows, and the "
        "previous one stays the newest"
    )


def _named(quotes: QuotedVols, wild: Mask) -> str:
    """The first wild quotes in words."""
    rows = np.flatnonzero(wild)
    names = [f"iv {quotes.iv[i]:.4f} at {quotes.tenor[i]:.3f} years, k = {quotes.k[i]:.3f}" for i in rows[:_NAMED]]
    return ", ".join(names) + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")
