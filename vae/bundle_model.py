"""The base of the models of surfaces and of vectors: sessions of a bundle, decoding, encoding and scoring."""

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae import bundle, runtime_inputs
from vae.bundle import BundleError, Layout
from vae.observation_noise import ObservationNoise
from vae.runtime_inputs import Array, SampleRequest, slices
from vae.sessions import Graph, Provider, SessionOptions

Shapes = Mapping[str, tuple[int, ...]]
Signature = tuple[Shapes, Shapes]  # inputs and outputs of a graph by name, with the shape of a row

_STEP = 512  # rows per call of a graph: its intermediate results stay in the processor's cache
_DRAWN = 2048  # rows per call of the sampler, which has some hundred operators of few numbers
_SCORED = 256  # rows per call of the scorer, which holds the derivatives of all their points
ODD_PERCENTILE = 99.5  # beyond which a surface or vector is odd
_LARGEST = 1_000_000  # number in a manifest
_FEW = 16  # rows up to which a new array costs less than binding one


class Posterior(NamedTuple):
    """Mean and standard deviation of the latents given surfaces or vectors, both [batch, latent]."""

    mean: Array
    std: Array


class Scores(NamedTuple):
    """How likely, well fitted and common surfaces or vectors are under the model.

    Percentiles rank among held-out surfaces or vectors, [batch]; they are NaN for one that has fewer known points than
    all of these, and for no other. One so far outside that its score leaves the range of floating point has no
    likelihood, nats of minus infinity, an infinite misfit, distance and errors, and so the oddest rank.

    Attributes:
        nats: log density of the known points by Laplace's approximation, [batch]; of vectors in double precision.
        percentile: percentage of held-out ones with fewer nats per point.
        misfit: chi-square of the errors of the points about the nearest surface of the model, [batch].
        misfit_percentile: percentage of held-out ones that fit better. Near 0 a surface is smoother than quotes are,
            near 100 it is no surface of the model.
        distance: squared length of the latents of that nearest surface, [batch].
        distance_percentile: percentage of held-out ones that are more common.
        error: of each point given all the others, in its standard deviations, [batch, tenor, node] or [batch, D]; 0 at
            a missing point.
        error_percentile: percentage of held-out ones whose largest error is smaller.
    """

    nats: NDArray[np.floating]
    percentile: NDArray[np.float64]
    misfit: NDArray[np.floating]
    misfit_percentile: NDArray[np.float64]
    distance: NDArray[np.floating]
    distance_percentile: NDArray[np.float64]
    error: NDArray[np.floating]
    error_percentile: NDArray[np.float64]

    @property
    def oddest(self) -> NDArray[np.intp]:
        """The place of the largest error of each, [batch, axis]: of tenor and node, or of the point."""
        flat = np.abs(self.error).reshape(len(self.error), -1).argmax(1)
        return np.stack(np.unravel_index(flat, self.error.shape[1:]), axis=1)

    @property
    def largest_error(self) -> NDArray[np.floating]:
        """The error at that place, [batch]."""
        found: NDArray[np.floating] = self.error[(np.arange(len(self.error)), *self.oddest.T)]
        return found

    @property
    def odd(self) -> NDArray[np.bool_]:
        """Whether one is beyond 99.5 % of the held-out ones in any way, [batch]; False for one without percentiles.

        It fits worse, or better, which has less noise than quotes, is less common, or has a larger error at a point.
        """
        high = np.maximum(np.maximum(self.misfit_percentile, self.distance_percentile), self.error_percentile)
        found: NDArray[np.bool_] = (high > ODD_PERCENTILE) | (self.misfit_percentile < 100.0 - ODD_PERCENTILE)
        return found


class BundleModel:
    """A trained model of surfaces or vectors. Threads and forked processes may share one.

    Attributes:
        layout: what the graphs read and write.
        latents: number of latents.
        manifest: the bundle's manifest.
        block: rows of a block, for results that are larger than memory.
    """

    kind: ClassVar[str]
    block = 4096
    _nats: ClassVar[type[np.floating]] = np.float32

    def __init__(
        self,
        contents: Mapping[str, bytes],
        manifest: dict[str, Any],
        options: SessionOptions,
        *,
        layout: Layout,
        drawn: tuple[str, ...],
        completer: Signature,
    ) -> None:
        """Open the graphs.

        Args:
            contents: of the files by name.
            manifest: of the bundle.
            options: of the sessions.
            layout: what the graphs read and write.
            drawn: inputs of the sampler that not every bundle has.
            completer: inputs and outputs of the completer.
        """
        self.manifest, self.layout = manifest, layout
        self.latents = _at_least("latents", manifest["latents"], 1)
        self.residual_factors = _at_least("residual_factors", manifest["residual_factors"], 0)
        self._reads_missing = bool(manifest["reads_missing"])
        self._noise = ObservationNoise.of(manifest, layout.shape)
        sampled: dict[str, tuple[int, ...]] = {"scores": (self.residual_factors,)} if self.residual_factors else {}
        sampled |= {"noise": layout.shape} if self._noise.of_latents else {}
        signatures = _signatures(layout, self.latents, sampled, drawn, reads_missing=self._reads_missing)
        signatures[bundle.COMPLETER] = completer
        self._graphs = {
            name: Graph(name, content, options, inputs=signatures[name][0], outputs=signatures[name][1])
            for name, content in contents.items()
        }
        self._decoder = self._graphs[bundle.HALF_DECODER if bundle.HALF_DECODER in contents else bundle.DECODER]
        scores = manifest["scores"]
        self._score_quantiles = {name: _quantiles(name, scores[name]) for name in bundle.SCORES}
        self._fewest_points = _at_least("fewest_points", scores["fewest_points"], 1)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        provider: Provider = "auto",
        threads: int = 0,
        tf32: bool = False,
        half: bool = False,
        check_signature: bool = True,
    ) -> Self:
        """Read a bundle and check each file against the manifest, and against its signature if a key is set.

        Args:
            folder: of the bundle that the export stage wrote.
            provider: ``cpu``, ``cuda``, ``tensorrt``, or ``auto`` for CUDA where this onnxruntime has it.
            threads: of one call on the CPU; 0 for one a core.
            tf32: whether CUDA may round products to ten bits, which moves vols by 1e-3.
            half: decode in half precision, where the bundle has such a decoder.
            check_signature: whether the bundle must be signed where the environment variable ``VOLVAE_VERIFY_KEY``
                names a public key; False for a bundle that the caller made.

        Raises:
            BundleError: the folder, its manifest or one of its files is missing, altered or of another format, or the
                bundle is of the other kind or not signed by the key that is set.
            ValueError: a provider that is unknown or that this onnxruntime lacks, or a negative number of threads.
        """
        options = SessionOptions(provider, threads, tf32)
        options.check()
        names = [*bundle.GRAPHS, *([bundle.HALF_DECODER] if half else [])]
        whole = bundle.read_whole(
            Path(folder), names, optional=(bundle.SCENARIOS,), kind=cls.kind, check_signature=check_signature
        )
        return cls.of_content(Path(folder), *whole, options)

    @classmethod
    def of_content(
        cls, folder: Path, manifest: dict[str, Any], contents: Mapping[str, bytes], options: SessionOptions
    ) -> Self:
        """The model of a bundle that was read and checked by ``bundle.read_whole``.

        Raises:
            BundleError: the manifest of the folder has other values than a bundle's, or a graph cannot be run.
        """
        try:
            model = cls(contents, manifest, options)  # type: ignore[call-arg]  # a subclass knows the rest
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise BundleError(f"{folder / bundle.MANIFEST} is not the manifest of a bundle: {error!r}") from error
        model._decoder.session  # noqa: B018 - start it now: a bundle that cannot run fails here
        return model

    def start(self, *, side_by_side: bool = True) -> None:
        """Start the sessions of all graphs now; each would start at its first call.

        Args:
            side_by_side: on several cores, or one after the other, which leaves the cores to others.

        Raises:
            BundleError: onnxruntime cannot load a graph, or the graph has other inputs or outputs than the bundle's.
        """
        count = len(self._graphs) if side_by_side else 1
        with ThreadPoolExecutor(count) as pool:  # onnxruntime does not hold the interpreter meanwhile
            list(pool.map(lambda graph: graph.session, self._graphs.values()))

    def checked(self, check: Callable[[], object]) -> Self:
        """The same model, which calls ``check`` before each call of a graph; what that raises ends a long request."""
        twin = copy.copy(self)
        graphs = {name: graph.checked(check) for name, graph in self._graphs.items()}
        vars(twin).update(_graphs=graphs, _decoder=graphs[self._decoder.name])
        return twin

    @property
    def provider(self) -> str:
        """The onnxruntime provider that runs the decoder."""
        return self._decoder.provider

    def decode(self, z: ArrayLike, *, out: Array | None = None) -> Array:
        """Surfaces iv [batch, tenor, node] or vectors x [batch, D] of latents z [batch, latent].

        Args:
            z: latents.
            out: a contiguous float32 array of the result's shape, which is filled and returned. Memory that is used
                again saves a tenth of the time of large batches, as the operating system clears new pages.

        Raises:
            ValueError: another shape, type or order.
        """
        latents = runtime_inputs.latents_batch(z, self.latents)
        if out is None and len(latents) == 1:
            return self._decoder.run_row(latents)
        tensor = self.layout.tensor
        if out is None and len(latents) <= _FEW:
            return self._decoder.run({"z": latents}, (tensor,))[0]
        shape = (len(latents), *self.layout.shape)
        found = np.empty(shape, np.float32) if out is None else runtime_inputs.writable("out", out, shape)
        for rows in slices(len(latents), _STEP):
            self._decoder.run_into({"z": latents[rows]}, {tensor: found[rows]})
        return found

    def _encoded(self, data: Array) -> Posterior:
        mean, std = np.empty((2, len(data), self.latents), np.float32)
        for rows in slices(len(data), _STEP):
            self._graphs[bundle.ENCODER].run_into(self._feeds(data[rows]), {"mean": mean[rows], "std": std[rows]})
        return Posterior(mean, std)

    def _posterior(self, data: Array) -> Posterior:
        """The posterior of each row.

        Raises:
            ValueError: one is not finite, as the row is too far from what the encoder learned.
        """
        found = self._encoded(data)
        wrong = ~(np.isfinite(found.mean) & np.isfinite(found.std)).all(1)
        if wrong.any():
            row = int(wrong.argmax())
            place = np.unravel_index(np.nanargmax(np.abs(data[row])), data[row].shape)
            raise ValueError(
                f"row {row} of {self.layout.tensor} is too far from what the model learned: no finite posterior goes "
                f"with it; its largest number is {data[row][place]:g}, at index {', '.join(map(str, place))}"
            )
        return found

    def _scored(self, data: Array) -> Scores:
        nats, misfit, distance = np.empty((3, len(data)), self._nats)
        error = np.empty(data.shape, self._nats)
        found = {"nats": nats, "misfit": misfit, "distance": distance, "error": error}
        for rows in slices(len(data), _SCORED):
            own = {name: part[rows] for name, part in found.items()}
            self._graphs[bundle.SCORER].run_into(self._feeds(data[rows]), own)
        for part, oddest in ((nats, -np.inf), (misfit, np.inf), (distance, np.inf), (error, np.inf)):
            part[np.isnan(part)] = oddest  # what overflowed: nothing is odder
        error[np.isnan(data)] = 0.0
        points = np.isfinite(data).reshape(len(data), -1).sum(1)
        ranks = {
            name: np.where(
                points >= self._fewest_points,
                100.0 * np.interp(measured, self._score_quantiles[name], bundle.QUANTILES),
                np.nan,
            )
            for name, measured in bundle.measured(nats, misfit, distance, error, points).items()
        }
        return Scores(
            nats, ranks["nats_a_point"], misfit, ranks["misfit_a_point"], distance, ranks["distance"], error,
            ranks["largest_error"],
        )  # fmt: skip

    def _feeds(self, data: Array) -> dict[str, NDArray[Any]]:
        return runtime_inputs.data_feeds(self.layout.tensor, data, reads_missing=self._reads_missing)

    def _sampled(self, request: SampleRequest) -> Array:
        found = np.empty((request.count, *self.layout.shape), np.float32)
        self._run_sampler(request, {self.layout.tensor: found})
        return found

    def drawn(self, request: SampleRequest) -> tuple[Array, Array, Array]:
        """Surfaces or vectors, their latents [batch, latent] and the scores of their residual, [batch, factor]."""
        found = np.empty((request.count, *self.layout.shape), np.float32)
        latents = np.empty((request.count, self.latents), np.float32)
        scores = np.empty((request.count, self.residual_factors), np.float32)
        own = {"scores": scores} if self.residual_factors else {}
        self._run_sampler(request, {self.layout.tensor: found, "z": latents, **own})
        return found, latents, scores

    def _run_sampler(self, request: SampleRequest, outputs: Mapping[str, Array]) -> None:
        """Write the outputs of the sampler, by name, into arrays with a row for each surface or vector."""
        for rows, part in request.parts(_DRAWN):
            own = {name: array[rows] for name, array in outputs.items()}
            if request.noise and self._noise.of_latents:
                own["noise"] = np.empty((rows.stop - rows.start, *self.layout.shape), np.float32)
            self._graphs[bundle.SAMPLER].run_into(part.feeds, own)
            if request.noise:
                self._noise.add(own[self.layout.tensor], request.seed, part.offset, own.get("noise"))


def _at_least(name: str, value: object, least: int) -> int:
    """A whole number of a manifest.

    Raises:
        ValueError: it is none, or too small or large.
    """
    if type(value) is not int or not least <= value <= _LARGEST:
        raise ValueError(f"{name} is {value!r}; allowed: {least} to {_LARGEST}")
    return value


def _quantiles(name: str, values: object) -> NDArray[np.float64]:
    """The quantiles of a score.

    Raises:
        ValueError: they are no finite numbers that grow, one for each of ``bundle.QUANTILES``.
    """
    found = np.array(values, np.float64)
    if found.shape != bundle.QUANTILES.shape or not np.isfinite(found).all() or (np.diff(found) < 0.0).any():
        raise ValueError(f"the quantiles of {name} are not {len(bundle.QUANTILES)} finite numbers that grow")
    return found


def _signatures(
    layout: Layout, latents: int, sampled: Shapes, drawn: tuple[str, ...], *, reads_missing: bool
) -> dict[str, Signature]:
    """Inputs and outputs of each graph but the completer by name; the first axis is free.

    ``drawn`` are inputs and ``sampled`` outputs of the sampler that not every bundle has.
    """
    z, made = {"z": (latents,)}, {layout.tensor: layout.shape}
    read: Shapes = made | ({"mask": layout.shape} if reads_missing else {})
    return {
        bundle.DECODER: (z, made),
        bundle.HALF_DECODER: (z, made),
        bundle.ENCODER: (read, {"mean": (latents,), "std": (latents,)}),
        bundle.SAMPLER: (
            dict.fromkeys(("key", "offset", "count", "temperature", "standard_normal", *drawn), ()),
            {**made, **z, **sampled},
        ),
        bundle.SCORER: (read, dict.fromkeys(("nats", "misfit", "distance"), ()) | {"error": layout.shape}),
    }
