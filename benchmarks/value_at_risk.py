"""The value at risk of a book over a file of scenarios, beside Open Risk Engine's.

A law of motion that is made here draws the file, as ``volvae scenarios`` writes it. Open Risk Engine gets the vols of
the options in each scenario of the file, values them by its own Black formula, and states the value at risk by its
historical simulation. Reading a vol between the points of a surface is volvae's own in both: the engine's surfaces are
others.

The engine is none of the requirements: `pip install --no-deps --target ore open-source-risk-engine`, and then
`PYTHONPATH=ore:. python -m benchmarks.value_at_risk`.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import card
from benchmarks.risk import GRID, made_motion
from pipeline.errors import InputError
from pipeline.files.surface_tables import write_scenarios
from vae.motion import working_days
from vae.risk.book import CALL, PUT, Book, Underlying, valued
from vae.risk.measures import risk
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

_PATHS, _OPTIONS = 1000, 40
_LEVELS = (0.95, 0.975, 0.99)
_TODAY = Underlying(np.array([100.0]), rate=0.03, dividend_yield=0.01)


def main() -> None:
    """Print the figures."""
    card.show(results())


def results() -> dict[str, float]:
    """Values at risk by volvae and by Open Risk Engine, and how far they are apart as a share.

    Raises:
        InputError: the engine is not installed.
    """
    try:
        import ORE  # noqa: PLC0415 - none of the requirements
    except ImportError as error:
        raise InputError("Open Risk Engine is missing; benchmarks/value_at_risk.py says how to get it") from error
    motion, book = made_motion(), _book()
    date = working_days(motion.state.date, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenarios.parquet"
        write_scenarios(path, [motion.scenarios(motion.state, date, _PATHS, seed=7, offset=0)], GRID)
        table = pq.read_table(path)
    iv = table["iv"].to_numpy().reshape(_PATHS, *GRID.shape)
    moved = _TODAY.after(table["log_return"].to_numpy()[:: iv[0].size].astype(float))
    later = book.after((date[0] - motion.state.date).days / DAYS_PER_YEAR)
    before, after = valued(book, _TODAY, motion.state.iv[None], GRID), valued(later, moved, iv, GRID)
    own = (after.value - before.value) @ book.quantity
    theirs = (_by_engine(ORE, later, moved, after.vol) - _by_engine(ORE, book, _TODAY, before.vol)) @ book.quantity
    calculator = ORE.HistoricalSimulationVarCalculator(ORE.DoubleVector(theirs.tolist()))
    figures: dict[str, float] = {}
    for level in _LEVELS:
        stated, engine = risk(own, level).value_at_risk, calculator.var(level, False)  # noqa: FBT003 - of losses
        name = f"value_at_risk_{100 * level:g}".replace(".", "_")
        figures |= {name: stated, f"{name}_ore": engine, f"{name}_apart": abs(stated / engine - 1.0)}
    return figures


def _by_engine(ore: object, book: Book, underlying: Underlying, vols: Array) -> Array:
    """Values of options at vols [scenario, option] by the engine's formula."""
    kinds = {CALL: ore.Option.Call, PUT: ore.Option.Put}  # type: ignore[attr-defined]
    deviations, forwards = vols * np.sqrt(book.tenor), underlying.forward(book.tenor)
    discounts = np.exp(-underlying.rate * book.tenor)
    rows = zip(forwards.tolist(), deviations.tolist(), strict=True)
    columns = list(zip(book.kind.tolist(), book.strike.tolist(), discounts.tolist(), strict=True))
    return np.array(
        [
            [
                ore.blackFormula(kinds[kind], strike, forward, deviation, discount)  # type: ignore[attr-defined]
                for (kind, strike, discount), forward, deviation in zip(columns, *row, strict=True)
            ]
            for row in rows
        ]
    )


def _book() -> Book:
    """Calls and puts, bought and sold, within a standard deviation of the money."""
    rng = np.random.default_rng(2)
    tenor = rng.integers(70, 700, _OPTIONS) / DAYS_PER_YEAR
    strike = 100.0 * np.exp(0.2 * np.sqrt(tenor) * rng.uniform(-1.0, 1.0, _OPTIONS))
    return Book(rng.choice([CALL, PUT], _OPTIONS), strike, tenor, rng.standard_normal(_OPTIONS))


if __name__ == "__main__":
    main()
