"""A check of the gate: a figure beside its limit."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Check(NamedTuple):
    """One figure and the limit that it must keep.

    Attributes:
        name: name of the figure, with its unit.
        value: None where it was not measured.
        wanted: the limit in words.
        passed: whether ``value`` keeps it.
        market: the market that it belongs to, the worst of several; empty where there are none.
    """

    name: str
    value: float | None
    wanted: str
    passed: bool
    market: str = ""

    def __str__(self) -> str:
        """The figure, its value and its limit."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{self.name}{f' of {self.market}' if self.market else ''} {value}, wanted {self.wanted}"


def at_most(name: str, value: float | None, limit: float, market: str = "") -> Check:
    """The check that a figure is not above its limit."""
    return Check(name, value, f"at most {limit:g}", value is not None and value <= limit, market)


def at_least(name: str, value: float | None, limit: float | None, market: str = "") -> Check:
    """The check that a figure is not below its limit, which may be a figure that was not measured."""
    wanted = "a figure of the data" if limit is None else f"at least {limit:g}"
    return Check(name, value, wanted, value is not None and limit is not None and value >= limit, market)


def worst(values: Mapping[str, float], slack: Callable[[float], float]) -> tuple[str, float | None]:
    """The market that is nearest to its limit or furthest beyond, and its value. NaN counts as furthest beyond."""
    ranks = {market: slack(value) for market, value in values.items()}
    market = min(ranks, key=lambda name: -math.inf if math.isnan(ranks[name]) else ranks[name], default="")
    return market, values.get(market)
