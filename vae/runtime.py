"""Load a bundle and sample, decode, encode, complete and score surfaces: numpy and onnxruntime only.

>>> from vae.runtime import SurfaceModel
>>> model = SurfaceModel.load("artifacts/bundle")      # doctest: +SKIP
>>> model.sample(1000, seed=7).shape                   # doctest: +SKIP
(1000, 17, 41)
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae import bundle
from vae.bundle import BundleError
from vae.sessions import Graph, Options, Provider
from vae.surface.grid import Grid, log_moneyness_of_delta
from vae.surface.surfaces import Surfaces

__all__ = ["BundleError", "Completion", "Draws", "Posterior", "Provider", "Scores", "SurfaceModel", "Surfaces"]

Array = NDArray[np.float32]

_STEP = 512  # surfaces of a call of a graph: what it computes between stays in the processor's cache
_FEW = 16  # rows below which a new array costs less than binding one
_SCORED = 256  # surfaces scored at a time: the graph holds the derivatives of all their points
_IV = ("iv",)
_MOST_QUOTES = 20_000
_LARGEST_ROW = 2**50
_LARGEST = float(np.finfo(np.float32).max)
_HOTTEST = 100.0  # far beyond what any use has, and far below what makes vols infinite
_QUOTE_COLUMNS = ("log_moneyness", "tenor", "iv", "weight")


class Posterior(NamedTuple):
    """Mean and standard deviation of the latents given surfaces, both [batch, latent]."""

    mean: Array
    std: Array


class Draws(NamedTuple):
    """Surfaces [batch, tenor, node] and their latents [batch, latent]."""

    iv: Array
    latents: Array


class Scores(NamedTuple):
    """How likely surfaces are.

    Attributes:
        nats: log density of the known points, by Laplace's approximation, [batch].
        percentile: share of the training surfaces, in percent, that are less likely by point, [batch]; NaN for a
            surface with fewer points than any of them has.
    """

    nats: Array
    percentile: NDArray[np.float64]


class Completion(NamedTuple):
    """A surface given quotes.

    Attributes:
        iv: vols, [tenor, node].
        std: standard deviation of a quote at each point, the noise of the data included, [tenor, node].
        latents: the most probable ones, [latent].
        fitted: the surface's vols at the quotes, NaN where those are not used, [quote].
        used: whether the grid reaches a quote, [quote].
    """

    iv: Array
    std: Array
    latents: Array
    fitted: Array
    used: NDArray[np.bool_]


class SurfaceModel:
    """A trained generator of implied-volatility surfaces; any thread may call it, and any forked process.

    Attributes:
        grid: tenors and nodes of every surface.
        latents: size of z.
        conditions: names of what samples can be asked for.
        manifest: the bundle's description, as read.
        block: surfaces of each item of ``sample_blocks`` but the last.
    """

    block = 4096

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: Options) -> None:
        self.manifest = manifest
        self.grid = Grid.from_dict(manifest["grid"])
        self.latents = int(manifest["latents"])
        self.conditions = tuple(manifest["conditions"])
        surface, z = self.grid.shape, (self.latents,)
        masked = {"iv": surface, "mask": surface} if manifest["reads_missing"] else {"iv": surface}
        counted: dict[str, tuple[int, ...]] = {"key": (), "offset": (), "count": (), "temperature": ()}
        if self.conditions:
            counted["conditions"] = ()
        fitted: dict[str, tuple[int, ...]] = {
            "surface": surface[1:], "std": surface[1:], "z": (), "fitted": (), "used": (),
        }  # fmt: skip
        signatures: dict[str, tuple[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]]] = {
            bundle.DECODER: ({"z": z}, {"iv": surface}),
            bundle.HALF_DECODER: ({"z": z}, {"iv": surface}),
            bundle.ENCODER: (masked, {"mean": z, "std": z}),
            bundle.SAMPLER: (counted, {"iv": surface, "z": z}),
            bundle.COMPLETER: (dict.fromkeys(_QUOTE_COLUMNS, ()), fitted),
            bundle.SCORER: (masked, {"nats": ()}),
        }
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
        model._decoder.session  # noqa: B018 - what cannot run is said at once
        return model

    @property
    def provider(self) -> str:
        """The onnxruntime provider that really runs the decoder."""
        return self._decoder.provider

    def sample(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        temperature: float = 1.0,
        offset: int = 0,
    ) -> Array:
        """n surfaces drawn from the prior, float32 [n, tenor, node]: decimal Black vols.

        Row i depends on the seed and offset + i alone: a request may be cut in any way, over any number of machines.

        Args:
            n: how many.
            seed: the same gives the same surfaces.
            conditions: what the surfaces should have, some of ``self.conditions`` by name.
            temperature: factor of the random numbers within each component of the prior; less than 1 stays nearer to
                what is common.
            offset: rows to skip.

        Raises:
            ValueError: a number out of range, or a condition that the model does not know.
        """
        surfaces = np.empty((_count(n), *self.grid.shape), np.float32)
        for feeds, rows in self._requests(n, seed, conditions, temperature, offset):
            self._graphs[bundle.SAMPLER].run_into(feeds, {"iv": surfaces[rows]})
        return surfaces

    def draw(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        temperature: float = 1.0,
        offset: int = 0,
    ) -> Draws:
        """The surfaces of ``sample`` with the latents that they are decoded from."""
        draws = Draws(np.empty((_count(n), *self.grid.shape), np.float32), np.empty((n, self.latents), np.float32))
        for feeds, rows in self._requests(n, seed, conditions, temperature, offset):
            self._graphs[bundle.SAMPLER].run_into(feeds, {"iv": draws.iv[rows], "z": draws.latents[rows]})
        return draws

    def sample_blocks(
        self,
        n: int,
        *,
        seed: int,
        conditions: Mapping[str, float] | None = None,
        temperature: float = 1.0,
        offset: int = 0,
    ) -> Iterator[Array]:
        """The rows of ``sample`` a block at a time, for requests larger than memory."""
        for rows in _parts(_count(n), self.block):
            count, first = rows.stop - rows.start, offset + rows.start
            yield self.sample(count, seed=seed, conditions=conditions, temperature=temperature, offset=first)

    def decode(self, z: ArrayLike, *, out: Array | None = None) -> Array:
        """Surfaces iv [batch, tenor, node] of latents z [batch, latent].

        Args:
            z: latents.
            out: where to write them, a contiguous float32 array of that shape: memory used again spares the operating
                system from clearing new pages, a tenth of the time of large batches.

        Raises:
            ValueError: another shape, type or order.
        """
        latents = _batch("z", z, (self.latents,))
        if out is None and len(latents) <= _FEW:
            return self._decoder.run({"z": latents}, _IV)[0]
        shape = (len(latents), *self.grid.shape)
        surfaces = np.empty(shape, np.float32) if out is None else _writable("out", out, shape)
        for rows in _parts(len(latents)):
            self._decoder.run_into({"z": latents[rows]}, {"iv": surfaces[rows]})
        return surfaces

    def encode(self, iv: ArrayLike) -> Posterior:
        """Posterior of the latents given surfaces iv [batch, tenor, node]; missing points are NaN."""
        surfaces = self._surfaces(iv)
        mean, std = np.empty((2, len(surfaces), self.latents), np.float32)
        for rows in _parts(len(surfaces)):
            self._graphs[bundle.ENCODER].run_into(self._masked(surfaces[rows]), {"mean": mean[rows], "std": std[rows]})
        return Posterior(mean, std)

    def score(self, iv: ArrayLike) -> Scores:
        """How likely surfaces iv [batch, tenor, node] are; missing points are NaN."""
        surfaces = self._surfaces(iv)
        nats = np.empty(len(surfaces), np.float32)
        for rows in _parts(len(surfaces), _SCORED):
            self._graphs[bundle.SCORER].run_into(self._masked(surfaces[rows]), {"nats": nats[rows]})
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
    ) -> Completion:
        """The whole surface from one quote, a few, or a chain.

        Args:
            iv: decimal vols of quotes, [quote]; or a surface [tenor, node] on the grid whose missing points are NaN,
                which needs no coordinates.
            tenor: years, [quote] or one for all.
            log_moneyness: k = ln(K/F), [quote] or one for all; or else
            call_delta: forward call delta N(d1) of each quote.
            weight: precision of each quote in units of that of a point of the data, [quote] or one for all.

        Raises:
            ValueError: shapes that do not agree, numbers out of range, or no quote that the grid reaches.
        """
        quotes = self._quotes(iv, tenor, log_moneyness, call_delta, 1.0 if weight is None else weight)
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

    def _requests(
        self, n: int, seed: int, conditions: Mapping[str, float] | None, temperature: float, offset: int
    ) -> Iterator[tuple[dict[str, NDArray[Any]], slice]]:
        """What the sampler is fed with for each block of rows."""
        if not 0 <= offset <= _LARGEST_ROW - _count(n):
            raise ValueError(f"offset is {offset}; allowed: 0 to 2^50 less the number of surfaces")
        if not 0.0 <= temperature <= _HOTTEST:
            raise ValueError(f"temperature is {temperature}; allowed: 0 to {_HOTTEST:g}")
        asked = self._asked(conditions or {})
        feeds: dict[str, NDArray[Any]] = {
            "key": np.array([_seed(seed)], np.uint64),
            "temperature": np.array([temperature], np.float32),
            **({"conditions": asked} if self.conditions else {}),
        }
        for rows in _parts(n):
            place = {"offset": np.array([offset + rows.start]), "count": np.array([rows.stop - rows.start])}
            yield {**feeds, **place}, rows

    def _asked(self, conditions: Mapping[str, float]) -> Array:
        """Requested values in the order of the conditions, NaN where any will do."""
        for name, value in conditions.items():
            if name not in self.conditions:
                raise ValueError(f"{name!r} is not a condition; allowed: {', '.join(self.conditions) or 'none'}")
            if not abs(value) <= _LARGEST:
                raise ValueError(f"the condition {name} is {value}; it must be finite in single precision")
        return np.array([conditions.get(name, np.nan) for name in self.conditions], np.float32)

    def _surfaces(self, iv: ArrayLike) -> Array:
        """Surfaces that graphs can read: positive where they are known."""
        surfaces = _shaped("iv", iv, self.grid.shape)
        known = ~np.isnan(surfaces)
        wrong = known & ~((surfaces > 0.0) & (surfaces < np.inf))
        if wrong.any():
            row = _first(wrong)
            raise ValueError(
                f"iv must be positive and finite where it is known, but row {row} holds {surfaces[wrong][0]:g}"
            )
        if not self.manifest["reads_missing"] and not known.all():
            raise ValueError(f"row {_first(~known)} of iv has missing points, which this model was not trained to read")
        empty = np.asarray(~known.any(axis=(1, 2), keepdims=True))
        if empty.any():
            raise ValueError(f"row {_first(empty)} of iv has no known point")
        return surfaces

    def _masked(self, surfaces: Array) -> dict[str, NDArray[Any]]:
        if not self.manifest["reads_missing"]:
            return {"iv": surfaces}
        known = ~np.isnan(surfaces)
        return {"iv": np.where(known, surfaces, np.float32(0.2)), "mask": known.astype(np.float32)}

    def _quotes(
        self,
        iv: ArrayLike,
        tenor: ArrayLike | None,
        log_moneyness: ArrayLike | None,
        call_delta: ArrayLike | None,
        weight: ArrayLike,
    ) -> dict[str, NDArray[Any]]:
        """The columns that the completer reads, each [quote]."""
        vols = np.asarray(iv, np.float64)
        if tenor is None and log_moneyness is None and call_delta is None:
            return self._points(vols, weight)
        if tenor is None or (log_moneyness is None) == (call_delta is None):
            raise ValueError("quotes need tenor and one of log_moneyness and call_delta")
        place = log_moneyness if call_delta is None else call_delta
        try:
            columns = np.broadcast_arrays(vols, *(np.asarray(part, np.float64) for part in (tenor, place, weight)))
        except ValueError as error:
            raise ValueError(f"iv, tenor, coordinates and weight differ in shape: {error}") from error
        vols, years, where, weights = (np.atleast_1d(column) for column in columns)
        for name, column in (("iv", vols), ("tenor", years), ("weight", weights)):
            if not ((column > 0.0) & (column < np.inf)).all():
                raise ValueError(f"{name} of quotes must be positive and finite")
        if call_delta is not None:
            if not ((where > 0.0) & (where < 1.0)).all():
                raise ValueError("call_delta of quotes must lie inside (0, 1)")
            where = log_moneyness_of_delta(where, vols * np.sqrt(years))
        if not np.isfinite(where).all():
            raise ValueError("log_moneyness of quotes must be finite")
        if vols.ndim != 1 or not 1 <= vols.size <= _MOST_QUOTES:
            raise ValueError(f"quotes have shape {vols.shape}; allowed: [quote], 1 to {_MOST_QUOTES:,} of them")
        values = (where, years, vols, weights)
        with np.errstate(over="ignore"):  # what single precision cannot hold is infinite, and beyond the grid
            return {name: value.astype(np.float32) for name, value in zip(_QUOTE_COLUMNS, values, strict=True)}

    def _points(self, iv: NDArray[np.float64], weight: ArrayLike) -> dict[str, NDArray[Any]]:
        """The known points of a surface as quotes."""
        if iv.shape != self.grid.shape:
            raise ValueError(f"iv has shape {iv.shape}; expected {self.grid.shape}, or quotes with their coordinates")
        known = np.isfinite(iv)
        years = np.broadcast_to(self.grid.tenors[:, None], iv.shape)[known]
        weights = np.broadcast_to(np.asarray(weight, np.float64), iv.shape)[known]
        k = np.broadcast_to(self.grid.log_moneyness_of(iv), iv.shape)[known]
        return self._quotes(iv[known], years, k, None, weights)


def _parts(count: int, size: int = _STEP) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _writable(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """The array, if surfaces can be written straight into it."""
    if array.shape != shape or array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError(
            f"{name} must be a writable, contiguous float32 array of shape {list(shape)}, not {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    return array


def _count(n: int) -> int:
    if not 1 <= n <= _LARGEST_ROW:
        raise ValueError(f"n is {n}; the number of surfaces must be between 1 and 2^50")
    return n


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; allowed: 0 to 2^64 - 1")
    return seed


def _shaped(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Values as single precision [batch, *shape] in one piece."""
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim != 1 + len(shape) or array.shape[1:] != shape or not len(array):
        raise ValueError(f"{name} has shape {array.shape}; expected (batch, {', '.join(map(str, shape))}), not empty")
    return array


def _batch(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = _shaped(name, values, shape)
    # That the sum of squares is finite tells so of all; where it is not, they are looked at one by one.
    if not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but row {_first(~np.isfinite(array))} is not")
    return array


def _first(wrong: NDArray[np.bool_]) -> int:
    """The first row that has one."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
