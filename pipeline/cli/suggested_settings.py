"""A grid and a size of model that suit the quotes of a file: the recommended blocks of docs/quotes.md, as rules."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae.model.mixture import fewest_rows
from vae.surface.grid import Convention, Grid
from vae.surface.units import DAYS_PER_YEAR

Array = NDArray[np.float64]
Index = NDArray[np.int64]

FEWEST_SURFACES = 100  # of a file that can train a model
_MANY_SURFACES = 20_000  # from which on the settings of simulated surfaces suit
_FEW_NODES = 15  # different deltas or moneynesses that are nodes themselves
_FEW_TENORS = 30
_USUAL = 0.9  # share of the surfaces or smiles that must reach a tenor or node
_MARGIN = 0.95  # of the strikes that are reached, so that moving ones reach the last node too
_USUAL_DAYS = (7, 14, 30.416667, 60.833333, 91.25, 182.5, 273.75, 365, 547.5, 730, 1095, 1825, 2555, 3650)
_NODES = 17
_BY_FEWEST = 1.5  # surfaces of a market by the fewest that a law of its own needs, as some are held out
_SURFACES_OF_A_FACTOR, _MOST_FACTORS = 30, 64  # fewer surfaces tell fewer directions of the residual apart


class Points(NamedTuple):
    """Usable quotes, each [quote].

    Attributes:
        surface: 0, 1, ... of each quote.
        tenor: years.
        k: ln(K/F).
        place: the coordinate of the file, where it is a call delta, log-moneyness or strike / spot; else k.
        in_deltas: whether ``place`` is a call delta.
    """

    surface: Index
    tenor: Array
    k: Array
    place: Array
    in_deltas: bool


def grid(points: Points) -> dict[str, Any]:
    """The block ``prepare.grid``: tenors and nodes that nine surfaces of ten reach.

    Raises:
        ValueError: no two tenors, or no three nodes, are reached by so many.
    """
    tenors = _tenors(points)
    convention, nodes = _nodes(points)
    Grid(np.array(tenors) / DAYS_PER_YEAR, np.array(_values(nodes)), convention)
    return {"convention": convention, "tenors_days": tenors, "nodes": nodes}


def training(by_market: Sequence[int], points: int) -> dict[str, Any]:
    """Keys of the block ``train`` for few surfaces of so many points; none where the shipped settings suit.

    Fewer surfaces carry fewer latents and directions: docs/quotes.md has the figures that the sizes come from. Several
    markets differ in all directions, so each has a law of as many latents where it has the surfaces for that.

    Args:
        by_market: number of surfaces of each market.
        points: of a surface.
    """
    surfaces = sum(by_market)
    if surfaces >= _MANY_SURFACES:
        return {}
    latents = int(np.clip(surfaces // 180, 2, 8))
    factors = int(min(points - 1, max(latents, surfaces // _SURFACES_OF_A_FACTOR), _MOST_FACTORS))
    basis = int(min(points, max(4 * latents, factors + 1)))
    told_apart = len(by_market) > 1 and min(by_market) >= _BY_FEWEST * fewest_rows(1, factors)
    if told_apart:
        latents = factors
    model = {"latents": latents, "basis": basis, "width": 16, "depth": 1, "transform": "log", "scale": "shared"}
    return {
        "model": {**model, "residual_factors": factors},
        "scaffold_latents": 0,
        "epochs": 100,
        "batch": 128 if surfaces >= 1000 else 64 if surfaces >= 200 else 16,
        "learning_rate": 1e-3,
        "weight_decay": 1.0,
        "half_life_days": 500.0,
        "refit": True,
        "hidden_share": 0.2,
        "arbitrage": {"epochs": 0},
        **({"conditions": ["market"]} if told_apart else {}),
    }


def _tenors(points: Points) -> list[float]:
    """Days: the tenors of the file where they are few, else usual ones between the shortest and longest expiries."""
    surfaces = int(points.surface.max()) + 1
    days = (DAYS_PER_YEAR * points.tenor).round(6)
    pairs = np.unique(np.stack((points.surface, days)), axis=1)
    values, count = np.unique(pairs[1], return_counts=True)
    kept = values[count >= _USUAL * surfaces]
    if 2 <= len(kept) <= _FEW_TENORS and count[count >= _USUAL * surfaces].sum() >= 0.5 * pairs.shape[1]:
        return [_short(day) for day in kept]
    shortest, longest = (np.array([f(own) for own in np.split(pairs[1], _starts(pairs[0]))]) for f in (np.min, np.max))
    low, high = np.quantile(shortest, _USUAL), np.quantile(longest, 1.0 - _USUAL)
    usual = [_short(day) for day in _USUAL_DAYS if low <= day <= high]
    if len(usual) < 2:
        raise ValueError(
            f"expiries from {low:.4g} to {high:.4g} days, which nine surfaces of ten have, hold no two tenors"
        )
    return usual


def _short(number: float) -> float:
    """A number as people write it: without a fraction where it has none."""
    return int(number) if number == int(number) else float(number)


def _nodes(points: Points) -> tuple[Convention, Any]:
    """Convention, and nodes as a list or as start, stop and count."""
    values = np.unique(points.place.round(6))
    if points.in_deltas and 3 <= len(values) <= _FEW_NODES:
        return "delta", [float(value) for value in values]
    smile = np.unique(np.stack((points.surface, points.tenor)), axis=1, return_inverse=True)[1]
    fixed = len(values) <= 4 * _FEW_NODES  # strikes over spot or forward that are the same at each tenor
    convention: Convention = "log_moneyness" if fixed and not points.in_deltas else "sqrt_time"
    place = points.k if convention == "log_moneyness" else points.k / np.sqrt(points.tenor)
    order = np.lexsort((place, smile))
    smiles = [own for own in np.split(place[order], _starts(smile[order])) if len(own) > 2]
    if not smiles:
        raise ValueError("no expiry has three quotes")
    low = float(np.quantile([own[0] for own in smiles], _USUAL))
    high = float(np.quantile([own[-1] for own in smiles], 1.0 - _USUAL))
    low, high = (_MARGIN * end for end in (low, high))
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-6)) - 1.0)
    start, stop = float(np.ceil(low / step) * step), float(np.floor(high / step) * step)
    if not start < 0.0 < stop:
        raise ValueError(f"the nodes {low:.3g} to {high:.3g}, which nine smiles of ten reach, do not enclose the money")
    return convention, {"start": round(start, 6), "stop": round(stop, 6), "count": _NODES}


def _values(nodes: Any) -> list[float]:  # noqa: ANN401 - a list or a mapping
    if isinstance(nodes, Mapping):
        return [float(x) for x in np.linspace(nodes["start"], nodes["stop"], nodes["count"])]
    return list(nodes)


def _starts(values: NDArray[Any]) -> Index:
    """Where sorted values change, [group - 1]."""
    return np.flatnonzero(np.diff(values)) + 1
