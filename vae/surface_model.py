"""The model of a bundle of surfaces; ``vae.runtime`` loads it."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae import bundle, frames, motion, motion_state, quote_completion, runtime_inputs
from vae.bundle import SURFACES, Layout
from vae.bundle_model import BundleModel, Posterior, Scores
from vae.motion import Motion, Scenarios
from vae.motion_state import State
from vae.quote_completion import Completion, QuoteCompleter
from vae.runtime_inputs import Array, PriorName, SampleRequest
from vae.sessions import SessionOptions
from vae.surface import plausible
from vae.surface.grid import Grid
from vae.surface.plausible import Interval
from vae.surface.surfaces import Surfaces
from vae.surface.units import DAYS_PER_YEAR


class Draws(NamedTuple):
    """Surfaces [batch, tenor, node] and their latents [batch, latent].

    A model with residual factors adds a draw of what the latents leave unexplained to the decoded latents.
    """

    iv: Array
    latents: Array


class SurfaceModel(BundleModel):
    """A trained generator of implied-volatility surfaces. Threads and forked processes may share one.

    Attributes:
        grid: tenors and nodes of every surface.
        latents: number of latents.
        conditions: names of the conditioning variables.
        condition_ranges: least and largest value of each that samples can be asked for, by name: what the law makes
            likely, or any number in single precision where the bundle is older than these ranges.
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

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: SessionOptions) -> None:
        self.grid = Grid.from_dict(manifest["grid"])
        self.condition_ranges = runtime_inputs.condition_ranges(manifest)
        self.conditions = tuple(self.condition_ranges)
        self.markets = tuple(manifest.get("markets", ()))
        self.market_is_condition = bool(manifest.get("market_is_condition"))
        self._motion = (
            Motion(contents[bundle.SCENARIOS], manifest, options, self.grid) if bundle.SCENARIOS in contents else None
        )
        contents = {name: content for name, content in contents.items() if name != bundle.SCENARIOS}
        rank = len(self._motion.state.coordinates) if self._motion else None
        super().__init__(
            contents,
            manifest,
            options,
            layout=Layout.of_surfaces(self.grid.shape),
            drawn=(*(("conditions",) if self.conditions else ()), *(("market",) if self.market_is_condition else ())),
            completer=quote_completion.signature(self.grid, market=self.market_is_condition, rank=rank),
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
            conditions: values of some of ``self.conditions`` by name, within ``self.condition_ranges``; the others stay
                free.
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
        columns = frames.quotes_of(iv, (tenor, log_moneyness, call_delta, weight))
        if columns is not None:
            iv, tenor, log_moneyness, call_delta, weight = columns
        quotes = runtime_inputs.quote_feeds(
            self.grid,
            iv,
            tenor,
            log_moneyness,
            call_delta,
            1.0 if weight is None else weight,
            self.plausible_medians,
        )
        if weight is not None:
            runtime_inputs.check_weights(quotes, self._quote_noise)
        quotes |= self._market_feed(market)
        completer = QuoteCompleter(self._graphs[bundle.COMPLETER], self.grid, self._quote_noise)
        if previous is None:
            found = completer.complete(quotes, estimated=weight is None)
        else:
            found = completer.complete_from(
                previous, self._moving, quotes, elapsed, log_return, estimated=weight is None
            )
            found = found._replace(latents=self._encoded(found.iv[None]).mean[0])
        self._check_plausible(found)
        fitted, fitted_std = (
            np.where(found.used, part, np.float32(np.nan)) for part in (found.fitted, found.fitted_std)
        )
        return found._replace(fitted=fitted, fitted_std=fitted_std)

    def encode(self, iv: ArrayLike) -> Posterior:
        """Posterior of the latents given surfaces iv [batch, tenor, node]; missing points are NaN.

        A frame of pandas, polars or pyarrow with a row for each point is read too, in any order: its columns are those
        of ``Surfaces.to_pandas``, and its surfaces are ordered by their numbers.

        Raises:
            ValueError: another shape, vols that cannot be or that the model was not trained to read, or a surface so
                far from what it learned that no finite posterior goes with it.
        """
        return self._posterior(self._checked(iv))

    def reconstruct(self, iv: ArrayLike) -> Array:
        """The surfaces that the posterior means of surfaces iv [batch, tenor, node] are decoded to.

        Raises:
            ValueError: another shape, or vols that cannot be or that the model was not trained to read.
        """
        return self.decode(self._encoded(self._checked(iv)).mean)

    def score(self, iv: ArrayLike) -> Scores:
        """How likely surfaces iv [batch, tenor, node], or those of a frame, are; missing points are NaN.

        Raises:
            ValueError: another shape, or vols that cannot be or that the model was not trained to read.
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
        runtime_inputs.check_return(log_return, has_return=moving.has_return, needed=True)
        surface = self._checked(np.asarray(runtime_inputs.unmasked(iv))[None])[0]
        if np.isnan(surface).any():
            raise ValueError("iv has missing points; a state needs a whole surface, as complete makes of quotes")
        day = runtime_inputs.as_date(date)
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
        runtime_inputs.sample_request(n, seed, {}, 1.0, offset, "fitted", ranges={}, noise=False)
        if isinstance(days, Iterable):
            dates = tuple(map(runtime_inputs.as_date, days))
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
        return motion_state.to_plain(state, self._weights_sha256)

    def state_of_plain(self, found: object) -> State:
        """The state that ``state_to_plain`` made plain values of.

        Raises:
            ValueError: the model has no law of motion, the state is of another model, or it is none.
        """
        state = motion_state.of_plain(found, self._moving.state, self._weights_sha256)
        self._moving.check(state)
        return state

    @property
    def _weights_sha256(self) -> str:
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
            n, seed, conditions or {}, temperature, offset, prior, ranges=self.condition_ranges, noise=noise
        )
        return replace(request, common=request.common | asked)

    def _check_plausible(self, found: Completion) -> None:
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
        found = frames.surfaces_of(iv, self.grid)
        return runtime_inputs.surface_batch(
            iv if found is None else found, self.grid.shape, self.plausible_medians, reads_missing=self._reads_missing
        )
