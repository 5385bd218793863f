"""Load a bundle and sample, decode, encode, complete and score surfaces or vectors. Imports numpy and onnxruntime only.

>>> model = SurfaceModel.load("artifacts/bundle")
>>> surfaces = model.sample(1000, seed=7)
>>> surfaces.shape == (1000, *model.grid.shape)
True
"""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae import bundle, motion, motion_state, quote_noise, runtime_inputs
from vae.bundle import SURFACES, VECTORS, BundleError, Layout
from vae.bundle_model import ODD_PERCENTILE, BundleModel, Posterior, Scores
from vae.dynamics.memory import Belief, Quotes
from vae.motion import Motion, Scenarios, Seen
from vae.motion_state import State
from vae.quote_noise import Cause
from vae.runtime_inputs import QUOTE_COLUMNS, Array, PriorName, SampleRequest
from vae.sessions import Options, Provider
from vae.surface import plausible
from vae.surface.grid import Grid
from vae.surface.plausible import Interval
from vae.surface.surfaces import Surfaces
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR

__all__ = [
    "ODD_PERCENTILE",
    "BundleError",
    "Completion",
    "Draws",
    "Posterior",
    "PriorName",
    "Provider",
    "Scenarios",
    "Scores",
    "State",
    "SurfaceModel",
    "Surfaces",
    "VectorCompletion",
    "VectorDraws",
    "VectorModel",
    "load",
]


_OF_MEMORY = ("coordinates", "covariance", "quote_weights", "quote_precision")  # of a model with a law of motion
_OF_QUOTES = ("z", "fitted", "fitted_std", "misfit", "p_value", "used")  # outputs of the completer beside surfaces
_OF_COMPLETION = ("surface", "std", *_OF_QUOTES)


class Draws(NamedTuple):
    """Surfaces [batch, tenor, node] and their latents [batch, latent].

    A model with residual factors adds a draw of what the latents leave unexplained to the decoded latents.
    """

    iv: Array
    latents: Array


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
        noise: standard deviation of a quote, decimal vol: what the model learned or, where no weights are given and the
            quotes do not fit the model at that, the estimate.
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


class VectorDraws(NamedTuple):
    """Vectors [batch, D] and their latents [batch, latent]."""

    x: Array
    latents: Array


class VectorCompletion(NamedTuple):
    """Vectors given some of their points.

    Attributes:
        mean: of each point, or its probability, [batch, D].
        std: standard deviation of each point as it would be observed, its noise included, [batch, D].
        latents: the most probable latents, [batch, latent].
    """

    mean: Array
    std: Array
    latents: Array


class SurfaceModel(BundleModel):
    """A trained generator of implied-volatility surfaces. Threads and forked processes may share one.

    Attributes:
        grid: tenors and nodes of every surface.
        latents: number of latents.
        conditions: names of the conditioning variables.
        markets: names of the markets that the model was trained on; none where its data did not tell markets apart.
        market_is_condition: whether samples and completions can be asked for one of ``markets``.
        manifest: the bundle's manifest.
        block: surfaces in each item of ``sample_blocks``, except the last.

    >>> model = SurfaceModel.load("artifacts/bundle")
    >>> surfaces, latents = model.draw(3, seed=7)
    >>> bool(abs(model.decode(latents) - surfaces).max() < 1e-6)
    True
    >>> found = model.complete([0.2, 0.21], tenor=[0.1, 0.5], log_moneyness=0.0)
    >>> found.iv.shape == found.std.shape == model.grid.shape
    True
    """

    kind = SURFACES

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: Options) -> None:
        self.grid = Grid.from_dict(manifest["grid"])
        self.conditions = tuple(manifest["conditions"])
        self.markets = tuple(manifest.get("markets", ()))
        self.market_is_condition = bool(manifest.get("market_is_condition"))
        self._motion = (
            Motion(contents[bundle.SCENARIOS], manifest, options, self.grid) if bundle.SCENARIOS in contents else None
        )
        contents = {name: content for name, content in contents.items() if name != bundle.SCENARIOS}
        smile, market = self.grid.shape[1:], (("market",) if self.market_is_condition else ())
        rank, points = (len(self._motion.state.coordinates), math.prod(self.grid.shape)) if self._motion else (0, 0)
        remembered = dict(zip(_OF_MEMORY, ((), (rank,), (points,), ()), strict=True)) if self._motion else {}
        super().__init__(
            contents,
            manifest,
            options,
            layout=Layout.of_surfaces(self.grid.shape),
            drawn=(*(("conditions",) if self.conditions else ()), *market),
            completer=(
                dict.fromkeys((*QUOTE_COLUMNS, *market), ()),
                {"surface": smile, "std": smile} | dict.fromkeys(_OF_QUOTES, ()) | remembered,
            ),
        )

    def __repr__(self) -> str:
        """Sizes, names and processor of the model, in one line."""
        nodes, days = self.grid.nodes, DAYS_PER_YEAR * self.grid.tenors
        parts = [
            f"{len(days)} tenors from {days[0]:.0f} to {days[-1]:.0f} days x {len(nodes)} nodes "
            f"({self.grid.convention} {nodes[0]:g} to {nodes[-1]:g})",
            f"{self.latents} latents",
            *([f"conditions {', '.join(self.conditions)}"] if self.conditions else ()),
            *([f"markets {', '.join(self.markets)}"] if self.markets else ()),
            *(["with scenarios"] if self._motion is not None else ()),
        ]
        return f"<SurfaceModel: {'; '.join(parts)}; on {self.provider}>"

    @cached_property
    def _quote_noise(self) -> float:
        """Standard deviation of a quote of weight 1, decimal vol."""
        return float(self.manifest["observation_scale_vol"])

    @cached_property
    def plausible_medians(self) -> Interval:
        """The interval of medians of decimal vols. Quotes and surfaces outside are of another unit, and are refused."""
        return plausible.around(float(np.median(self.decode(np.zeros((1, self.latents))))))

    def sample(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        prior: PriorName = "fitted",
        temperature: float = 1.0,
        offset: int = 0,
        noise: bool = False,
    ) -> Array:
        """n surfaces drawn from a prior, float32 [n, tenor, node]: decimal Black vols.

        Row i depends only on the seed and on offset + i. So a large request may be split over any number of machines.

        Args:
            n: number of surfaces.
            seed: 0 to 2^64 - 1; the same seed gives the same surfaces.
            conditions: values of some of ``self.conditions`` by name; the others stay free.
            market: one of ``self.markets``; all of them by their shares of the training surfaces by default.
            prior: of the latents: ``fitted`` to the codes of the training surfaces, or ``standard_normal``, N(0, I),
                which the model was trained with; that has neither conditions nor markets.
            temperature: factor of the normal numbers that the latents are made from. With less than 1, surfaces are
                nearer to the most common ones; with a mixture, to the mean of a component.
            offset: number of rows to skip.
            noise: whether each point has the noise of a quote of weight 1, as training surfaces have it: draws of
                p(x | z) instead of its means.

        Raises:
            ValueError: a number is out of range, or the model or the prior does not have a condition or a market.
        """
        return self._sampled(self.request(n, seed, conditions, market, temperature, offset, prior, noise=noise))

    def draw(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        prior: PriorName = "fitted",
        temperature: float = 1.0,
        offset: int = 0,
        noise: bool = False,
    ) -> Draws:
        """The surfaces of ``sample`` and the latents that they are decoded from."""
        request = self.request(n, seed, conditions, market, temperature, offset, prior, noise=noise)
        return Draws(*self.drawn(request)[:2])

    def sample_blocks(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        prior: PriorName = "fitted",
        temperature: float = 1.0,
        offset: int = 0,
        noise: bool = False,
    ) -> Iterator[Array]:
        """The rows of ``sample`` in blocks of ``self.block``, for requests that are larger than memory."""
        request = self.request(n, seed, conditions, market, temperature, offset, prior, noise=noise)
        for _, block in request.parts(self.block):
            yield self._sampled(block)

    def complete(
        self,
        iv: ArrayLike,
        *,
        tenor: ArrayLike | None = None,
        log_moneyness: ArrayLike | None = None,
        call_delta: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        market: str | None = None,
        previous: State | None = None,
        elapsed: float = 1.0,
        log_return: float | None = None,
    ) -> Completion:
        """The complete surface from one quote or more.

        With a previous state the surface starts from what that implied for now, and the completion has the next state:
        so a stream of quotes is filtered. Where the past says less than the quotes by themselves, it does not count.

        Args:
            iv: decimal vols of quotes, [quote]; or, without coordinates, a surface [tenor, node] on the grid whose
                missing points are NaN; or a frame of pandas, polars or pyarrow with a row for each quote, whose columns
                are iv, tenor_years, log_moneyness or call_delta, and perhaps weight.
            tenor: years, [quote] or one number for all.
            log_moneyness: k = ln(K/F), [quote] or one number for all.
            call_delta: forward call delta N(d1), [quote] or one number for all, in place of ``log_moneyness``.
            weight: precision of each quote, in units of the precision of a point of the training data, [quote] or one
                number for all. By default 1; where the quotes do not fit the model with that, their noise is estimated
                from them.
            market: one of ``self.markets``, whose surfaces are then the likely ones. Without it every market that the
                model could describe counts, also one that it was not trained on.
            previous: what was known before, of a model with a law of motion: ``state``, ``next_state`` of a whole
                surface, or the state of an earlier completion. By default quotes are completed by themselves.
            elapsed: working days from ``previous`` to the quotes; parts of a day within a day.
            log_return: of the underlying on the last working day of that time, for a law that has a return; it may be
                left out.

        Raises:
            ValueError: shapes do not agree, a number is out of range, no quote lies inside the domain of the grid, the
                surface through the quotes cannot be, or the model does not have the market or no law of motion.
        """
        frame = runtime_inputs.quotes_of_frame(iv, (tenor, log_moneyness, call_delta, weight))
        if frame is not None:
            iv, tenor, log_moneyness, call_delta, weight = frame  # type: ignore[assignment]
        quotes = runtime_inputs.quote_feeds(
            self.grid,
            iv,
            tenor,
            log_moneyness,
            call_delta,
            1.0 if weight is None else weight,
            self.plausible_medians,
        )
        quotes |= self._market_feed(market)
        if previous is not None:
            found = self._completed_from(previous, quotes, elapsed, log_return, estimated=weight is None)
        else:
            found = self._completed(quotes)
            if found.p_value < quote_noise.LEAST_P:
                found = self._outside(quotes, found, estimated=weight is None)[0]
        self._check_completion(found)
        fitted, fitted_std = (
            np.where(found.used, part, np.float32(np.nan)) for part in (found.fitted, found.fitted_std)
        )
        return found._replace(fitted=fitted, fitted_std=fitted_std)

    def encode(self, iv: ArrayLike) -> Posterior:
        """Posterior of the latents given surfaces iv [batch, tenor, node]; missing points are NaN.

        A frame of pandas, polars or pyarrow with a row for each point is read too, in any order: its columns are those
        of ``Surfaces.to_pandas``, and its surfaces are ordered by their numbers.

        Raises:
            ValueError: another shape, or vols that cannot be or that the model was not trained to read.
        """
        return self._encoded(self._checked(iv))

    def score(self, iv: ArrayLike) -> Scores:
        """How likely surfaces iv [batch, tenor, node], or those of a frame, are; missing points are NaN.

        Raises:
            ValueError: as of ``encode``.
        """
        return self._scored(self._checked(iv))

    @property
    def state(self) -> State:
        """The state at the last date of the data that the bundle was made of.

        Raises:
            ValueError: the model has no law of motion.
        """
        return self._moving.state

    def next_state(
        self, iv: ArrayLike, date: dt.date, *, log_return: float | None = None, state: State | None = None
    ) -> State:
        """The state after one more date.

        Args:
            iv: the whole surface of the date, [tenor, node]; ``complete`` makes one of quotes.
            date: of the surface.
            log_return: of the underlying since the date of the state, for a law that has a return.
            state: before; that of the bundle by default.

        Raises:
            ValueError: the model has no law of motion, a vol is missing or cannot be, the return is missing or not
                wanted, or the date is not after that of the state.
        """
        moving = self._moving
        if moving.has_return != (log_return is not None):
            raise ValueError(
                f"log_return is {log_return}; allowed: "
                f"{'a number, as the law has the return of the underlying' if moving.has_return else 'None'}"
            )
        surface = self._checked(np.asarray(runtime_inputs.unmasked(iv))[None])[0]
        if np.isnan(surface).any():
            raise ValueError("iv has missing points; a state needs a whole surface, as complete makes of quotes")
        day = runtime_inputs.date_of(date)
        return moving.after(state or moving.state, surface, day, log_return or 0.0)

    def scenarios(
        self,
        state: State | None = None,
        days: int | Sequence[dt.date] = 1,
        n: int = 1000,
        *,
        seed: int,
        offset: int = 0,
        log_return: float | None = None,
    ) -> Scenarios:
        """n paths of surfaces and of the return of the underlying through the next dates.

        Path i depends only on the seed and on offset + i, so that a large request may be split.

        Args:
            state: where paths start; that of the bundle by default. ``next_state`` brings it to a newer date, and
                ``complete`` returns one whose surface is not known exactly: each path then draws its own.
            days: number of days from Monday to Friday; or the dates themselves, where holidays matter.
            n: number of paths.
            seed: 0 to 2^64 - 1; the same seed gives the same paths.
            offset: number of paths to skip.
            log_return: of the underlying over all of these days, if it is given: all paths then have it, and their
                surfaces are those that go with it; log(0.95) for a fall of 5 %. ``vae.dynamics.given_return`` has
                the law; ``effective_size`` says how much it rests on.

        Raises:
            ValueError: the model has no law of motion, a number or a date is out of range, or the return is one that
                the law can say nothing of.
        """
        moving = self._moving
        start = state or moving.state
        runtime_inputs.sample_request(n, seed, {}, 1.0, offset, "fitted", names=(), noise=False)
        if isinstance(days, Iterable):
            dates = tuple(map(runtime_inputs.date_of, days))
        else:
            most = motion.MOST_STEPS + 1  # one more is refused below, and takes no time to count
            dates = motion.working_days(start.date, min(runtime_inputs.whole("days", days), most))
        return moving.scenarios(start, dates, n, seed=seed, offset=offset, log_return=log_return)

    def checked(self, check: Callable[[], object]) -> Self:
        """The same model, which calls ``check`` before each call of a graph; what that raises ends a long request."""
        twin = super().checked(check)
        vars(twin).update(_motion=None if self._motion is None else self._motion.checked(check))
        return twin

    def state_to_plain(self, state: State) -> dict[str, Any]:
        """A state as plain values, which a file or a client keeps in JSON."""
        return motion_state.to_plain(state, self._weights)

    def state_of_plain(self, found: object) -> State:
        """The state that ``state_to_plain`` made plain values of.

        Raises:
            ValueError: the model has no law of motion, the state is of another model, or it is none.
        """
        return motion_state.of_plain(found, self._moving.state, self._weights)

    @property
    def _weights(self) -> str:
        return str(self.manifest["weights_sha256"])

    @property
    def _moving(self) -> Motion:
        if self._motion is None:
            raise ValueError("the model has no law of motion; one of dated data has it where train.dynamics is set")
        return self._motion

    def surfaces(self, iv: ArrayLike) -> Surfaces:
        """Vols [batch, tenor, node] with their coordinates."""
        return Surfaces(np.asarray(runtime_inputs.unmasked(iv)), self.grid)

    def request(
        self,
        n: int,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        temperature: float = 1.0,
        offset: int = 0,
        prior: PriorName = "fitted",
        *,
        noise: bool = False,
    ) -> SampleRequest:
        """The checked arguments of ``sample``, as the sampler reads them."""
        if market is not None and prior == "standard_normal":
            raise ValueError(f"the prior standard_normal has no markets, so it cannot be asked for {market!r}")
        asked = self._market_feed(market)
        request = runtime_inputs.sample_request(
            n, seed, conditions or {}, temperature, offset, prior, names=self.conditions, noise=noise
        )
        return replace(request, common=request.common | asked)

    def _completed(self, feeds: runtime_inputs.Feeds) -> Completion:
        """The completion from the graph.

        Raises:
            ValueError: no quote lies inside the domain of the grid, or no finite surface goes with the quotes.
        """
        return self._checked_completion(self._graphs[bundle.COMPLETER].run(feeds, _OF_COMPLETION))

    def _completed_and_seen(self, feeds: runtime_inputs.Feeds) -> tuple[Completion, Seen]:
        """The completion from the graph, and what it says for a law of motion.

        Raises:
            ValueError: as of ``_completed``.
        """
        parts = self._graphs[bundle.COMPLETER].run(feeds, (*_OF_COMPLETION, *_OF_MEMORY))
        found = self._checked_completion(parts[: len(_OF_COMPLETION)])
        coordinates, covariance, weights, precision = (part.astype(np.float64) for part in parts[len(_OF_COMPLETION) :])
        log_vol = np.log(feeds["iv"].astype(np.float64))
        return found, Seen(Belief(coordinates, covariance), Quotes(log_vol, precision, weights))

    def _checked_completion(self, parts: Sequence[NDArray[Any]]) -> Completion:
        surface, std, z, fitted, fitted_std, misfit, p_value, used = parts
        if not used.any():
            tenors, nodes = self.grid.tenors, self.grid.nodes
            raise ValueError(
                f"no quote is within reach of the grid: tenors {tenors[0]:.4g} to {tenors[-1]:.4g} years, nodes "
                f"{nodes[0]:g} to {nodes[-1]:g} ({self.grid.convention})"
            )
        if not (np.isfinite(surface).all() and np.isfinite(std).all()):
            raise ValueError("iv or weight of quotes is too large or too small: no finite surface goes with it")
        wild = np.zeros(used.shape, np.bool_)
        noise = self._quote_noise
        return Completion(surface, std, z, fitted, fitted_std, float(misfit[0]), float(p_value[0]), used, noise, wild)

    def _outside(
        self, feeds: runtime_inputs.Feeds, first: Completion, *, estimated: bool
    ) -> tuple[Completion, runtime_inputs.Feeds]:
        """The completion of quotes that do not fit at their weights, and the quotes with the weights that it took.

        Where the noise is to be estimated it is that which the quotes show; ``first`` is the completion with the noise
        that was learned.
        """
        if not estimated:
            return first._replace(cause="unknown", warning=quote_noise.MISFIT_OF_WEIGHTS), feeds
        iv, tenor, k = (feeds[name].astype(np.float64) for name in ("iv", "tenor", "log_moneyness"))
        quotes = quote_noise.Quotes(iv, tenor, k)

        def complete(weight: Array) -> Completion:
            return self._completed(feeds | {"weight": weight})

        noise = quote_noise.estimate(complete, quotes, self._quote_noise)
        found = complete(noise.weight)
        if noise.cause != "none":
            found = found._replace(misfit=first.misfit, p_value=first.p_value)
        if noise.cause in ("shape", "unknown"):
            found = found._replace(std=np.sqrt(found.std**2 + np.float32(noise.noise) ** 2))
        warning = quote_noise.warning(noise, quotes, self._quote_noise)
        found = found._replace(noise=noise.noise, wild=noise.wild, cause=noise.cause, warning=warning)
        return found, feeds | {"weight": noise.weight}

    def _completed_from(
        self, previous: State, feeds: runtime_inputs.Feeds, elapsed: float, log_return: float | None, *, estimated: bool
    ) -> Completion:
        """The completion from a previous state.

        Quotes that the forecast explains are taken at their weights, whatever the surfaces of the training data say.
        """
        moving = self._moving
        if log_return is not None and not (moving.has_return and math.isfinite(log_return)):
            allowed = "a finite number, or None" if moving.has_return else "None, as the law has no return"
            raise ValueError(f"log_return is {log_return}; allowed: {allowed}")
        since = math.nan if log_return is None else log_return
        found, seen = self._completed_and_seen(feeds)
        recalled = moving.recalled(previous, seen, seen.quotes, elapsed, since)
        state: State | None = recalled.state
        number = int(found.used.sum())
        if found.p_value < quote_noise.LEAST_P and not quote_noise.fits_forecast(recalled.misfit, number):
            found, weighed = self._outside(feeds, found, estimated=estimated)
            own = self._completed_and_seen(weighed)[1]
            noisy = found.cause == "noise"
            trusted = own.quotes if noisy else seen.quotes._replace(precision=seen.quotes.precision * ~found.wild)
            recalled = moving.recalled(previous, own, trusted, elapsed, since)
            state = recalled.state
            if not noisy:
                rows = found.used & ~found.wild
                error = (feeds["iv"] - recalled.fitted)[rows]
                more = quote_noise.unexplained(error, recalled.fitted_std[rows], self._quote_noise)
                recalled = recalled._replace(std=np.sqrt(recalled.std**2 + np.float32(more) ** 2))
                state = moving.doubted(previous, recalled.state, more)
                if more > 0.0:
                    worth = quote_noise.of_state(more, kept=state is not None)
                    found = found._replace(warning=f"{found.warning}; {worth}")
        iv = recalled.state.iv
        return found._replace(
            iv=iv,
            std=recalled.std,
            latents=self._encoded(iv[None]).mean[0],
            fitted=recalled.fitted,
            fitted_std=recalled.fitted_std,
            state=state,
        )

    def _check_completion(self, found: Completion) -> None:
        """Refuse a surface that cannot be: the quotes are far outside of what the model learned.

        Raises:
            ValueError: a vol is negative or absurd.
        """
        low, high = self.plausible_medians.each
        wrong = (found.iv < low) | (found.iv > high)
        if wrong.any():
            tenor, node = np.argwhere(wrong)[0]
            raise ValueError(
                f"the surface through these quotes has the vol {found.iv[tenor, node]:.4g} at "
                f"{self.grid.tenors[tenor]:.4g} years and node {self.grid.nodes[node]:g}, not {low:g} to {high:g}: "
                "the quotes are far outside of what the model learned; leave wrong ones out, or train on such a market"
            )

    def _market_feed(self, market: str | None) -> dict[str, NDArray[Any]]:
        return runtime_inputs.market_feed(market, self.markets, is_condition=self.market_is_condition)

    def _checked(self, iv: ArrayLike) -> Array:
        found = runtime_inputs.surfaces_of_frame(iv, self.grid)
        return runtime_inputs.surface_batch(
            iv if found is None else found, self.grid.shape, self.plausible_medians, reads_missing=self._reads_missing
        )


class VectorModel(BundleModel):
    """A trained generator of vectors. Threads and forked processes may share one.

    Vectors are float32 [batch, D], in the units of the training data. What is sampled, decoded or completed are the
    model's means: medians with ``transform: log``, probabilities with the likelihood ``bernoulli``.

    Attributes:
        layout: what the graphs read and write.
        dimension: number of points D of a vector.
        likelihood: of a point, ``gaussian`` or ``bernoulli``.
        latents: number of latents.
        manifest: the bundle's manifest.
        block: vectors in each item of ``sample_blocks``, except the last.
    """

    kind = VECTORS
    _nats = np.float64

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: Options) -> None:
        self.dimension, self.likelihood = int(manifest["dimension"]), str(manifest["likelihood"])
        self._allowed = runtime_inputs.allowed_points(self.likelihood, str(manifest["transform"]))
        super().__init__(
            contents,
            manifest,
            options,
            layout=Layout.of_vectors(self.dimension),
            drawn=(),
            completer=(dict.fromkeys(("x", "mask"), ()), dict.fromkeys(("mean", "std", "z"), ())),
        )

    def __repr__(self) -> str:
        """Sizes, names and processor of the model, in one line."""
        return f"<VectorModel: {self.dimension} {self.likelihood} points; {self.latents} latents; on {self.provider}>"

    def sample(
        self,
        n: int,
        *,
        seed: int,
        prior: PriorName = "fitted",
        temperature: float = 1.0,
        offset: int = 0,
        noise: bool = False,
    ) -> Array:
        """n vectors drawn from a prior, float32 [n, D]: the model's means, or observations with their noise.

        Row i depends only on the seed and on offset + i. So a large request may be split over any number of machines.

        Args:
            n: number of vectors.
            seed: 0 to 2^64 - 1; the same seed gives the same vectors.
            prior: of the latents: ``fitted`` or ``standard_normal``; see ``SurfaceModel.sample``.
            temperature: factor of the normal numbers that the latents are made from.
            offset: number of rows to skip.
            noise: whether the vectors are observations; binary points are then 0 or 1.

        Raises:
            ValueError: a number is out of range.
        """
        return self._sampled(self.request(n, seed, temperature, offset, prior, noise=noise))

    def draw(
        self,
        n: int,
        *,
        seed: int,
        prior: PriorName = "fitted",
        temperature: float = 1.0,
        offset: int = 0,
        noise: bool = False,
    ) -> VectorDraws:
        """The vectors of ``sample`` and the latents that they are decoded from."""
        return VectorDraws(*self.drawn(self.request(n, seed, temperature, offset, prior, noise=noise))[:2])

    def sample_blocks(
        self,
        n: int,
        *,
        seed: int,
        prior: PriorName = "fitted",
        temperature: float = 1.0,
        offset: int = 0,
        noise: bool = False,
    ) -> Iterator[Array]:
        """The rows of ``sample`` in blocks of ``self.block``, for requests that are larger than memory."""
        for _, block in self.request(n, seed, temperature, offset, prior, noise=noise).parts(self.block):
            yield self._sampled(block)

    def encode(self, x: ArrayLike) -> Posterior:
        """Posterior of the latents given vectors x [batch, D]; missing points are NaN.

        Raises:
            ValueError: another shape, or numbers that the likelihood does not allow or the model does not read.
        """
        return self._encoded(self._vectors(x, reads_missing=self._reads_missing))

    def score(self, x: ArrayLike) -> Scores:
        """How likely vectors x [batch, D] are; missing points are NaN.

        Raises:
            ValueError: as of ``encode``.
        """
        return self._scored(self._vectors(x, reads_missing=self._reads_missing))

    def complete(self, x: ArrayLike) -> VectorCompletion:
        """All points of vectors x [batch, D], of which some are known and the others NaN.

        Raises:
            ValueError: another shape, a number that the likelihood does not allow, or a vector without a known point.
        """
        vectors = self._vectors(x, reads_missing=True)
        found = VectorCompletion(
            *(np.empty((len(vectors), size), np.float32) for size in (self.dimension, self.dimension, self.latents))
        )
        for row, vector in enumerate(vectors):
            feeds = runtime_inputs.data_feeds("x", vector, reads_missing=True)
            parts = self._graphs[bundle.COMPLETER].run(feeds, ("mean", "std", "z"))
            for whole, part in zip(found, parts, strict=True):
                whole[row] = part
        if not all(np.isfinite(part).all() for part in found):
            raise ValueError("x is too large or too small: no finite vector goes with it")
        return found

    def request(
        self,
        n: int,
        seed: int,
        temperature: float = 1.0,
        offset: int = 0,
        prior: PriorName = "fitted",
        *,
        noise: bool = False,
    ) -> SampleRequest:
        """The checked arguments of ``sample``, as the sampler reads them."""
        return runtime_inputs.sample_request(n, seed, {}, temperature, offset, prior, names=(), noise=noise)

    def _vectors(self, x: ArrayLike, *, reads_missing: bool) -> Array:
        return runtime_inputs.vector_batch(x, self.dimension, allowed=self._allowed, reads_missing=reads_missing)


def load(
    folder: str | Path, *, provider: Provider = "auto", threads: int = 0, check_signature: bool = True
) -> SurfaceModel | VectorModel:
    """The model of a bundle of either kind; see ``BundleModel.load`` for the arguments.

    Raises:
        BundleError: the folder, its manifest or one of its files is missing, altered or of another format, or not
            signed by the key that is set.
        ValueError: a provider that is unknown or that this onnxruntime lacks, or a negative number of threads.
    """
    options, folder = Options(provider, threads), Path(folder)
    options.check()
    manifest, contents = bundle.read_whole(
        folder, bundle.GRAPHS, optional=(bundle.SCENARIOS,), check_signature=check_signature
    )
    kind = VectorModel if bundle.kind_of(manifest) == VECTORS else SurfaceModel
    return kind.of_content(folder, manifest, contents, options)
