"""Two models side by side: their figures, what made them differ, and whether the figures can be compared at all."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.files.formats import finite_or_none
from pipeline.headlines import HEADLINES
from pipeline.registry.gate import STANDARD_ERRORS
from pipeline.registry.sides import Side
from pipeline.settings.register import GateParams

DIGITS = 12  # of a hash
_MORE, _LESS = 1.0, -1.0  # whether larger or smaller values of a figure are better
_BETTER = {
    "elbo_nats": _MORE,
    "elbo_gap_to_oracle_nats": _LESS,
    "reconstruction_rmse_bp": _LESS,
    "reconstruction_rmse": _LESS,
    "completion_hidden_mae_bp_10": _LESS,
    "completion_mae_10": _LESS,
    "completion_log_loss_nats_10": _LESS,
    "opponent_error_ratio": _MORE,
    "sample_energy_distance": _LESS,
    "sample_boosting_accuracy": _LESS,
    "sample_arbitrage_free_rate": _MORE,
    "scenario_energy_ratio": _MORE,
}
_PROTOCOL = "evaluate."  # before the settings that say how figures are measured
COVERAGE, _LEVEL = "interval_coverage_90", 0.9


class Figure(NamedTuple):
    """A headline of both.

    Attributes:
        name: of the figure, with its unit.
        first, second: its values.
        gain: by how much the second is better, negative where the first is; None where no value is better than another,
            or where the two are not measured on the same data in the same way.
        allowed: the difference up to which they count as equal.
    """

    name: str
    first: float
    second: float
    gain: float | None = None
    allowed: float = 0.0

    @property
    def beyond(self) -> float:
        """By how much the better one is better beyond what is allowed; 0 where they count as equal, or one is NaN."""
        return 0.0 if self.gain is None else max(0.0, abs(self.gain) - self.allowed)

    @property
    def better(self) -> str | None:
        """``first`` or ``second``; None where they count as equal."""
        return ("first" if (self.gain or 0.0) < 0.0 else "second") if self.beyond > 0.0 else None


class Compared(NamedTuple):
    """Two models side by side.

    Attributes:
        first, second: what is compared.
        obstacle: why the figures cannot be compared; empty where they can.
        samples: whether samples can be compared: both are of one grid and one market.
        figures: headlines that both have.
        settings, code: first and second value where they differ, None where one lacks it.
    """

    first: Side
    second: Side
    obstacle: str
    samples: bool
    figures: tuple[Figure, ...]
    settings: Mapping[str, tuple[Any, Any]]
    code: Mapping[str, tuple[Any, Any]]


def compared(first: Side, second: Side, gate: GateParams | None) -> Compared:
    """Put two models side by side.

    The figures are those that were kept. The gate itself compares surface by surface, which is sharper.

    Args:
        first: one model.
        second: the other.
        gate: whose margins say from where on a difference counts; without them nothing is said to be better.
    """
    other_kind = next(_other_kind(first.manifest, second.manifest), "")
    obstacle = other_kind or _other_data(first, second) or _other_protocol(first, second)
    shared = [name for name in HEADLINES if name in first.figures and name in second.figures]
    return Compared(
        first,
        second,
        obstacle,
        samples=not other_kind,
        figures=tuple(_figure(name, first.figures, second.figures, None if obstacle else gate) for name in shared),
        settings=_changed(first.settings, second.settings),
        code=_changed(first.code, second.code),
    )


def _figure(name: str, first: Mapping[str, float], second: Mapping[str, float], gate: GateParams | None) -> Figure:
    figure = Figure(name, first[name], second[name])
    if gate is None or (name != COVERAGE and name not in _BETTER):
        return figure
    return figure._replace(gain=_gain(name, figure.first, figure.second), allowed=_allowed(name, first, second, gate))


def _gain(name: str, one: float, two: float) -> float:
    """By how much the second is better; the better coverage is the one nearer to its level."""
    return abs(one - _LEVEL) - abs(two - _LEVEL) if name == COVERAGE else _BETTER[name] * (two - one)


def _allowed(name: str, first: Mapping[str, float], second: Mapping[str, float], gate: GateParams) -> float:
    """The gate's margin of a figure; else two standard errors of the difference; else the gate's share of the first."""
    if name.endswith("_nats"):
        return gate.worse_nats
    if "_bp" in name:
        return gate.worse_bp
    if name == COVERAGE and gate.coverage_90 is not None:
        return (gate.coverage_90.high - gate.coverage_90.low) / 2.0
    if name == "sample_arbitrage_free_rate" and gate.arbitrage_rate is not None:
        return gate.arbitrage_rate
    error = f"{name}_se"
    if error in first and error in second:
        return STANDARD_ERRORS * math.hypot(first[error], second[error])
    return gate.worse_error * abs(first[name])


def _other_kind(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """Why samples of two bundles cannot be compared, by their manifests."""
    kinds = ["surfaces" if "grid" in manifest else "vectors" for manifest in (first, second)]
    if kinds[0] != kinds[1]:
        yield f"A is of {kinds[0]}, B of {kinds[1]}"
    elif kinds[0] == "vectors":
        for key in ("dimension", "likelihood"):
            if first[key] != second[key]:
                yield f"A has {key} {first[key]}, B {second[key]}"
    else:
        if first["grid"] != second["grid"]:
            yield f"the grids differ: A has {_size(first['grid'])}, B {_size(second['grid'])}"
        markets = [", ".join(sorted(manifest.get("markets", ()))) or "none" for manifest in (first, second)]
        if markets[0] != markets[1]:
            yield f"the markets differ: A has {markets[0]}, B {markets[1]}"


def _other_data(first: Side, second: Side) -> str:
    """Why figures of models of one kind cannot be compared; empty where they were measured on the same data."""
    for side in (first, second):
        if not side.data:
            why = "its dvc.lock has no data/surfaces" if side.is_judged else "no dvc.lock around it records this bundle"
            return f"the data of {side.name} is not known: {why}"
    if first.data == second.data:
        return ""
    return f"data/surfaces is {first.data[:DIGITS]} in A, {second.data[:DIGITS]} in B"


def _other_protocol(first: Side, second: Side) -> str:
    """Why figures of the same data cannot be compared: they were measured in another way."""
    changed = _changed(first.settings, second.settings)
    differ = [f"{key} is {a} in A, {b} in B" for key, (a, b) in changed.items() if key.startswith(_PROTOCOL)]
    return ", ".join(differ)


def _size(grid: Mapping[str, Any]) -> str:
    tenors, nodes = grid["tenors"], grid["nodes"]
    return (
        f"{len(tenors)} tenors x {len(nodes)} nodes ({grid['convention']} {nodes[0]:g} to {nodes[-1]:g}, "
        f"tenors to {tenors[-1]:.2g} years)"
    )


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Values that differ, by name; empty where one side has no values at all, as they are not known then."""
    if not first or not second:
        return {}
    names = {**first, **second}
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def record(found: Compared) -> dict[str, Any]:
    """The comparison as plain values for JSON. NaN becomes None, as JSON has no NaN."""
    return {
        "first": {"name": found.first.name, "verdict": found.first.verdict, "data": found.first.data},
        "second": {"name": found.second.name, "verdict": found.second.verdict, "data": found.second.data},
        "figures_comparable": not found.obstacle,
        "samples_comparable": found.samples,
        "obstacle": found.obstacle,
        "figures": {
            figure.name: {
                "first": finite_or_none(figure.first),
                "second": finite_or_none(figure.second),
                "difference": finite_or_none(figure.second - figure.first),
                "allowed": None if figure.gain is None else finite_or_none(figure.allowed),
                "better": figure.better,
                "beyond": finite_or_none(figure.beyond),
            }
            for figure in found.figures
        },
        "settings": {key: list(values) for key, values in found.settings.items()},
        "code": {key: list(values) for key, values in found.code.items()},
    }
