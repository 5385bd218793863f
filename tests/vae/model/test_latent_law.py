import numpy as np
import pytest

from vae.model.latent_law import choose

EVEN = np.array([1.0, -1.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ([], 0),
        ([2.0 + EVEN], 1),
        ([0.3 + EVEN], 0),  # less than its standard error, 0.58
        ([-2.0 + EVEN], 0),
        ([2.0 + EVEN, 2.3 + EVEN], 2),  # compared with the choice so far, block by block
        ([2.0 + EVEN, 2.3 - EVEN], 1),
        ([0.3 + EVEN, 5.0 + EVEN], 2),
        ([np.array([1.0, 1.0, 1.0, -20.0])], 0),  # three good blocks and a bad one
    ],
)
def test_a_richer_law_must_earn_it(gains: list[np.ndarray], chosen: int) -> None:
    simplest = np.array([-7.0, -9.0, -6.0, -8.0])
    assert choose([simplest, *(simplest + gain for gain in gains)]) == chosen


def test_one_block_cannot_tell() -> None:
    assert choose([np.array([-7.0]), np.array([-1.0])]) == 0
