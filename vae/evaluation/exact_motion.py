"""How far a law of motion is from the exact law of a simulated Heston path, of which it saw surfaces and returns only.

With fixed parameters a surface is a function of the variance, so that its mean log vol and the return of the forward
have a density that is known: ``vae.pricing.heston_transition``. No forecast has a higher mean log score than that
density, and the difference is the Kullback-Leibler divergence of the forecast from the truth.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.interpolate
import scipy.stats
from numpy.typing import NDArray

from vae.dynamics.fit import Walk
from vae.dynamics.law import scenarios, shares
from vae.pricing.heston_transition import Process, return_law, variance_law
from vae.risk.book import CALL, PUT, Book, Underlying, valued
from vae.surface.grid import Grid

Array = NDArray[np.float64]

_KNOTS = 200  # variances at which surfaces are priced
_RARE = 1e-7  # probability of a variance beyond the knots on each side
_VARIANCES, _RETURNS, _FAR = 80, 160, 8.0  # of the lattice of outcomes, whose returns reach so many deviations
_DATES = 40  # whose risk is measured, at most
_LEVEL = 0.99
_TENOR = 0.25  # years of the straddle; the closest on the grid


class ExactPath(NamedTuple):
    """A simulated path and the law that made it.

    Attributes:
        process: the parameters.
        variance: of each date, [date].
        log_price: of the forward, [date].
        years: from one date to the next.
        log_vols: spline of the log vols [D] in the logarithm of the variance.
    """

    process: Process
    variance: Array
    log_price: Array
    years: float
    log_vols: scipy.interpolate.CubicSpline

    @classmethod
    def of(
        cls, process: Process, variance: Array, log_price: Array, years: float, price: Callable[[Array], Array]
    ) -> "ExactPath":
        """The path with its surfaces.

        Args:
            process: the parameters.
            variance: of each date, [date].
            log_price: of the forward, [date].
            years: from one date to the next.
            price: surfaces [n, tenor, node] of variances [n], NaN where they are not known.
        """
        low, high = (
            float(variance_law(process, np.array(end), years).ppf(share))
            for end, share in ((variance.min(), _RARE), (variance.max(), 1.0 - _RARE))
        )
        knots = np.geomspace(low, high, _KNOTS)
        vols = price(knots).reshape(_KNOTS, -1)
        whole = np.isfinite(vols).all(axis=1)
        spline = scipy.interpolate.CubicSpline(np.log(knots[whole]), np.log(vols[whole]))
        return cls(process, variance, log_price, years, spline)

    def log_density(self, date: int) -> float:
        """Of the mean log vol of a date and of the return to it, given the date before."""
        before, after = self.variance[date - 1 : date], self.variance[date : date + 1]
        of_return = return_law(self.process, before, after, self.years).density(np.diff(self.log_price)[[date - 1]])
        slope = self.log_vols(np.log(after), 1).mean() / after
        law = variance_law(self.process, before, self.years)
        of_level = law.logpdf(after) - np.log(slope)  # type: ignore[attr-defined]
        return float((of_level + np.log(of_return))[0])

    def outcomes(self, date: int) -> "Outcomes":
        """The step to a date: a lattice of variances and returns with the probability of each."""
        before = self.variance[date - 1 : date]
        law = variance_law(self.process, before, self.years)
        after = np.linspace(law.ppf(_RARE), law.ppf(1.0 - _RARE), _VARIANCES)[:, 0]
        given = return_law(self.process, np.repeat(before, _VARIANCES), after, self.years)
        each = given.repeated(_RETURNS)
        log_return = each.center + each.deviation * np.tile(np.linspace(-_FAR, _FAR, _RETURNS), _VARIANCES)
        of_variance = law.pdf(after)  # type: ignore[attr-defined]
        weight = np.repeat(of_variance, _RETURNS) * each.density(log_return) * each.deviation
        return Outcomes(self.log_vols(np.log(np.repeat(after, _RETURNS))), log_return, weight / weight.sum())


class Outcomes(NamedTuple):
    """Outcomes of a step: log vols [n, D], log returns [n] and their probabilities [n]."""

    log_vols: Array
    log_return: Array
    weight: Array


def outcomes(walked: Walk, center: Array, date: int) -> Outcomes:
    """Of the step to a date by the law of the date before, which has a return: one of each of its shocks.

    Args:
        walked: through all dates.
        center: log vols of the surface with coordinates of 0, [D].
        date: place of the date.
    """
    law, state = walked.law(date - 1), walked.state(date - 1)
    every = np.arange(len(law.shocks))[:, None]
    found = scenarios(law, state, walked.weeks[date - 1 : date], every)
    weight = shares(len(every), float(law.ageing[0]))
    return Outcomes(center + found.coordinates[:, 0] @ walked.basis.T, found.log_return[:, 0], weight)


def log_density(found: Outcomes, level: float, log_return: float) -> float:
    """Of a mean log vol and a return, by a Gaussian kernel of Scott's width around each outcome."""
    kernels = scipy.stats.gaussian_kde(np.stack([found.log_vols.mean(axis=1), found.log_return]), weights=found.weight)
    return float(kernels.logpdf([level, log_return])[0])


def exact_metrics(
    path: ExactPath, walks: dict[str, Walk], center: Array, level: Array, grid: Grid, *, first: int
) -> dict[str, float]:
    """Flat figures of laws by their names: nats a date below the exact law, and their value at risk over the exact one.

    The value at risk is that of a straddle at the money over one step, bought and sold, its mean over test dates.

    Args:
        path: the exact law.
        walks: of the laws, through all dates.
        center: log vols of the surface with coordinates of 0, [D].
        level: mean log vol of the surfaces, [date].
        grid: of the surfaces.
        first: place of the first date that is forecast.
    """
    dates = range(first, len(level))
    exact = np.array([path.log_density(date) for date in dates])
    figures = {}
    risked = range(first, len(level), -(-len(dates) // _DATES))
    right = np.array([_risk(path, path.outcomes(date), grid, date) for date in risked]).sum(axis=0)
    moves = np.diff(path.log_price)
    for name, walked in walks.items():
        found = {date: outcomes(walked, center, date) for date in dates}
        own = np.array([log_density(found[date], level[date], moves[date - 1]) for date in dates])
        stated = np.array([_risk(path, found[date], grid, date) for date in risked]).sum(axis=0)
        figures[f"{name}_gap_to_exact_nats"] = float((exact - own).mean())
        for side, ratio in zip(("bought", "sold"), stated / right, strict=True):
            figures[f"{name}_straddle_{side}_var_99_to_exact"] = float(ratio)
    return figures


def _risk(path: ExactPath, found: Outcomes, grid: Grid, date: int) -> Array:
    """Value at risk over the step to a date of a straddle at the money, bought and sold, in units of the spot."""
    tenor = grid.tenors[np.abs(grid.tenors - _TENOR).argmin()]
    straddle = Book(np.array([CALL, PUT]), np.ones(2), np.full(2, tenor), np.ones(2))
    today = np.exp(path.log_vols(np.log(path.variance[date - 1]))).reshape(1, *grid.shape)
    before = valued(straddle, Underlying(np.ones(1)), today, grid).value.sum()
    surfaces, spots = np.exp(found.log_vols).reshape(-1, *grid.shape), Underlying(np.exp(found.log_return))
    pnl = valued(straddle.after(path.years), spots, surfaces, grid).value.sum(axis=1) - before
    return np.array([_value_at_risk(side * pnl, found.weight) for side in (1.0, -1.0)])


def _value_at_risk(pnl: Array, weight: Array) -> float:
    """The smallest loss that is exceeded with a probability of at most 1 - ``_LEVEL``."""
    order = np.argsort(pnl)
    return float(-pnl[order][np.searchsorted(np.cumsum(weight[order]), 1.0 - _LEVEL, side="right")])
