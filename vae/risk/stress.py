"""Stress of a surface and a book: moves of the spot and of the vols that somebody names, at once and without drawing.

The smile of a tenor is a function of k = ln(K/F), where F is the forward after the move of the spot. As the spot moves
either each strike keeps its vol (sticky strike) or each k, and so each delta (sticky delta). Shocks of the vols are
added to that. Beyond its nodes a smile keeps the vol of its end.

Reference: Derman (1999), "Regimes of volatility", for sticky strike and sticky delta.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.risk.book import Book, Underlying, valued, worth
from vae.surface import arbitrage
from vae.surface.arbitrage import PRICE_KINDS, Violations
from vae.surface.grid import Grid
from vae.surface.interpolation import Interpolation

Array = NDArray[np.float64]
Sticky = Literal["strike", "delta"]

TERM_TENOR = 0.25  # years, of which the shock of the term structure is stated
_ROUNDING = 1e-9  # of log-moneyness
_HALVINGS = 60  # of an interval of log-moneyness that holds a delta
_FAR = 10.0  # standard deviations from the forward, beyond which no delta of a grid lies


class Stress(NamedTuple):
    """The moves; vols are decimal, so that 0.05 is five points.

    Attributes:
        spot: of the underlying, relative: -0.1 is a fall of 10 %. Forwards move with it.
        level: of all vols.
        skew: of the vol one standard deviation below the forward, k = -(vol at the money) sqrt(tenor); others move in
            proportion to k, so that the vol one above falls by as much.
        term: of all vols of a tenor of three months; of other tenors in proportion to 1 / sqrt(tenor).
    """

    spot: float = 0.0
    level: float = 0.0
    skew: float = 0.0
    term: float = 0.0


class Stressed(NamedTuple):
    """A surface after a stress.

    Attributes:
        iv: vols, [tenor, node].
        beyond: whether a point has the vol of the end of a smile, as the surface did not reach it, [tenor, node].
    """

    iv: Array
    beyond: NDArray[np.bool_]

    def arbitrage(self, grid: Grid) -> Violations:
        """Violations of static arbitrage of the surface."""
        return arbitrage.violations(self.iv[None], grid)


class Lost(NamedTuple):
    """The effect of a stress on one unit of each position, both [position].

    Attributes:
        pnl: in units of the spot.
        beyond: whether an option has the vol of the end of its smile, as the surface does not reach its strike.
    """

    pnl: Array
    beyond: NDArray[np.bool_]


class Worst(NamedTuple):
    """The largest static arbitrage of a surface.

    Attributes:
        kind: of the spread: calendar, vertical or butterfly.
        profit: what it earns, in units of the forward.
        tenor: years.
        k: log-moneyness.
    """

    kind: str
    profit: float
    tenor: float
    k: float


def stressed(iv: NDArray[np.floating], grid: Grid, stress: Stress, sticky: Sticky) -> Stressed:
    """A surface iv [tenor, node] after a stress.

    Raises:
        ValueError: the spot falls by all of its value or more, or a vol would not be positive.

    >>> grid = Grid([0.25, 1.0], [-0.2, 0.0, 0.2])
    >>> flat = np.full(grid.shape, 0.2)
    >>> stressed(flat, grid, Stress(spot=-0.1, level=0.01, term=0.02), "strike").iv.round(4)
    array([[0.23, 0.23, 0.23],
           [0.22, 0.22, 0.22]])
    """
    smiles, shift = Interpolation(iv, grid), _shift(stress, sticky)
    vols, beyond = [], []
    for tenor in grid.tenors.tolist():
        k = _nodes(smiles, grid, stress, shift, tenor)
        vols.append(_vols(smiles, stress, shift, tenor, k))
        beyond.append(_beyond(smiles, tenor, k + shift))
    found = np.stack(vols)
    wrong = np.argwhere(~((found > 0.0) & (found < np.inf)))
    if len(wrong):
        tenor, node = wrong[0]
        raise ValueError(
            f"the stress takes the vol at {grid.tenors[tenor]:.4g} years and node {grid.nodes[node]:g} to "
            f"{found[tenor, node]:.4g}; allowed: above 0"
        )
    return Stressed(found, np.stack(beyond))


def lost(
    book: Book, underlying: Underlying, iv: NDArray[np.floating], grid: Grid, stress: Stress, sticky: Sticky
) -> Lost:
    """The P&L of a book under a stress.

    Each option is valued at the stressed vol of its own strike, wherever the nodes of the grid are.

    Args:
        book: the positions, which the surface encloses.
        underlying: today, with one spot.
        iv: the surface today, [tenor, node].
        grid: of the surface.
        stress: the moves.
        sticky: what keeps its vol as the spot moves.

    Raises:
        ValueError: the spot falls by all of its value or more, or the vol of an option would not be positive.
    """
    smiles, shift = Interpolation(iv, grid), _shift(stress, sticky)
    moved = underlying.after(np.array([math.log1p(stress.spot)]))
    after, beyond = np.broadcast_to(moved.spot, book.kind.shape).copy(), np.zeros(book.kind.shape, bool)
    for tenor in np.unique(book.tenor[book.is_option]).tolist():
        rows = book.is_option & (book.tenor == tenor)
        options = book.at(np.flatnonzero(rows))
        k = np.log(options.strike) - np.log(moved.forward(options.tenor)[0])
        vol = _vols(smiles, stress, shift, tenor, k)
        if not (positive := (vol > 0.0) & (vol < np.inf)).all():
            place = positive.argmin()
            raise ValueError(
                f"the stress takes the vol of the strike {options.strike[place]:g} at {tenor:.4g} years to "
                f"{vol[place]:.4g}; allowed: above 0"
            )
        after[rows] = worth(options, moved, vol**2 * tenor)[0]
        beyond[rows] = _beyond(smiles, tenor, k + shift)
    return Lost(after - valued(book, underlying, iv[None], grid).value[0], beyond)


def worst(found: Violations, grid: Grid) -> Worst | None:
    """The largest arbitrage of the first surface; None where the strikes of a grid in deltas do not even fall."""
    if not found.usable[0]:
        return None
    sizes = found.size[: len(PRICE_KINDS), 0]
    kind, tenor = np.unravel_index(sizes.argmax(), sizes.shape)
    place = float(found.k[kind, 0, tenor])
    return Worst(PRICE_KINDS[kind], float(sizes[kind, tenor]), float(grid.tenors[tenor]), place)


def _shift(stress: Stress, sticky: Sticky) -> float:
    """The shift from k, which counts from the forward after the move, to the k whose vol a strike keeps."""
    if not -1.0 < stress.spot < math.inf:
        raise ValueError(f"the stress moves the spot by {stress.spot:.4g}; allowed: above -1, all of its value")
    return math.log1p(stress.spot) if sticky == "strike" else 0.0


def _vols(smiles: Interpolation, stress: Stress, shift: float, tenor: float, k: Array) -> Array:
    """Stressed vols of a tenor at log-moneyness k, [point]."""
    money = _kept(smiles, tenor, np.array([shift]))[0]
    tilt = stress.skew * k / (money * math.sqrt(tenor))
    level = stress.level + stress.term * math.sqrt(TERM_TENOR / tenor)
    found: Array = _kept(smiles, tenor, k + shift) + level - tilt
    return found


def _kept(smiles: Interpolation, tenor: float, k: Array) -> Array:
    """Vols of a tenor before the stress at log-moneyness k; beyond the nodes those of the ends, [point]."""
    low, high = smiles.smile(tenor)[0][[0, -1]]
    found: Array = np.sqrt(smiles.total_variance(tenor, np.clip(k, low, high)) / tenor)
    return found


def _beyond(smiles: Interpolation, tenor: float, k: Array) -> NDArray[np.bool_]:
    """Whether log-moneyness k lies beyond the nodes of a tenor, [point]."""
    nodes = smiles.smile(tenor)[0]
    return np.asarray((k < nodes[0] - _ROUNDING) | (k > nodes[-1] + _ROUNDING))


def _nodes(smiles: Interpolation, grid: Grid, stress: Stress, shift: float, tenor: float) -> Array:
    """Log-moneyness of the nodes of a tenor after the stress, [node]; on a grid in deltas it depends on the vols."""
    if grid.convention != "delta":
        return grid.log_moneyness_at(tenor, np.empty(len(grid.nodes)))
    root = math.sqrt(tenor)
    reach = abs(shift) + _FAR * root * float(_vols(smiles, stress, shift, tenor, np.zeros(1))[0])
    low, high = np.full(len(grid.nodes), -reach), np.full(len(grid.nodes), reach)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        deviation = np.maximum(_vols(smiles, stress, shift, tenor, middle), 0.0) * root
        below = middle < deviation * (0.5 * deviation - grid.d1)  # where the delta of the strike is above the node's
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found: Array = 0.5 * (low + high)
    return found
