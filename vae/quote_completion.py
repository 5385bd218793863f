"""Surfaces completed from quotes by the graph of a bundle: quotes alone, or with what was known before.

Where quotes do not fit the model, their noise is estimated from them (``vae.quote_noise``), unless they state it.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae import quote_noise, runtime_inputs
from vae.bundle_model import Signature
from vae.dynamics.kalman_filter import Belief, LogQuotes
from vae.motion import Motion, Recalled, Seen
from vae.motion_state import State
from vae.quote_noise import Cause
from vae.runtime_inputs import QUOTE_COLUMNS, Array, Feeds
from vae.sessions import Graph
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS

_OF_QUOTES = ("z", "fitted", "fitted_std", "misfit", "p_value", "used")  # outputs of the graph beside surfaces
_OUTPUTS = ("surface", "std", *_OF_QUOTES)
_OF_MOTION = ("coordinates", "covariance", "quote_weights", "quote_precision")  # of a model with a law of motion


class Completion(NamedTuple):
    """A surface given quotes.

    Attributes:
        iv: vols, [tenor, node].
        std: standard deviation of a quote at each point, with the noise of the data, [tenor, node]; the vol +- 1.645 of
            it is a 90 % interval.
        latents: the most probable latents, [latent].
        fitted: vols of the surface at the quotes, NaN for quotes that are not used, [quote].
        fitted_std: their standard deviations, without the noise of quotes, [quote].
        misfit: squared errors of the quotes and squared length of the latents, in units of their standard deviations;
            at the noise that the model learned or the weights state, wild quotes left out.
        p_value: share of held-out surfaces whose misfit from as many points is larger.
        used: whether the quote lies inside the domain of the grid, [quote].
        noise: standard deviation of a quote of weight 1, decimal vol; that of weight w has ``noise / sqrt(w)``. With
            weights it is what the model learned, which is their unit; where the quotes do not fit, ``std`` and
            ``warning`` say so. Without weights it is what the model learned where the quotes fit, else an estimate
            from their errors; after a previous state, from their errors about the surface returned.
        wild: quotes that no surface fits with the others, where no weights are given, [quote].
        cause: why the quotes do not fit: ``noise``, a ``shape`` of the surface that the model did not learn,
            ``unknown`` where the two cannot be told apart, or ``none``.
        warning: that in a sentence; None where all quotes fit.
        state: what is known after the quotes, where they were completed from a previous state; None where they lie so
            far outside of what the model learned that no state follows, which ``warning`` says. The previous state is
            then still the newest.
    """

    iv: Array
    std: Array
    latents: Array
    fitted: Array
    fitted_std: Array
    misfit: float
    p_value: float
    used: NDArray[np.bool_]
    noise: float
    wild: NDArray[np.bool_]
    cause: Cause = "none"
    warning: str | None = None
    state: State | None = None

    def __repr__(self) -> str:
        """The surface and how well the quotes fit, in one line, as the arrays hold hundreds of numbers."""
        tenors, nodes = self.iv.shape
        std = BASIS_POINTS * np.median(self.std)
        fit = f"{self.p_value:.0%} of held-out surfaces fit worse" if self.warning is None else self.warning
        return (
            f"<Completion: {tenors} tenors x {nodes} nodes from {int(self.used.sum())} of {len(self.used)} quotes; "
            f"median standard deviation {std:.1f} bp; {fit}>"
        )

    @property
    def outside(self) -> bool:
        """Whether the quotes lie outside of what the model learned: noisier, or of another shape."""
        return self.cause != "none"


def signature(grid: Grid, *, market: bool, rank: int | None) -> Signature:
    """Inputs and outputs of the graph by name, with the shape of a row.

    Args:
        grid: of the surfaces.
        market: whether the market is a condition.
        rank: number of coordinates that a law of motion moves; None where there is none.
    """
    inputs: dict[str, tuple[int, ...]] = dict.fromkeys((*QUOTE_COLUMNS, *(("market",) if market else ())), ())
    smile = grid.shape[1:]
    outputs: dict[str, tuple[int, ...]] = {"surface": smile, "std": smile, **dict.fromkeys(_OF_QUOTES, ())}
    if rank is not None:
        outputs |= dict(zip(_OF_MOTION, ((), (rank,), (math.prod(grid.shape),), ()), strict=True))
    return inputs, outputs


class QuoteCompleter(NamedTuple):
    """Completes surfaces from checked quotes.

    Attributes:
        graph: ``completer.onnx``.
        grid: of the surfaces.
        learned_noise: standard deviation of a quote of weight 1, decimal vol.
    """

    graph: Graph
    grid: Grid
    learned_noise: float

    def complete(self, feeds: Feeds, *, estimated: bool) -> Completion:
        """The surface from quotes alone.

        Args:
            feeds: the inputs of the graph.
            estimated: whether the noise of quotes that do not fit is estimated from them, as they state none.

        Raises:
            ValueError: no quote lies inside the domain of the grid, or no finite surface goes with the quotes.
        """
        found = self._run(feeds)
        return self._misfitting(feeds, found, estimated=estimated)[0] if found.p_value < quote_noise.LEAST_P else found

    def complete_from(
        self,
        previous: State,
        motion: Motion,
        feeds: Feeds,
        elapsed: float,
        log_return: float | None,
        *,
        estimated: bool,
    ) -> Completion:
        """The surface from quotes and a previous state; its latents are those of the quotes alone.

        Quotes that the forecast explains are taken at their weights, whatever the surfaces of the training data say.

        Args:
            previous: the state before.
            motion: the law of motion.
            feeds: the inputs of the graph.
            elapsed: working days since ``previous``.
            log_return: of the underlying on the last working day of these, if it is known.
            estimated: as of ``complete``.

        Raises:
            ValueError: as of ``complete``, or the return is not a number, or not wanted.
        """
        runtime_inputs.check_return(log_return, has_return=motion.has_return)
        since = math.nan if log_return is None else log_return
        found, seen = self._run_and_see(feeds)
        recalled = motion.recalled(previous, seen, seen.quotes, elapsed, since)
        state: State | None = recalled.state
        number = int(found.used.sum())
        if found.p_value < quote_noise.LEAST_P and not quote_noise.fits_forecast(recalled.misfit, number):
            found, weighed = self._misfitting(feeds, found, estimated=estimated, recalled=True)
            own = self._run_and_see(weighed)[1]
            noisy = found.cause == "noise"
            trusted = own.quotes if noisy else seen.quotes._replace(precision=seen.quotes.precision * ~found.wild)
            recalled = motion.recalled(previous, own, trusted, elapsed, since)
            state = recalled.state
            if not noisy:
                missed = self._missed(feeds, found, recalled)
                recalled = recalled._replace(std=np.sqrt(recalled.std**2 + np.float32(missed) ** 2))
                state = motion.doubted(previous, recalled.state, missed)
                if missed > 0.0 or found.outside:
                    worth = quote_noise.of_recalled(missed, kept=state is not None)
                    noise = math.hypot(self.learned_noise, missed) if estimated else found.noise
                    found = found._replace(warning=f"{found.warning}; {worth}", noise=noise)
        return found._replace(
            iv=recalled.state.iv,
            std=recalled.std,
            fitted=recalled.fitted,
            fitted_std=recalled.fitted_std,
            state=state,
        )

    def _misfitting(
        self, feeds: Feeds, first: Completion, *, estimated: bool, recalled: bool = False
    ) -> tuple[Completion, Feeds]:
        """The completion of quotes that do not fit at their weights, and the quotes with the weights that it took.

        Where the noise is to be estimated it is that which the quotes show; ``first`` is the completion with the noise
        that was learned.
        """
        if not estimated:
            warning = quote_noise.MISFIT_OF_WEIGHTS_ALONE if recalled else quote_noise.MISFIT_OF_WEIGHTS
            return first._replace(cause="unknown", warning=warning), feeds
        iv, tenor, k = (feeds[name].astype(np.float64) for name in ("iv", "tenor", "log_moneyness"))
        quotes = quote_noise.QuotedVols(iv, tenor, k)

        def complete(weight: Array) -> Completion:
            return self._run(feeds | {"weight": weight})

        noise = quote_noise.estimate(complete, quotes, self.learned_noise)
        found = complete(noise.weight)
        if noise.cause != "none":
            found = found._replace(misfit=first.misfit, p_value=first.p_value)
        if noise.cause in ("shape", "unknown"):
            found = found._replace(std=np.sqrt(found.std**2 + np.float32(noise.noise) ** 2))
        warning = quote_noise.warning(noise, quotes, self.learned_noise, recalled=recalled)
        found = found._replace(noise=noise.noise, wild=noise.wild, cause=noise.cause, warning=warning)
        return found, feeds | {"weight": noise.weight}

    def _missed(self, feeds: Feeds, found: Completion, recalled: Recalled) -> float:
        """By how much the surface misses the quotes beyond their noise, decimal vol; wild ones are left out."""
        rows = found.used & ~found.wild
        error = (feeds["iv"] - recalled.fitted)[rows]
        return quote_noise.unexplained(error, recalled.fitted_std[rows], self.learned_noise)

    def _run(self, feeds: Feeds) -> Completion:
        return self._checked(self.graph.run(feeds, _OUTPUTS))

    def _run_and_see(self, feeds: Feeds) -> tuple[Completion, Seen]:
        """The completion, and what the quotes say for a law of motion."""
        parts = self.graph.run(feeds, (*_OUTPUTS, *_OF_MOTION))
        coordinates, covariance, weights, precision = (part.astype(np.float64) for part in parts[len(_OUTPUTS) :])
        log_vol = np.log(feeds["iv"].astype(np.float64))
        seen = Seen(Belief(coordinates, covariance), LogQuotes(log_vol, precision, weights))
        return self._checked(parts[: len(_OUTPUTS)]), seen

    def _checked(self, outputs: Sequence[NDArray[Any]]) -> Completion:
        """The completion of the first outputs of the graph.

        Raises:
            ValueError: no quote lies inside the domain of the grid, or no finite surface goes with the quotes.
        """
        surface, std, z, fitted, fitted_std, misfit, p_value, used = outputs
        if not used.any():
            tenors, nodes = self.grid.tenors, self.grid.nodes
            raise ValueError(
                f"no quote is within reach of the grid: tenors {tenors[0]:.4g} to {tenors[-1]:.4g} years, nodes "
                f"{nodes[0]:g} to {nodes[-1]:g} ({self.grid.convention})"
            )
        if not (np.isfinite(surface).all() and np.isfinite(std).all()):
            raise ValueError("iv or weight of quotes is too large or too small: no finite surface goes with it")
        return Completion(
            surface,
            std,
            z,
            fitted,
            fitted_std,
            float(misfit[0]),
            float(p_value[0]),
            used,
            noise=self.learned_noise,
            wild=np.zeros(used.shape, np.bool_),
        )
