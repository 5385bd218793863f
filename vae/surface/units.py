"""Units and conventions, each stated once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BASIS_POINTS = 1e4  # in 1: a vol of 0.2 is 2000 bp
DAYS_PER_YEAR = 365.0  # ACT/365
Z90 = 1.6448536269514727  # N^-1(0.95): a normal variable lies within 90 % of the time, in standard deviations


class Unit(NamedTuple):
    """The unit in which figures give a distance between points of the data.

    Attributes:
        name: in a text.
        per_one: how many of it make a distance of 1.
    """

    name: str
    per_one: float

    @property
    def suffix(self) -> str:
        """The end of the names of such figures."""
        return f"_{self.name}" if self.name else ""

    def text(self, distance: float) -> str:
        """A distance with the name of the unit, to four digits."""
        return f"{self.per_one * distance:.4g} {self.name}".rstrip()


VOL_BP = Unit("bp", BASIS_POINTS)
OWN = Unit("", 1.0)  # that of the data themselves, which volvae does not know


def rmse_bp(
    approximation: NDArray[np.float64], truth: NDArray[np.float64], axes: tuple[int, ...]
) -> NDArray[np.float64]:
    """Root mean square error over ``axes``, in basis points of vol, without the missing points (NaN).

    >>> round(rmse_bp(np.array([0.2001, 0.1999, np.nan]), np.full(3, 0.2), (0,)), 6)
    np.float64(1.0)
    """
    result: NDArray[np.float64] = BASIS_POINTS * np.sqrt(np.nanmean((approximation - truth) ** 2, axis=axes))
    return result
