"""The P&L of a book under stresses that a user names, as figures and as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import InputError
from vae.risk import stress
from vae.risk.book import Book, Underlying
from vae.risk.stress import Sticky, Stress
from vae.runtime import State
from vae.surface.arbitrage import PRICE_TOLERANCE
from vae.surface.grid import Grid
from vae.surface.units import DAYS_PER_YEAR

_LARGEST = 3.0  # move: vols rise by 300 points, the spot to four times of itself


def parsed(text: str) -> Stress:
    """The stress of a text such as ``spot=-0.1,level=0.05``.

    Raises:
        InputError: it is no list of NAME=NUMBER, or a name is unknown or there twice.
    """
    moves: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in Stress._fields or name in moves:
            raise InputError(
                f"--stress {text!r} has {name!r}{' twice' if name in moves else ''}; allowed: NAME=NUMBER with commas "
                f"between, each of {', '.join(Stress._fields)} once, such as spot=-0.1,level=0.05"
            )
        moves[name] = _number(text, name, number)
    return Stress(**moves)


def _number(text: str, name: str, number: str) -> float:
    try:
        found = float(number)
    except ValueError:
        found = math.nan
    if not abs(found) <= _LARGEST:
        raise InputError(
            f"--stress {text!r}: {name} is {number!r}; it must be a number from {-_LARGEST:g} to {_LARGEST:g}, such as "
            "0.05 for five percent of the spot or five points of vol"
        )
    return found


def figures(
    book: Book, underlying: Underlying, grid: Grid, state: State, stresses: Sequence[Stress]
) -> list[dict[str, Any]]:
    """The P&L under each stress, one where it moves the spot with sticky strikes and one with sticky deltas.

    Raises:
        ValueError: a vol would not be positive, or the spot would.
    """
    found = []
    for each in stresses:
        rules: tuple[Sticky, ...] = ("strike", "delta") if each.spot else ("strike",)
        found += [each._asdict() | _under(book, underlying, grid, state, each, rule) for rule in rules]
    return found


def _under(
    book: Book, underlying: Underlying, grid: Grid, state: State, moves: Stress, sticky: Sticky
) -> dict[str, Any]:
    surface = stress.stressed(state.iv, grid, moves, sticky)
    lost = stress.lost(book, underlying, state.iv, grid, moves, sticky)
    violations = surface.arbitrage(grid)
    free, worst = bool(violations.profit[0] <= PRICE_TOLERANCE), stress.worst(violations, grid)
    return {
        "sticky": sticky if moves.spot else None,
        "pnl": float(lost.pnl @ book.quantity),
        "positions_beyond": int(lost.beyond.sum()),
        "arbitrage_free": free,
        "arbitrage": None if free or worst is None else worst._asdict(),
        "beyond_rate": float(surface.beyond.mean()),
    }


def lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each P&L."""
    return [f"stress     {_moves(each)}: P&L {each['pnl']:,.4g}{_beyond(each)}; {_arbitrage(each)}" for each in found]


def _moves(each: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {100.0 * each[name]:+g} {'%' if name == 'spot' else 'points'}" for name in Stress._fields if each[name]
    ]
    sticky = f" (sticky {each['sticky']})" if each["sticky"] else ""
    return f"{', '.join(parts) or 'no move'}{sticky}"


def _arbitrage(each: Mapping[str, Any]) -> str:
    if each["arbitrage_free"]:
        return "the surface is free of static arbitrage"
    if each["arbitrage"] is None:
        return "it is no surface, as strikes do not fall with the delta"
    worst, guessed = each["arbitrage"], each["beyond_rate"]
    return (
        f"the surface is not free of static arbitrage: a {worst['kind']} spread earns {worst['profit']:.2g} of the "
        f"forward at {DAYS_PER_YEAR * worst['tenor']:.0f} days and k {worst['k']:.3g}"
        + (f", where {guessed:.0%} of its points have the vol of the end of a smile" if guessed else "")
    )


def _beyond(each: Mapping[str, Any]) -> str:
    """How many positions have a vol that nothing was known of."""
    count = each["positions_beyond"]
    return f", {count} position{'s' * (count > 1)} at the vol of the end of a smile" if count else ""
