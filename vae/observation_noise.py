"""Draws of observations given their means: the independent noise of p(x | z), which the graphs leave out.

A row of noise is a function of the seed and of the number of the row, as the samples are: each row takes as many words
of the counter-based generator Philox.

Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3"; Box, Muller (1958), "A note
on the generation of random normal deviates".
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_STREAM = 0x9E3779B97F4A7C15  # second word of Philox's key; the seed is the first
_WORDS = 4  # that Philox makes for each count


class ObservationNoise(NamedTuple):
    """The noise of surfaces or vectors given their means.

    Attributes:
        binary: whether points are 1 with the probability that is their mean.
        scale: standard deviation of each point, [tenor, node] or [D]; relative where the noise multiplies. None where
            it depends on the latents, so that the sampler gives it, and for binary points.
        multiplies: whether the noise is that of the logarithm.
    """

    binary: bool
    scale: NDArray[np.float64] | None
    multiplies: bool

    @classmethod
    def of(cls, manifest: Mapping[str, Any], shape: tuple[int, ...]) -> Self:
        """The noise that the manifest of a bundle states."""
        multiplies, stated = manifest["transform"] == "log", manifest["noise"]
        if stated is None:
            return cls(manifest.get("likelihood") == "bernoulli", None, multiplies)
        return cls(binary=False, scale=np.broadcast_to(stated, math.prod(shape)).reshape(shape), multiplies=multiplies)

    @property
    def of_latents(self) -> bool:
        """Whether the standard deviations depend on the latents."""
        return self.scale is None and not self.binary

    def add(self, means: Array, seed: int, first: int, scale: Array | None = None) -> None:
        """Turn means into observations, in place.

        Args:
            means: [row, ...].
            seed: of the rows.
            first: number of the first row.
            scale: standard deviations that depend on the latents, [row, ...].
        """
        size, own = math.prod(means.shape[1:]), self.scale if scale is None else scale
        if own is None:
            means[...] = _uniform(seed, first, len(means), size).reshape(means.shape) <= means
            return
        noise = own * _normal(seed, first, len(means), size).reshape(means.shape)
        if self.multiplies:
            means *= np.exp(noise).astype(np.float32)
        else:
            means += noise.astype(np.float32)


def _normal(seed: int, first: int, rows: int, size: int) -> NDArray[np.float64]:
    """Numbers of N(0, 1), [row, number]."""
    radius, angle = np.split(_uniform(seed, first, rows, size + size % 2), 2, axis=1)
    radius, angle = np.sqrt(-2.0 * np.log(radius)), 2.0 * math.pi * angle
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :size]


def _uniform(seed: int, first: int, rows: int, size: int) -> NDArray[np.float64]:
    """Uniform numbers on (0, 1), [row, number]."""
    counts = -(-size // _WORDS)
    low, high = (first * counts) % 2**64, (first * counts) // 2**64
    words = np.random.Philox(key=[seed, _STREAM], counter=[low, high, 0, 0]).random_raw(rows * counts * _WORDS)
    return ((words.reshape(rows, -1)[:, :size] >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
