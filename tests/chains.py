"""Files of quotes made from a smooth surface that is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import norm

from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quotes
from pipeline.sources.quoted_surfaces import QuotedSurfaces
from vae.surface.grid import Grid

Array = NDArray[np.float64]
Table = dict[str, Any]

DAYS = (30, 91, 182)
GRID = Grid(np.array([45.0, 120.0]) / 365, np.array([-0.1, 0.0, 0.1]), "log_moneyness")
COLUMNS = {"date": "date", "days": "days", "strike": "strike", "spot": "spot", "type": "type", "iv": "iv"}
PRICES = {"date": "date", "days": "days", "strike": "strike", "type": "type", "price": "price"}


def smile(k: Array, level: float = 0.2) -> Array:
    """The vol at k = ln(K/F), the same at all tenors: a smooth smile without static arbitrage."""
    return level - 0.1 * k + 0.2 * k**2


def chain(spot: float = 100.0, level: float = 0.2, date: str = "2024-01-02", rate: float = 0.0, **more: Any) -> Table:
    """Calls and puts at 25 strikes of three expiries, and columns with one value for all rows."""
    days, strike, put = (x.ravel() for x in np.meshgrid(DAYS, spot * np.linspace(0.7, 1.3, 25), (0, 1), indexing="ij"))
    tenor = days / 365
    forward = spot * np.exp(rate * tenor)
    iv = smile(np.log(strike / forward), level)
    total = iv * np.sqrt(tenor)
    d1 = np.log(forward / strike) / total + 0.5 * total
    sign = 1.0 - 2.0 * put
    inside = sign * (forward * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - total)))
    values: Table = {"date": date, "spot": spot, "rate": rate, **more}
    return {
        "days": days, "strike": strike, "type": np.where(put, "put", "call"), "iv": iv,
        "price": np.exp(-rate * tenor) * inside, "forward": forward,
        **{name: np.full(len(days), value) for name, value in values.items()},
    }  # fmt: skip


def joined(*tables: Table) -> Table:
    """The rows of several tables with the same columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def read(
    folder: Path, table: Table, columns: dict[str, str] | None = None, grid: Grid = GRID, **settings: Any
) -> QuotedSurfaces:
    """The surfaces of a Parquet file with these rows."""
    path = folder / "q.parquet"
    pq.write_table(pa.table(table), path)
    block = {"path": str(path), "columns": columns or COLUMNS, **settings}
    return quotes.read(QuotesParams.model_validate(block), grid)


def reasons(surfaces: QuotedSurfaces) -> dict[str, int]:
    """The reasons of rejected rows."""
    return {reason: count for reason, count in surfaces.rejected.items() if count}


def errors_bp(surfaces: QuotedSurfaces, level: float = 0.2, grid: Grid = GRID) -> Array:
    """How far vols are from the surface that made them, largest of each surface, [surface]."""
    truth = smile(grid.log_moneyness, level)
    assert np.isfinite(surfaces.iv).all()
    return 1e4 * np.abs(surfaces.iv - truth).max(axis=(1, 2))
