"""Histories that laws of motion are fitted to."""

import numpy as np

from vae.dynamics.fit import History


def wild_history(*, with_price: bool, rank: int = 3, dates: int = 160) -> History:
    """A history in a basis of some directions of 4 points, whose volatility changes."""
    random = np.random.default_rng(11)
    basis = np.linalg.qr(random.standard_normal((4, rank)))[0]
    scale = np.exp(np.cumsum(0.1 * random.standard_normal((dates, 1)), axis=0))
    moves = 0.02 * scale * random.standard_t(4, (dates, rank + 1))
    days = np.cumsum(random.integers(1, 4, dates))
    path = np.cumsum(moves, axis=0)
    return History(path[:, :rank], days, basis, path[:, rank] if with_price else None)
