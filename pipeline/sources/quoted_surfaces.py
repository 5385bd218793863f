"""Surfaces of a file of quotes, and what became of its rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.columns import Array
from pipeline.sources.quote_assumptions import Assumption
from pipeline.sources.quote_rows import Index


class QuotedSurfaces(NamedTuple):
    """Surfaces of a file of quotes, ordered by time, then market.

    Attributes:
        dates: days since 1970-01-01, int32 [surface].
        time: the same with the fraction of the day of the snapshot, float64 [surface].
        market: index into ``markets``, 0 without these, int64 [surface].
        markets: sorted names; none where the settings name no column of markets.
        iv: Black vols, NaN where no quote is within reach, float64 [surface, tenor, node].
        conditions: numbers of the surfaces by name, NaN where the file has none, float64 [surface].
        rejected: number of rows by reason, for all of ``quote_rows.REASONS``.
        rejected_rows: rows of the file, counted from 1, in order, with their reason.
        rows: of the file.
        tenors: the different ones of the used quotes, rising, years.
        repeated_smiles: how many smiles repeat all quotes of the time before, and how many there are.
        off_grid: dates of markets whose quotes reach no point of the grid; they have no surface.
        early_exercise: what reading american prices as European would add to each vol, float64 [american quote].
        assumed: of the quotes, as neither file nor settings say it.
    """

    dates: NDArray[np.int32]
    time: Array
    market: Index
    markets: tuple[str, ...]
    iv: Array
    conditions: dict[str, Array]
    rejected: dict[str, int]
    rejected_rows: list[tuple[int, str]]
    rows: int
    tenors: Array
    repeated_smiles: tuple[int, int]
    off_grid: int
    early_exercise: Array
    assumed: tuple[Assumption, ...] = ()
