"""Load a bundle and sample, decode, encode, complete and score surfaces. Imports numpy and onnxruntime only.

>>> model = SurfaceModel.load("artifacts/bundle")
>>> surfaces = model.sample(1000, seed=7)
>>> surfaces.shape == (1000, *model.grid.shape)
True
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae import bundle, runtime_inputs
from vae.bundle import BundleError
from vae.runtime_inputs import QUOTE_COLUMNS, Array, SampleRequest, slices
from vae.sessions import Graph, Options, Provider
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces

__all__ = ["BundleError", "Completion", "Draws", "Posterior", "Provider", "Scores", "SurfaceModel", "Surfaces"]

Shapes = Mapping[str, tuple[int, ...]]

_STEP = 512  # surfaces per call of a graph: its intermediate results stay in the processor's cache
_SCORED = 256  # surfaces per call of the scorer, which holds the derivatives of all their points
_FEW = 16  # rows up to which a new array costs less than binding one


class Posterior(NamedTuple):
    """Mean and standard deviation of the latents given surfaces, both [batch, latent]."""

    mean: Array
    std: Array


class Draws(NamedTuple):
    """Surfaces [batch, tenor, node] and their latents [batch, latent]."""

    iv: Array
    latents: Array


class Scores(NamedTuple):
    """How likely surfaces are under the model.

    Attributes:
        nats: log density of the known points by Laplace's approximation, [batch].
        percentile: percentage of the training surfaces with fewer nats per point, [batch]; NaN for a surface that has
            fewer known points than every training surface.
    """

    nats: Array
    percentile: NDArray[np.float64]


class Completion(NamedTuple):
    """A surface given quotes.

    Attributes:
        iv: vols, [tenor, node].
        std: standard deviation of a quote at each point, with the noise of the data, [tenor, node].
        latents: the most probable latents, [latent].
        fitted: vols of the surface at the quotes, NaN for quotes that are not used, [quote].
        used: whether the quote lies inside the domain of the grid, [quote].
    """

    iv: Array
    std: Array
    latents: Array
    fitted: Array
    used: NDArray[np.bool_]


class SurfaceModel:
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

    block = 4096

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: Options) -> None:
        self.manifest = manifest
        self.grid = Grid.from_dict(manifest["grid"])
        self.latents = int(manifest["latents"])
        self.conditions = tuple(manifest["conditions"])
        self.markets = tuple(manifest.get("markets", ()))
        self.market_is_condition = bool(manifest.get("market_is_condition"))
        signatures = _signatures(
            self.grid.shape,
            self.latents,
            conditions=(("conditions",) if self.conditions else ()),
            market=(("market",) if self.market_is_condition else ()),
            reads_missing=manifest["reads_missing"],
        )
        self._graphs = {
            name: Graph(name, content, options, inputs=signatures[name][0], outputs=signatures[name][1])
            for name, content in contents.items()
        }
        self._decoder = self._graphs[bundle.HALF_DECODER if bundle.HALF_DECODER in contents else bundle.DECODER]
        scores = manifest["scores"]
        self._score_quantiles, self._fewest_points = np.array(scores["nats_a_point"]), scores["fewest_points"]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        provider: Provider = "auto",
        threads: int = 0,
        tf32: bool = False,
        half: bool = False,
    ) -> Self:
        """Read a bundle and check each file against the manifest.

        Args:
            folder: of the bundle that the export stage wrote.
            provider: ``cpu``, ``cuda``, ``tensorrt``, or ``auto`` for CUDA where this onnxruntime has it.
            threads: of one call on the CPU; 0 for one a core.
            tf32: whether CUDA may round products to ten bits, which moves vols by 1e-3.
            half: decode in half precision, where the bundle has such a decoder.

        Raises:
            BundleError: the folder, its manifest or one of its files is missing, altered or of another format.
            ValueError: a provider that is unknown or that this onnxruntime lacks, or a negative number of threads.
        """
        options = Options(provider, threads, tf32)
        options.check()
        folder = Path(folder)
        manifest = bundle.read_manifest(folder)
        names = [*bundle.GRAPHS, *([bundle.HALF_DECODER] if half else [])]
        contents = {name: bundle.read_content(folder / name, manifest) for name in names}
        try:
            model = cls(contents, manifest, options)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{folder / bundle.MANIFEST} is not the manifest of a bundle: {error!r}") from error
        model._decoder.session  # noqa: B018 - start it now: a bundle that cannot run fails here
        return model

    @property
    def provider(self) -> str:
        """The onnxruntime provider that runs the decoder."""
        return self._decoder.provider

    def sample(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        temperature: float = 1.0,
        offset: int = 0,
    ) -> Array:
        """n surfaces drawn from the prior, float32 [n, tenor, node]: decimal Black vols.

        Row i depends only on the seed and on offset + i. So a large request may be split over any number of machines.

        Args:
            n: number of surfaces.
            seed: 0 to 2^64 - 1; the same seed gives the same surfaces.
            conditions: values of some of ``self.conditions`` by name; the others stay free.
            market: one of ``self.markets``; all of them by their shares of the training surfaces by default.
            temperature: factor of the normal numbers within each component of the prior. With less than 1, surfaces
                are nearer to the mean of the component.
            offset: number of rows to skip.

        Raises:
            ValueError: a number is out of range, or the model does not have a condition or a market.
        """
        return self._sampled(self._request(n, seed, conditions, market, temperature, offset))

    def draw(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        temperature: float = 1.0,
        offset: int = 0,
    ) -> Draws:
        """The surfaces of ``sample`` and the latents that they are decoded from."""
        request = self._request(n, seed, conditions, market, temperature, offset)
        draws = Draws(np.empty((n, *self.grid.shape), np.float32), np.empty((n, self.latents), np.float32))
        self._run_sampler(request, {"iv": draws.iv, "z": draws.latents})
        return draws

    def sample_blocks(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        market: str | None = None,
        temperature: float = 1.0,
        offset: int = 0,
    ) -> Iterator[Array]:
        """The rows of ``sample`` in blocks of ``self.block``, for requests that are larger than memory."""
        for _, block in self._request(n, seed, conditions, market, temperature, offset).parts(self.block):
            yield self._sampled(block)

    def decode(self, z: ArrayLike, *, out: Array | None = None) -> Array:
        """Surfaces iv [batch, tenor, node] of latents z [batch, latent].

        Args:
            z: latents.
            out: a contiguous float32 array of the result's shape, which is filled and returned. Memory that is used
                again saves a tenth of the time of large batches, as the operating system clears new pages.

        Raises:
            ValueError: another shape, type or order.
        """
        latents = runtime_inputs.latents_batch(z, self.latents)
        if out is None and len(latents) <= _FEW:
            return self._decoder.run({"z": latents}, ("iv",))[0]
        shape = (len(latents), *self.grid.shape)
        surfaces = np.empty(shape, np.float32) if out is None else runtime_inputs.writable("out", out, shape)
        for rows in slices(len(latents), _STEP):
            self._decoder.run_into({"z": latents[rows]}, {"iv": surfaces[rows]})
        return surfaces

    def encode(self, iv: ArrayLike) -> Posterior:
        """Posterior of the latents given surfaces iv [batch, tenor, node]; missing points are NaN."""
        surfaces = self._checked(iv)
        mean, std = np.empty((2, len(surfaces), self.latents), np.float32)
        for rows in slices(len(surfaces), _STEP):
            self._graphs[bundle.ENCODER].run_into(self._feeds(surfaces[rows]), {"mean": mean[rows], "std": std[rows]})
        return Posterior(mean, std)

    def score(self, iv: ArrayLike) -> Scores:
        """How likely surfaces iv [batch, tenor, node] are under the model; missing points are NaN."""
        surfaces = self._checked(iv)
        nats = np.empty(len(surfaces), np.float32)
        for rows in slices(len(surfaces), _SCORED):
            self._graphs[bundle.SCORER].run_into(self._feeds(surfaces[rows]), {"nats": nats[rows]})
        points = np.isfinite(surfaces).sum((1, 2))
        percentile = 100.0 * np.interp(nats / points, self._score_quantiles, bundle.QUANTILES)
        return Scores(nats, np.where(points >= self._fewest_points, percentile, np.nan))

    def complete(
        self,
        iv: ArrayLike,
        *,
        tenor: ArrayLike | None = None,
        log_moneyness: ArrayLike | None = None,
        call_delta: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        market: str | None = None,
    ) -> Completion:
        """The complete surface from one quote or more.

        Args:
            iv: decimal vols of quotes, [quote]; or, without coordinates, a surface [tenor, node] on the grid whose
                missing points are NaN.
            tenor: years, [quote] or one number for all.
            log_moneyness: k = ln(K/F), [quote] or one number for all.
            call_delta: forward call delta N(d1), [quote] or one number for all, in place of ``log_moneyness``.
            weight: precision of each quote, in units of the precision of a point of the training data, [quote] or one
                number for all.
            market: one of ``self.markets``, whose surfaces are then the likely ones. Without it every market that the
                model could describe counts, also one that it was not trained on.

        Raises:
            ValueError: shapes do not agree, a number is out of range, no quote lies inside the domain of the grid, or
                the model does not have the market.
        """
        weights = 1.0 if weight is None else weight
        quotes = runtime_inputs.quote_feeds(self.grid, iv, tenor, log_moneyness, call_delta, weights)
        quotes |= self._market_feed(market)
        found = self._graphs[bundle.COMPLETER].run(quotes, ("surface", "std", "z", "fitted", "used"))
        completion = Completion(*found)
        if not completion.used.any():
            tenors, nodes = self.grid.tenors, self.grid.nodes
            raise ValueError(
                f"no quote is within reach of the grid: tenors {tenors[0]:.4g} to {tenors[-1]:.4g} years, nodes "
                f"{nodes[0]:g} to {nodes[-1]:g} ({self.grid.convention})"
            )
        if not (np.isfinite(completion.iv).all() and np.isfinite(completion.std).all()):
            raise ValueError("iv or weight of quotes is too large or too small: no finite surface goes with it")
        return completion._replace(fitted=np.where(completion.used, completion.fitted, np.float32(np.nan)))

    def surfaces(self, iv: ArrayLike) -> Surfaces:
        """Vols [batch, tenor, node] with their coordinates."""
        return Surfaces(np.asarray(iv), self.grid)

    def _request(
        self,
        n: int,
        seed: int,
        conditions: Mapping[str, float] | None,
        market: str | None,
        temperature: float,
        offset: int,
    ) -> SampleRequest:
        asked = self._market_feed(market)
        request = runtime_inputs.sample_request(n, seed, conditions or {}, temperature, offset, names=self.conditions)
        return replace(request, common=request.common | asked)

    def _market_feed(self, market: str | None) -> dict[str, NDArray[Any]]:
        return runtime_inputs.market_feed(market, self.markets, is_condition=self.market_is_condition)

    def _sampled(self, request: SampleRequest) -> Array:
        surfaces = np.empty((request.count, *self.grid.shape), np.float32)
        self._run_sampler(request, {"iv": surfaces})
        return surfaces

    def _run_sampler(self, request: SampleRequest, outputs: Mapping[str, Array]) -> None:
        """Write the outputs of the sampler, by name, into arrays with a row for each surface."""
        for rows, part in request.parts(_STEP):
            own = {name: array[rows] for name, array in outputs.items()}
            self._graphs[bundle.SAMPLER].run_into(part.feeds, own)

    def _checked(self, iv: ArrayLike) -> Array:
        return runtime_inputs.surface_batch(iv, self.grid.shape, reads_missing=self.manifest["reads_missing"])

    def _feeds(self, surfaces: Array) -> dict[str, NDArray[Any]]:
        return runtime_inputs.surface_feeds(surfaces, reads_missing=self.manifest["reads_missing"])


def _signatures(
    surface: tuple[int, int],
    latents: int,
    *,
    conditions: tuple[str, ...],
    market: tuple[str, ...],
    reads_missing: bool,
) -> dict[str, tuple[Shapes, Shapes]]:
    """Inputs and outputs of each graph by name, with the shape of a row; the first axis is free."""
    z, smile = (latents,), surface[1:]
    surfaces: Shapes = {"iv": surface, "mask": surface} if reads_missing else {"iv": surface}
    drawn = ("key", "offset", "count", "temperature", *conditions, *market)
    return {
        bundle.DECODER: ({"z": z}, {"iv": surface}),
        bundle.HALF_DECODER: ({"z": z}, {"iv": surface}),
        bundle.ENCODER: (surfaces, {"mean": z, "std": z}),
        bundle.SAMPLER: (dict.fromkeys(drawn, ()), {"iv": surface, "z": z}),
        bundle.COMPLETER: (
            dict.fromkeys((*QUOTE_COLUMNS, *market), ()),
            {"surface": smile, "std": smile, "z": (), "fitted": (), "used": ()},
        ),
        bundle.SCORER: (surfaces, {"nats": ()}),
    }
