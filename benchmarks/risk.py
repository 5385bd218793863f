"""Scenarios and the values of a book over them a second, beside QuantLib's (`python -m benchmarks.risk`).

A law of motion is fitted to 400 dates that are made here. QuantLib reads each vol from its bicubic surface of total
variance in the strike, and values the option by Black's formula, one after the other.
"""

import datetime as dt

import numpy as np
import QuantLib as ql
import torch
from numpy.typing import NDArray

from benchmarks import card
from benchmarks.turns import in_turns
from pipeline.export import motion_facts
from pipeline.files import motion_file as trained
from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS
from vae.graphs.scenarios import scenarios_graph
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components
from vae.motion import Motion, working_days
from vae.risk.book import CALL, PUT, Book, Underlying, valued
from vae.sessions import SessionOptions
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

GRID = Grid(np.array([61.0, 91.0, 182.0, 365.0, 547.0, 730.0]) / DAYS_PER_YEAR, np.linspace(-0.3, 0.3, 7))
_DATES, _PATHS, _OPTIONS, _FEW = 400, 1000, 1000, 2
_FIRST_OF_2026 = 20454  # days since 1970-01-01
_DAY = 1.0 / DAYS_PER_YEAR
_ROUNDS = 3


def main() -> None:
    """Print the figures, on one core."""
    torch.set_num_threads(1)
    card.show(results())


def results() -> dict[str, float]:
    """Milliseconds of scenarios and of a book's values, and values a second beside QuantLib's, on one core."""
    motion, dates = made_motion(), working_days(dt.date(2026, 1, 1), 1)
    drawn = motion.scenarios(motion.state, dates, _PATHS, seed=7, offset=0)
    iv, log_return = drawn.iv[:, 0], drawn.log_return[:, 0].astype(float)
    book, moved = _book().after(_DAY), Underlying(np.array([100.0])).after(log_return)
    seconds = in_turns(
        {
            "scenarios": lambda: motion.scenarios(motion.state, dates, _PATHS, seed=7, offset=0),
            "volvae": lambda: valued(book, moved, iv, GRID),
            "quantlib": lambda: [_by_quantlib(book, iv[i], float(moved.spot[i])) for i in range(_FEW)],
        },
        repeats=1,
        rounds=_ROUNDS,
    )
    ours, theirs = _PATHS * _OPTIONS / seconds["volvae"], _FEW * _OPTIONS / seconds["quantlib"]
    own = valued(book, moved, iv, GRID).value[:_FEW]
    differences = own - [_by_quantlib(book, iv[i], float(moved.spot[i])) for i in range(_FEW)]
    return {
        "scenarios_of_1000_paths_ms_1_core": 1e3 * seconds["scenarios"],
        "values_of_1000_options_1000_scenarios_ms_1_core": 1e3 * seconds["volvae"],
        "values_per_second_volvae_1_core": ours,
        "values_per_second_quantlib_1_core": theirs,
        "values_ratio": ours / theirs,
        "values_median_difference_by_spot": float(np.median(np.abs(differences))) / 100.0,
    }


def made_motion() -> Motion:
    """A law of motion of surfaces whose level, skew and slope wander against the price."""
    rng = np.random.default_rng(0)
    root = np.sqrt(np.repeat(GRID.tenors, len(GRID.nodes)))
    k = np.tile(GRID.nodes, len(GRID.tenors))
    directions = np.stack([0.04 / (0.5 + root), -0.02 * k, 0.01 * root])
    shocks = rng.standard_t(5, (_DATES, 3))
    noise = 0.001 * rng.standard_normal((_DATES, len(k)))
    log_vols = np.log(0.2) - 0.5 * k + 0.8 * k**2 + np.cumsum(0.3 * shocks, axis=0) @ directions + noise
    x = torch.from_numpy(np.exp(log_vols))
    architecture = Architecture(len(k), 36, 4, 16, 1, transform="log", residual_factors=36)
    model = Vae.from_components(architecture, principal_components(x.log()))
    price = np.cumsum(-0.008 * shocks[:, 0])
    walked = walk(
        History(model.observe(x).values.numpy(), np.arange(_DATES), model.basis.numpy(), price), FORMS["reverting"]
    )
    content = scenarios_graph(model.float(), walked.law(), GRID, {"volvae_version": "benchmark"})
    facts = motion_facts(
        trained.FittedMotion(walked.law(), walked.state(), _FIRST_OF_2026, "reverting", "price"), model.double(), GRID
    )
    return Motion(content, {"dynamics": facts}, SessionOptions("cpu", 1), GRID)


def _book() -> Book:
    """Calls and puts of 20 expiries, within one standard deviation of the money."""
    rng = np.random.default_rng(1)
    tenor = rng.choice(rng.integers(70, 700, 20), _OPTIONS) / DAYS_PER_YEAR
    strike = 100.0 * np.exp(0.2 * np.sqrt(tenor) * rng.uniform(-1.0, 1.0, _OPTIONS))
    return Book(rng.choice([CALL, PUT], _OPTIONS), strike, tenor, rng.standard_normal(_OPTIONS))


def _by_quantlib(book: Book, iv: NDArray[np.floating], spot: float) -> list[float]:
    """Values of the options of a book on one surface [tenor, node], of which QuantLib gets all strikes at once."""
    today = ql.Date(1, 1, 2026)
    dates = [today + round(DAYS_PER_YEAR * tenor) for tenor in GRID.tenors.tolist()]
    strikes = spot * np.exp(np.linspace(-0.35, 0.35, 15))
    vols = ql.Matrix(len(strikes), len(dates))
    for j, tenor in enumerate(GRID.tenors.tolist()):
        smile = np.interp(np.log(strikes / spot) / np.sqrt(tenor), GRID.nodes, iv[j])
        for i in range(len(strikes)):
            vols[i][j] = float(smile[i])
    surface = ql.BlackVarianceSurface(today, ql.NullCalendar(), dates, strikes.tolist(), vols, ql.Actual365Fixed())
    surface.setInterpolation("bicubic")
    surface.enableExtrapolation()
    kinds = {CALL: ql.Option.Call, PUT: ql.Option.Put}
    rows = zip(book.kind.tolist(), book.strike.tolist(), book.tenor.tolist(), strict=True)
    return [
        ql.blackFormula(kinds[kind], strike, spot, float(np.sqrt(surface.blackVariance(tenor, strike))))
        for kind, strike, tenor in rows
    ]


if __name__ == "__main__":
    main()
