"""Random numbers of which a row depends on a seed and its number only, so that a request may be cut anywhere.

Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", for Philox.
"""

import numpy as np

from vae.dynamics.law import Array

_IN_A_BLOCK = 4  # numbers that Philox makes of one count
_STREAM = 2**64  # from the key of a stream to the next one's
_UNUSED_BITS, _STEP = 11, 2.0**-53


def uniform_rows(seed: int, stream: int, first: int, count: int, width: int) -> Array:
    """Uniform numbers on (0, 1), [count, width].

    Args:
        seed: 0 to 2^64 - 1.
        stream: numbers of different streams are independent.
        first: number of the first row.
        count: of rows.
        width: of a row.
    """
    blocks = -(-width // _IN_A_BLOCK)
    generator = np.random.Philox(key=seed + stream * _STREAM, counter=first * blocks)
    bits = generator.random_raw(count * blocks * _IN_A_BLOCK).reshape(count, -1)[:, :width]
    found: Array = ((bits >> _UNUSED_BITS).astype(np.float64) + 0.5) * _STEP
    return found
