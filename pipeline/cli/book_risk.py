"""The risk of a book over scenarios, as figures and as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, listed
from pipeline.files.formats import finite_or_none
from vae.risk.book import CALL, PUT, Book, Underlying, enclosed, expiring, valued, valued_at_end
from vae.risk.explain import explained, least_variance_hedge
from vae.risk.measures import fewest, knows, risk
from vae.runtime import Scenarios, State
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]

_ROUNDING = 1e-9  # of the deviation of a P&L
_STRADDLE = 0.25  # years to expiry of the straddle that hedges, or the nearest tenor of the grid


def figures(
    book: Book, underlying: Underlying, grid: Grid, state: State, drawn: Scenarios, levels: Sequence[float]
) -> dict[str, Any]:
    """The figures of a book, in units of the spot.

    Args:
        book: the positions.
        underlying: at the date of the state.
        grid: of the surfaces.
        state: where the scenarios start.
        drawn: the scenarios. The last date counts, and others where an option expires on the way.
        levels: of value at risk and expected shortfall.

    Raises:
        InputError: the surface does not enclose an option.
    """
    _check_enclosed(book, underlying, state, grid)
    passed = np.array([(date - state.date).days / DAYS_PER_YEAR for date in drawn.dates])
    years, paths, surfaces = float(passed[-1]), drawn.log_return.astype(float), drawn.iv[:, -1]
    log_return, straddle = paths[:, -1], _straddle(underlying, grid)
    after = valued_at_end(book, underlying, paths, passed, surfaces, grid)
    expired = expiring(book, years)
    parts = explained(book, underlying, log_return, state.iv, after, grid, years)
    pnl, size = parts.pnl, float(len(after.value))
    if drawn.effective_size is not None:
        size = min(size, drawn.effective_size)
    stated = [level for level in levels if knows(size, level)]
    # constants, as the values today, do not change a hedge
    hedging = valued_at_end(straddle, underlying, paths, passed, surfaces, grid).value.sum(1)
    instruments = np.stack([underlying.after(log_return).spot, hedging], axis=1)
    spot, both = (least_variance_hedge(pnl, instruments[:, :count]) for count in (1, 2))
    return {
        "positions": len(book.kind),
        "from": str(state.date),
        "to": str(drawn.dates[-1]),
        "scenarios": len(pnl),
        "rate": underlying.rate,
        "dividend_yield": underlying.dividend_yield,
        "value": float(valued(book, underlying, state.iv[None], grid).value[0] @ book.quantity),
        "pnl_mean": float(pnl.mean()),
        "pnl_deviation": float(pnl.std()),
        "given_return": None if drawn.effective_size is None else float(log_return[0]),
        "effective_size": drawn.effective_size,
        "risk": {f"{level:g}": _risk(pnl, level, size) for level in stated},
        "not_stated": [level for level in levels if level not in stated],
        "explained": {
            name: {"mean": float(part.mean()), "deviation": float(part.std())} for name, part in parts._asdict().items()
        },
        "hedge": {
            "underlying": float(spot.quantity[0]),
            "left": spot.left,
            "straddle_years": float(straddle.tenor[0]),
            "with_straddle": both.quantity.tolist(),
            "left_with_straddle": both.left,
        },
        "with_arbitrage": int((~drawn.arbitrage_free(grid, slice(-1, None))).sum()),
        "beyond_rate": float(after.beyond.mean()),
        "expired": int(expired.sum()),
        "shorter_than_grid": int((book.is_option & ~expired & (book.tenor - years < grid.tenors[0])).sum()),
        "has_return": bool(log_return.any()),
    }


def _risk(pnl: Array, level: float, size: float) -> dict[str, float | None]:
    """Risk figures, their errors those of ``size`` independent scenarios, None where these are not known."""
    found, wider = risk(pnl, level)._asdict(), float(np.sqrt(len(pnl) / size))
    return {name: finite_or_none(value * wider) if name.endswith("_se") else value for name, value in found.items()}


def text(found: Mapping[str, Any]) -> str:
    """The figures, a line for each kind."""
    carry = [
        f", {name.replace('_', ' ')} {100.0 * found[name]:g} %" for name in ("rate", "dividend_yield") if found[name]
    ]
    lines = [
        f"{found['positions']} positions from {found['from']} to {found['to']}, {found['scenarios']:,} scenarios"
        + "".join(carry),
        f"value      {found['value']:,.4g}",
        f"P&L        mean {found['pnl_mean']:,.4g}, deviation {found['pnl_deviation']:,.4g}",
    ]
    lines += [_risk_line(float(level), each) for level, each in found["risk"].items()]
    worth = found["scenarios"] if found["effective_size"] is None else found["effective_size"]
    lines += [
        f"{_titled(level)}not known: it takes {fewest(level):,} scenarios, and these are worth {worth:,.0f}"
        for level in found["not_stated"]
    ]
    least = _ROUNDING * found["pnl_deviation"]
    parts = (
        f"{name} {each['deviation'] * (each['deviation'] > least):,.3g}"
        for name, each in found["explained"].items()
        if name != "time"
    )
    hedge = found["hedge"]
    lines += [
        f"explained  deviation of the parts: {', '.join(parts)}; time brings {found['explained']['time']['mean']:,.3g}",
        f"hedge      {hedge['underlying']:,.4g} of the underlying leaves {hedge['left']:.0%} of the deviation; "
        f"{hedge['with_straddle'][0]:,.4g} and {hedge['with_straddle'][1]:,.4g} straddles of "
        f"{hedge['straddle_years']:.2f} years {hedge['left_with_straddle']:.0%}",
    ]
    if found["effective_size"] is not None:
        lines.append(
            f"note       the log return is {found['given_return']:g}, and the scenarios are worth "
            f"{found['effective_size']:.0f} equally probable ones"
        )
    if any(value is None for each in found["risk"].values() for value in each.values()):
        lines.append(
            "note       an error is not known where all losses there are the same: scenarios repeat past moves, and so "
            "few show no difference"
        )
    if found["with_arbitrage"]:
        lacking, all_ = found["with_arbitrage"], found["scenarios"]
        lines.append(f"note       the surfaces of {lacking:,} of {all_:,} scenarios have static arbitrage")
    if found["beyond_rate"]:
        lines.append(
            f"note       in {found['beyond_rate']:.1%} of the cases a strike ends beyond the nodes of the surface, "
            f"and has the vol of its end"
        )
    if found["expired"]:
        lines.append(
            f"note       {found['expired']} options expire on the way, and are paid at the spot of the last date up to "
            "their expiry"
        )
    if found["shorter_than_grid"]:
        lines.append(
            f"note       {found['shorter_than_grid']} options end with less time left than the first tenor of the "
            "surface, and have the vols of that tenor at as many deviations from the forward"
        )
    if not found["has_return"]:
        lines.append(
            "note       the law of motion has no return of the underlying: the spot stays, and the risk is of vols "
            "alone; train.dynamics.underlying adds it"
        )
    return "\n".join(lines)


def _titled(level: float) -> str:
    return f"risk {100 * level:g} %".ljust(10) + " "


def _risk_line(level: float, found: Mapping[str, float | None]) -> str:
    """Risk figures at a level, each with its error."""
    parts = []
    for name in ("value_at_risk", "expected_shortfall"):
        error = found[f"{name}_se"]
        known = "(error not known)" if error is None else f"+- {error:,.2g}"
        parts.append(f"{name.replace('_', ' ')} {found[name]:,.4g} {known}")
    return _titled(level) + ", ".join(parts)


def _check_enclosed(book: Book, underlying: Underlying, state: State, grid: Grid) -> None:
    inside = enclosed(book, underlying, state.iv, grid)
    if inside.all():
        return
    rows = [str(row + 1) for row in np.flatnonzero(~inside)]
    first, last = (DAYS_PER_YEAR * end for end in (grid.tenors[0], grid.tenors[-1]))
    raise InputError(
        f"the surface does not enclose the options of rows {listed(rows)}: it reaches from {first:.0f} to {last:.0f} "
        f"days, and at each tenor from its first node to its last; leave them out"
    )


def _straddle(underlying: Underlying, grid: Grid) -> Book:
    """One straddle at the forward."""
    tenor = float(grid.tenors[np.abs(grid.tenors - _STRADDLE).argmin()])
    strike = underlying.forward(np.array([tenor]))[0, 0]
    return Book(np.array([CALL, PUT]), np.full(2, strike), np.full(2, tenor), np.ones(2))
