"""The model of a bundle of vectors; ``vae.runtime`` loads it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vae import bundle, runtime_inputs
from vae.bundle import VECTORS, Layout
from vae.bundle_model import BundleModel, Posterior, Scores
from vae.runtime_inputs import Array, PriorName, SampleRequest
from vae.sessions import SessionOptions


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

    def __init__(self, contents: Mapping[str, bytes], manifest: dict[str, Any], options: SessionOptions) -> None:
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
            ValueError: another shape, numbers that the likelihood does not allow or the model does not read, or a
                vector so far from what it learned that no finite posterior goes with it.
        """
        return self._posterior(self._vectors(x, reads_missing=self._reads_missing))

    def reconstruct(self, x: ArrayLike) -> Array:
        """The vectors that the posterior means of vectors x [batch, D] are decoded to.

        Raises:
            ValueError: another shape, or numbers that the likelihood does not allow or the model does not read.
        """
        return self.decode(self._encoded(self._vectors(x, reads_missing=self._reads_missing)).mean)

    def score(self, x: ArrayLike) -> Scores:
        """How likely vectors x [batch, D] are; missing points are NaN.

        Raises:
            ValueError: another shape, or numbers that the likelihood does not allow or the model does not read.
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
        return runtime_inputs.sample_request(n, seed, {}, temperature, offset, prior, ranges={}, noise=noise)

    def _vectors(self, x: ArrayLike, *, reads_missing: bool) -> Array:
        return runtime_inputs.vector_batch(x, self.dimension, allowed=self._allowed, reads_missing=reads_missing)
