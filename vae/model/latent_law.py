"""A law of the latents that can be drawn from and whose density is known, and the choice between fitted ones."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class LatentLaw(Protocol):
    """A distribution of latents z."""

    @property
    def dimension(self) -> int:
        """Number of latents."""

    def log_density(self, z: Array) -> Array:
        """log p(z) in nats, [*batch], of z [*batch, d]."""

    def sample(self, uniform: Array, normal: Array) -> Array:
        """Draws [batch, d] made from uniform numbers on [0, 1), [batch], and numbers of N(0, I), [batch, d]."""


def choose(held_out: Sequence[Array]) -> int:
    """The place of the law that ships, of laws in the order of their richness.

    A richer law must earn it: its held-out log density has to exceed that of the choice so far by more than a standard
    error of the difference. Few or contradictory blocks leave the simpler law.

    Args:
        held_out: mean log density of each law on the same independent blocks of held-out codes, [block].
    """
    chosen = 0
    for place in range(1, len(held_out)):
        gain = held_out[place] - held_out[chosen]
        if len(gain) > 1 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            chosen = place
    return chosen
