"""The gate: checks that a version must pass, alone and against the champion, before it may be promoted."""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.registry import optional_checks
from pipeline.registry.checks import Check, at_least, at_most, worst
from pipeline.settings.register import GateParams
from vae.runtime import SurfaceModel, VectorModel
from vae.surface.units import rmse_bp

STANDARD_ERRORS = 2.0
_CALLS = 200


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
    return [
        at_most("parity_decoder_max_vol", get("parity_decoder_max_vol"), gate.parity_vol),
        *optional_checks.made(optional_checks.of_surfaces(figures), figures, gate, markets),
        at_most("decode_ms", get("decode_ms"), gate.decode_ms),
    ]


def paired_checks(found: Mapping[str, Comparison], gate: GateParams) -> list[Check]:
    """Check the version against the champion: two standard errors beyond the mean it is within the margins.

    Args:
        found: the comparison on the surfaces of each market, of which the worst counts; or one, under the empty name.
        gate: the margins.
    """
    nats = {market: of.nats - STANDARD_ERRORS * of.nats_se for market, of in found.items()}
    bp = {market: of.bp + STANDARD_ERRORS * of.bp_se for market, of in found.items()}
    least, gain = worst(nats, lambda value: value)
    most, loss = worst(bp, lambda value: -value)
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
