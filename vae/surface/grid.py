"""The grid of a surface, tenors x nodes, and the log-moneyness of each point."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.surface.normal import normal_quantile

Convention = Literal["log_moneyness", "sqrt_time", "delta"]
CONVENTIONS: tuple[str, ...] = get_args(Convention)


@dataclass(frozen=True, eq=False)
class Grid:
    """Points of an implied-volatility surface ``iv[tenor, node]``.

    Attributes:
        tenors: years (ACT/365), positive and increasing, [tenor].
        nodes: increasing, [node]; their meaning follows from ``convention``.
        convention: ``log_moneyness`` (nodes are k = ln(K/F), the same at each tenor), ``sqrt_time`` (k = node
            sqrt(tenor)) or ``delta`` (nodes are forward call deltas N(d1) inside (0, 1); k depends on the vols and
            falls along the axis).

    Raises:
        ValueError: an axis or the convention is not of this kind.

    >>> grid = Grid([0.25, 1.0], [-0.2, 0.0, 0.2])
    >>> grid.shape
    (2, 3)
    >>> grid.log_moneyness
    array([[-0.1,  0. ,  0.1],
           [-0.2,  0. ,  0.2]])
    """

    tenors: NDArray[np.float64]
    nodes: NDArray[np.float64]
    convention: Convention = "sqrt_time"

    def __post_init__(self) -> None:
        for name in ("tenors", "nodes"):
            object.__setattr__(self, name, _axis(name, getattr(self, name)))
        if self.tenors[0] <= 0.0:
            raise ValueError(f"tenors must be positive, but the first is {self.tenors[0]:g} years")
        if self.convention not in CONVENTIONS:
            raise ValueError(f"convention is {self.convention!r}; allowed: {', '.join(CONVENTIONS)}")
        if self.convention == "delta" and not (self.nodes[0] > 0.0 and self.nodes[-1] < 1.0):
            raise ValueError("nodes of the convention delta must lie inside (0, 1)")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of tenors and of nodes."""
        return len(self.tenors), len(self.nodes)

    @property
    def log_moneyness(self) -> NDArray[np.float64]:
        """k = ln(K/F) of each point, [tenor, node].

        Raises:
            ValueError: the nodes are deltas, whose k depends on the vols; ``log_moneyness_of`` takes these.
        """
        if self.convention == "delta":
            raise ValueError("the log-moneyness of a grid in deltas depends on the vols")
        return self.log_moneyness_of(np.empty(self.shape))

    def log_moneyness_of(self, iv: NDArray[np.floating]) -> NDArray[np.float64]:
        """k = ln(K/F) of each point of surfaces iv [*batch, tenor, node], in a shape that broadcasts with iv."""
        return self.log_moneyness_at(self.tenors[:, None], iv)

    def log_moneyness_at(self, tenor: ArrayLike, vol: NDArray[np.floating]) -> NDArray[np.float64]:
        """k = ln(K/F) of the nodes at tenors in years, which need not be those of the grid.

        Args:
            tenor: one number, or an array that broadcasts with ``vol``.
            vol: at the nodes, [*batch, node]; it matters on a grid in deltas only.
        """
        root = np.sqrt(np.asarray(tenor, np.float64))
        if self.convention == "delta":
            return log_moneyness_of_delta(self.nodes, vol * root)
        k: NDArray[np.float64] = (root if self.convention == "sqrt_time" else np.ones_like(root)) * self.nodes
        return k

    @property
    def d1(self) -> NDArray[np.float64]:
        """N^-1 of the nodes of a grid of call deltas, [node]."""
        return normal_quantile(self.nodes)

    def to_dict(self) -> dict[str, object]:
        """The grid as plain values for JSON."""
        return {
            "convention": self.convention,
            "tenors": self.tenors.tolist(),
            "nodes": self.nodes.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> Self:
        """The inverse of ``to_dict``."""
        return cls(**values)  # type: ignore[arg-type]


def log_moneyness_of_delta(delta: NDArray[np.float64], total_vol: NDArray[np.floating]) -> NDArray[np.float64]:
    """k = ln(K/F) of forward call deltas N(d1): k = s^2 / 2 - s N^-1(delta), where s is the total volatility.

    Args:
        delta: inside (0, 1), any shape that broadcasts with ``total_vol``.
        total_vol: vol sqrt(tenor), positive.

    Raises:
        ValueError: a delta is not inside (0, 1).

    >>> log_moneyness_of_delta(np.array([0.5]), np.array([0.2]))
    array([0.02])
    """
    k: NDArray[np.float64] = total_vol * (0.5 * total_vol - normal_quantile(delta))
    return k


def _axis(name: str, values: ArrayLike) -> NDArray[np.float64]:
    axis = np.array(values, dtype=np.float64)
    if axis.ndim != 1 or len(axis) < 2:
        raise ValueError(f"{name} must be a list of at least 2 numbers")
    if not np.isfinite(axis).all() or not (np.diff(axis) > 0.0).all():
        raise ValueError(f"{name} must be finite and increasing")
    axis.flags.writeable = False
    return axis
