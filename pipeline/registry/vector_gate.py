"""The gate of models of vectors: the checks of ``pipeline.registry.gate`` that need neither vols nor a grid."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.registry import optional_checks
from pipeline.registry.checks import Check, at_least, at_most
from pipeline.registry.gate import STANDARD_ERRORS, mean_and_error
from pipeline.settings.register import GateParams
from vae.runtime import VectorModel


class VectorComparison(NamedTuple):
    """Challenger minus champion on the same held-out vectors: mean differences and their standard errors.

    Attributes:
        vectors: number of vectors.
        nats, nats_se: log density of a vector; more is better.
        error, error_se: root mean square error of a reconstruction, in units of the champion's mean error; less is
            better.
    """

    vectors: int
    nats: float
    nats_se: float
    error: float
    error_se: float


def absolute_checks(figures: Mapping[str, float], gate: GateParams, likelihood: str) -> list[Check]:
    """Check the version alone.

    Gaussian points are compared with linear opponents and must have honest intervals; binary ones, which have neither,
    must be more likely than each alone.

    Args:
        figures: metrics of evaluate and export by name, and ``decode_ms``.
        gate: the limits.
        likelihood: of a point.
    """
    get = figures.get
    checks = [at_most("parity_decoder_max_relative", get("parity_decoder_max_relative"), gate.parity_relative)]
    if likelihood == "bernoulli":
        checks.append(at_least("iwae_nats", get("iwae_nats"), get("independent_log_likelihood_nats")))
    checks += optional_checks.made(optional_checks.of_vectors(likelihood), figures, gate)
    return [*checks, at_most("decode_ms", get("decode_ms"), gate.decode_ms)]


def paired_checks(found: VectorComparison, gate: GateParams) -> list[Check]:
    """Check the version against the champion: two standard errors beyond the mean it is within the margins."""
    nats = found.nats - STANDARD_ERRORS * found.nats_se
    error = found.error + STANDARD_ERRORS * found.error_se
    return [at_least("gain_nats_low", nats, -gate.worse_nats), at_most("loss_error_high", error, gate.worse_error)]


def compare(challenger: VectorModel, champion: VectorModel, x: NDArray[np.float32]) -> VectorComparison:
    """Compare two models of vectors of one length and likelihood on held-out vectors x [n, D]."""
    nats = challenger.score(x).nats - champion.score(x).nats
    theirs = _errors(champion, x)
    errors = (_errors(challenger, x) - theirs) / max(theirs.mean(), np.finfo(np.float32).tiny)
    return VectorComparison(len(x), *mean_and_error(nats), *mean_and_error(errors))


def comparable(challenger: VectorModel, champion: VectorModel) -> bool:
    """Whether two models are of vectors of one length and likelihood."""
    return (challenger.dimension, challenger.likelihood) == (champion.dimension, champion.likelihood)


def _errors(model: VectorModel, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square error of each reconstruction, [n]."""
    error = model.reconstruct(x).astype(np.float64) - x
    root: NDArray[np.float64] = np.sqrt((error**2).mean(1))
    return root
