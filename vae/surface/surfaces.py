"""Surfaces with their coordinates: as arrays or a table, and read anywhere on the grid."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.surface import interpolation
from vae.surface.grid import Grid

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Vols iv [surface, tenor, node] on a grid.

    Raises:
        ValueError: the shapes do not agree.
    """

    iv: NDArray[np.floating]
    grid: Grid

    def __post_init__(self) -> None:
        if self.iv.ndim != 3 or self.iv.shape[1:] != self.grid.shape:
            raise ValueError(
                f"iv has shape {self.iv.shape}; expected (surface, {self.grid.shape[0]}, {self.grid.shape[1]})"
            )

    def __len__(self) -> int:
        return len(self.iv)

    @property
    def tenors(self) -> Array:
        """Years, [tenor]."""
        return self.grid.tenors

    @property
    def log_moneyness(self) -> Array:
        """k = ln(K/F) of every point: [tenor, node], or [surface, tenor, node] on a grid in deltas."""
        return self.grid.log_moneyness_of(self.iv)

    def at(self, log_moneyness: ArrayLike, tenor: ArrayLike) -> Array:
        """Vols at k and tenors in years that broadcast to [point], [surface, point]; NaN where the grid does not reach.

        Total variance is a cubic spline along k and linear between tenors at equal k, so that reading between tenors
        adds no calendar arbitrage.
        """
        k, years = np.broadcast_arrays(np.atleast_1d(np.asarray(log_moneyness, float)), np.asarray(tenor, float))
        if k.ndim != 1:
            raise ValueError(f"log_moneyness and tenor broadcast to shape {k.shape}; allowed: one axis")
        smile = interpolation.smiles(self.iv, self.grid)
        found = np.full((len(self.iv), len(k)), np.nan)
        for one in np.unique(years):
            where = years == one
            found[:, where] = interpolation.total_variance(smile, self.tenors, float(one), k[where]) / one
        vols: Array = np.sqrt(found)
        return vols

    def to_pandas(self) -> "pd.DataFrame":
        """One row a point: surface, tenor_years, log_moneyness, iv. Needs pandas."""
        import pandas as pd  # noqa: PLC0415 - an application may do without

        surface, tenor, _ = np.indices(self.iv.shape)
        columns = {
            "surface": surface.ravel(),
            "tenor_years": self.tenors[tenor.ravel()],
            "log_moneyness": np.broadcast_to(self.log_moneyness, self.iv.shape).ravel(),
            "iv": self.iv.ravel(),
        }
        return pd.DataFrame(columns)
