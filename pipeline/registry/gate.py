"""The gate: checks that a version must pass, alone and against the champion, before it may be promoted."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.market_figures import by_market
from pipeline.settings.register import GateParams
from vae.runtime import SurfaceModel, VectorModel
from vae.surface.units import rmse_bp

STANDARD_ERRORS = 2.0
_CALLS = 200


class Check(NamedTuple):
    """One figure and the limit that it must keep.

    Attributes:
        name: name of the figure, with its unit.
        value: None where it was not measured.
        wanted: the limit in words.
        passed: whether ``value`` keeps it.
        market: the market that it belongs to, the worst of several; empty where there are none.
    """

    name: str
    value: float | None
    wanted: str
    passed: bool
    market: str = ""

    def __str__(self) -> str:
        """The figure, its value and its limit."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{self.name}{f' of {self.market}' if self.market else ''} {value}, wanted {self.wanted}"


class Comparison(NamedTuple):
    """Challenger minus champion on the same held-out surfaces: mean differences and their standard errors.

    Attributes:
        surfaces: number of surfaces.
        nats, nats_se: log density of a surface; more is better.
        bp, bp_se: root mean square error of a reconstruction in basis points of vol; less is better.
    """

    surfaces: int
    nats: float
    nats_se: float
    bp: float
    bp_se: float


class Verdict(NamedTuple):
    """All checks of a version."""

    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The failed checks in one line, or the number of checks where all passed."""
        failed = [str(check) for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else f"all {len(self.checks)} checks passed"


def absolute_checks(figures: Mapping[str, float], gate: GateParams, markets: Sequence[str] = ()) -> list[Check]:
    """Check the version alone; of several markets the worst counts.

    Args:
        figures: metrics of prepare, evaluate and export by name, and ``decode_ms``.
        gate: the limits.
        markets: names of the markets of the data.
    """
    get = figures.get
    checks = [at_most("parity_decoder_max_vol", get("parity_decoder_max_vol"), gate.parity_vol)]
    if gate.coverage_90 is not None:
        low, high = gate.coverage_90.low, gate.coverage_90.high
        coverages = _by_market(figures, "interval_coverage_90", markets)
        market, coverage = _worst(coverages, lambda value: min(value - low, high - value))
        inside = coverage is not None and low <= coverage <= high
        checks.append(Check("interval_coverage_90", coverage, f"{low:g} to {high:g}", inside, market))
    if gate.arbitrage_rate is not None:
        data, sample = get("data_arbitrage_free_rate"), get("sample_arbitrage_free_rate")
        least = None if data is None else data - gate.arbitrage_rate
        checks.append(at_least("sample_arbitrage_free_rate", sample, least))
    if gate.data_arbitrage is not None and "large_arbitrage_rate" in figures:  # of quotes; other data is simulated
        checks.append(at_most("data_large_arbitrage_rate", get("large_arbitrage_rate"), gate.data_arbitrage))
    if gate.opponent_ratio is not None:
        market, ratio = _worst(_by_market(figures, "opponent_error_ratio", markets), lambda value: value)
        checks.append(at_least("opponent_error_ratio", ratio, gate.opponent_ratio, market))
    if gate.scenario_ratio is not None and "scenario_energy_ratio" in figures:  # of a model with a law of motion
        checks.append(at_least("scenario_energy_ratio", get("scenario_energy_ratio"), gate.scenario_ratio))
    checks.append(at_most("decode_ms", get("decode_ms"), gate.decode_ms))
    return checks


def paired_checks(found: Mapping[str, Comparison], gate: GateParams) -> list[Check]:
    """Check the version against the champion: two standard errors beyond the mean it is within the margins.

    Args:
        found: the comparison on the surfaces of each market, of which the worst counts; or one, under the empty name.
        gate: the margins.
    """
    nats = {market: of.nats - STANDARD_ERRORS * of.nats_se for market, of in found.items()}
    bp = {market: of.bp + STANDARD_ERRORS * of.bp_se for market, of in found.items()}
    least, gain = _worst(nats, lambda value: value)
    most, loss = _worst(bp, lambda value: -value)
    return [
        at_least("gain_nats_low", gain, -gate.worse_nats, least),
        at_most("loss_bp_high", loss, gate.worse_bp, most),
    ]


def compare(
    challenger: SurfaceModel, champion: SurfaceModel, quoted: NDArray[np.float32], truth: NDArray[np.float32]
) -> Comparison:
    """Compare two models on held-out surfaces.

    Args:
        challenger: the new model.
        champion: the model that it would replace, on the same grid.
        quoted: vols that the models encode [surface, tenor, node], NaN where missing.
        truth: vols that they should reconstruct, of the same shape: without noise where known, else ``quoted``.
    """
    nats = (challenger.score(quoted).nats - champion.score(quoted).nats).astype(np.float64)
    bp = _errors(challenger, quoted, truth) - _errors(champion, quoted, truth)
    return Comparison(len(quoted), *mean_and_error(nats), *mean_and_error(bp))


def decode_ms(model: SurfaceModel | VectorModel) -> float:
    """Median duration of a call that decodes one surface or vector, in milliseconds."""
    z, times = np.zeros((1, model.latents), np.float32), []
    for _ in range(_CALLS):
        start = time.perf_counter()
        model.decode(z)
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def _errors(model: SurfaceModel, quoted: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square error of each reconstruction over the known points, basis points, [surface]."""
    return rmse_bp(model.reconstruct(quoted).astype(np.float64), truth.astype(np.float64), axes=(1, 2))


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its standard error, which is 0 for a single value."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(error)


def _by_market(figures: Mapping[str, float], name: str, markets: Sequence[str]) -> dict[str, float]:
    """A figure of all surfaces under the empty name, and of each market; none where it was not measured."""
    return ({"": figures[name]} if name in figures else {}) | by_market(figures, name, markets)


def _worst(values: Mapping[str, float], slack: Callable[[float], float]) -> tuple[str, float | None]:
    """The market that is nearest to its limit or furthest beyond, and its value. NaN counts as furthest beyond."""
    ranks = {market: slack(value) for market, value in values.items()}
    market = min(ranks, key=lambda name: -math.inf if math.isnan(ranks[name]) else ranks[name], default="")
    return market, values.get(market)


def at_most(name: str, value: float | None, limit: float, market: str = "") -> Check:
    """The check that a figure is not above its limit."""
    return Check(name, value, f"at most {limit:g}", value is not None and value <= limit, market)


def at_least(name: str, value: float | None, limit: float | None, market: str = "") -> Check:
    """The check that a figure is not below its limit, which may be a figure that was not measured."""
    wanted = "a figure of the data" if limit is None else f"at least {limit:g}"
    return Check(name, value, wanted, value is not None and limit is not None and value >= limit, market)
