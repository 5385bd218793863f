"""The checks of the gate that a setting may leave out: which a kind of data has, and each beside its limit."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.market_figures import by_market
from pipeline.registry.checks import Check, at_least, at_most, worst
from pipeline.settings.register import GateParams, ShareRange
from vae.runtime import SurfaceModel, VectorModel


def of_surfaces(figures: Mapping[str, float]) -> list[str]:
    """Settings of the checks that surfaces with these figures have, and that null leaves out, in the gate's order."""
    return [
        "coverage_90",
        "arbitrage_rate",
        *(["data_arbitrage"] if "large_arbitrage_rate" in figures else []),  # of quotes; other data is simulated
        "opponent_ratio",
        *(["scenario_ratio"] if "scenario_energy_ratio" in figures else []),  # of a model with a law of motion
    ]


def of_vectors(likelihood: str) -> list[str]:
    """Settings of the checks that vectors of this likelihood have, and that null leaves out, in the gate's order."""
    return [] if likelihood == "bernoulli" else ["coverage_90", "opponent_ratio"]


def missing(model: SurfaceModel | VectorModel, figures: Mapping[str, float], gate: GateParams) -> Iterator[str]:
    """A sentence for each check that a model and its data have, and that was not made."""
    settings = of_vectors(model.likelihood) if isinstance(model, VectorModel) else of_surfaces(figures)
    for name in settings:
        if getattr(gate, name) is None:
            yield f"register.gate.{name} is null: this is not checked"
    if "dynamics" in model.manifest and "scenario_energy_ratio" not in figures:
        yield "the law of motion is not checked: there are no test dates"


def made(
    settings: Iterable[str], figures: Mapping[str, float], gate: GateParams, markets: Sequence[str] = ()
) -> list[Check]:
    """The checks of these settings, without those whose limit is null; of several markets the worst counts."""
    limits = {name: getattr(gate, name) for name in settings}
    return [_OPTIONAL[name](figures, limit, markets) for name, limit in limits.items() if limit is not None]


def _coverage(figures: Mapping[str, float], wanted: ShareRange, markets: Sequence[str]) -> Check:
    coverages = _by_market(figures, "interval_coverage_90", markets)
    market, coverage = worst(coverages, lambda value: min(value - wanted.low, wanted.high - value))
    inside = coverage is not None and wanted.low <= coverage <= wanted.high
    return Check("interval_coverage_90", coverage, f"{wanted.low:g} to {wanted.high:g}", inside, market)


def _sample_arbitrage(figures: Mapping[str, float], excess: float, _markets: Sequence[str]) -> Check:
    data = figures.get("data_arbitrage_free_rate")
    least = None if data is None else data - excess
    return at_least("sample_arbitrage_free_rate", figures.get("sample_arbitrage_free_rate"), least)


def _data_arbitrage(figures: Mapping[str, float], limit: float, _markets: Sequence[str]) -> Check:
    return at_most("data_large_arbitrage_rate", figures.get("large_arbitrage_rate"), limit)


def _opponents(figures: Mapping[str, float], least: float, markets: Sequence[str]) -> Check:
    market, ratio = worst(_by_market(figures, "opponent_error_ratio", markets), lambda value: value)
    return at_least("opponent_error_ratio", ratio, least, market)


def _scenarios(figures: Mapping[str, float], least: float, _markets: Sequence[str]) -> Check:
    return at_least("scenario_energy_ratio", figures.get("scenario_energy_ratio"), least)


_OPTIONAL: Mapping[str, Callable[[Mapping[str, float], Any, Sequence[str]], Check]] = {
    "coverage_90": _coverage,
    "arbitrage_rate": _sample_arbitrage,
    "data_arbitrage": _data_arbitrage,
    "opponent_ratio": _opponents,
    "scenario_ratio": _scenarios,
}  # by the setting that holds the limit


def _by_market(figures: Mapping[str, float], name: str, markets: Sequence[str]) -> dict[str, float]:
    """A figure of all surfaces under the empty name, and of each market; none where it was not measured."""
    return ({"": figures[name]} if name in figures else {}) | by_market(figures, name, markets)
