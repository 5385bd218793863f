"""Figures of a law of motion, which walks through the test dates beside historical simulations of the same dates.

Also of what it remembers: completions of the test dates from their quotes and from the past.
"""

from functools import partial

import numpy as np
import torch

from pipeline.dynamics import Dated, dated, tested_dates
from pipeline.files.dataset import SPLITS, Dataset, PathLaw
from pipeline.files.motion_file import FittedMotion
from pipeline.settings.evaluate import EvaluateParams
from pipeline.sources.heston_paths import VARIANCE, priced
from vae.dynamics.fit import History, Walk, walk
from vae.dynamics.law import FORMS, Array, Free
from vae.evaluation.exact_motion import ExactPath, exact_metrics
from vae.evaluation.memory import Completed, memory_metrics
from vae.evaluation.scenarios import Forecasts, forecasts, scenario_metrics
from vae.evaluation.skew_stickiness import stickiness_metrics
from vae.evaluation.var_backtests import backtest_metrics, losses
from vae.model import completion
from vae.model.arbitrage_penalty import ArbitragePenalty
from vae.model.autoencoder import Vae
from vae.pricing.heston_transition import Process
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR

_FILTERED = "filtered_historical"
_CANDIDATES = 100  # of a date, whose acceptance is measured


def scenario_figures(motion: FittedMotion, model: Vae, data: Dataset, settings: EvaluateParams) -> dict[str, float]:
    """Energy scores and coverage of the test dates, skew stickiness, and backtests of books; none without test dates.

    The law of each date is fitted to all dates up to it, in the coordinates of the model. Historical simulations work
    on the log vols themselves. Skew stickiness and books need the return of the underlying.
    """
    count = tested_dates(data, motion.underlying)
    if not count:
        return {}
    found = dated(model, data, SPLITS, motion.underlying)
    center = model.center.numpy()
    plain = _plain(found, center)
    own = walk(found.history, FORMS[motion.form].of(motion.law), motion.law.elasticity)
    own, filtered = own._replace(free=_tells_arbitrage(model, data.grid)), walk(plain, FORMS[_FILTERED])
    walks = (own, filtered, walk(plain, FORMS["historical"]))
    first = len(found.points) - count
    forecast = [forecasts(each, found.points, center, first=first, seed=settings.seed) for each in walks]
    figures = scenario_metrics(*forecast) | {
        "scenario_ageing": own.form.ageing,
        "scenario_elasticity": float(np.abs(own.basis.sum(axis=0)[: len(own.elasticity)] @ own.elasticity).mean()),
    }
    if own.free is not None:
        figures["scenario_acceptance_rate"] = _acceptance_rate(own, own.free, first)
    if data.path is not None and plain.log_price is not None:
        figures |= exact_metrics(
            _exact(data, data.path, plain.log_price),
            {"scenario": own, "fhs": filtered},
            center,
            found.points.mean(axis=1),
            data.grid,
            first=first,
        )
    for name, found_there in zip(("scenario", "fhs"), forecast, strict=False):
        figures[f"{name}_arbitrage_free_rate"] = _free_of_arbitrage(found_there, data.grid, settings)
    figures |= memory_metrics(
        own,
        walks[-1],
        found.points,
        center,
        lambda seen: _completed(model, seen),
        noise=float(model.scale.detach().square().mean()),
        known=settings.completion_points,
        first=first,
        seed=settings.seed,
    )
    if plain.log_price is None:
        return figures
    iv = np.exp(center + plain.coordinates).reshape(-1, *data.grid.shape)
    history = (center, data.grid, plain.log_price, plain.days)
    laws = {"scenario": own, "fhs": filtered}
    figures |= stickiness_metrics(laws, iv, center, data.grid, plain.log_price, first=first)
    for name, each in (("", own), ("fhs_", filtered)):
        lost = losses(each, iv, *history, first=first)
        figures |= backtest_metrics(lost, name, seed=settings.seed)
    return figures


def _tells_arbitrage(model: Vae, grid: Grid) -> Free | None:
    """Tells surfaces without static arbitrage as ``scenarios.onnx`` does; None on a grid in deltas."""
    if grid.convention == "delta":
        return None
    measure = ArbitragePenalty(grid).to(model.center)

    def free(coordinates: Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        with torch.no_grad():
            iv = model.expand(torch.from_numpy(coordinates)).unflatten(-1, grid.shape)
            return np.asarray(measure.free(iv))

    return free


def _acceptance_rate(walked: Walk, free: Free, first: int) -> float:
    """Share of first candidates without static arbitrage, one step ahead."""
    plain, uniform = walked._replace(free=None), (np.arange(_CANDIDATES)[:, None] + 0.5) / _CANDIDATES
    dates = range(first - 1, len(walked.shocks))
    return float(np.mean([free(plain.scenarios(date, uniform).coordinates[:, 0]) for date in dates]))


def _completed(model: Vae, log_vols: Array) -> Completed:
    """Surfaces [date, D] from the points of each that are not NaN."""
    x = torch.from_numpy(log_vols).exp()
    alone, belief = completion.complete_with_beliefs(model, x)
    return Completed(*(part.numpy() for part in (alone.mean, alone.std, *belief)))


def _exact(data: Dataset, law: PathLaw, log_price: Array) -> ExactPath:
    """The exact law of a simulated path, of the dates of all splits."""
    variance = np.concatenate([data.conditions(split)[VARIANCE] for split in SPLITS])
    price = partial(priced, law, grid=data.grid)
    return ExactPath.of(Process(*law[: len(Process._fields)]), variance, log_price, 1.0 / DAYS_PER_YEAR, price)


def _free_of_arbitrage(found: Forecasts, grid: Grid, settings: EvaluateParams) -> float:
    """Share of scenarios without static arbitrage."""
    iv = np.exp(found.drawn).reshape(-1, *grid.shape)
    return arbitrage.free_rate(arbitrage.violations(iv, grid), tolerance=settings.arbitrage_tolerance)


def _plain(found: Dated, center: Array) -> History:
    """The same history in coordinates that are the log vols less ``center``, [D]; the model fills missing ones."""
    history = found.history
    modelled = history.coordinates @ history.basis.T
    known = np.where(np.isnan(found.points), modelled, found.points - center)
    return history._replace(coordinates=known, basis=np.eye(len(center)))
