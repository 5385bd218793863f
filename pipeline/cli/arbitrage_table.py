"""The command arbitrage: a table of static arbitrage in surfaces, beside the rates of the model's own data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from vae.surface import arbitrage
from vae.surface.arbitrage import Summary, Violations
from vae.surface.grid import Grid

_OVERALL = "arbitrage"
_FEWEST = 2  # known points of a smile in which arbitrage is measured


def read_data_rates(results: Path) -> dict[str, float]:
    """Read the share of the test data that is free of each kind of arbitrage from ``evaluate.json``.

    Empty if there is no such file.

    Raises:
        InputError: the file exists and cannot be read.
    """
    path = results / "evaluate.json"
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    keys = {kind: f"data_{kind}_free_rate" for kind in (_OVERALL, *arbitrage.KINDS)}
    return {kind: metrics[key] for kind, key in keys.items() if key in metrics}


def known_rate(path: Path, iv: NDArray[np.floating]) -> float:
    """The share of the points of surfaces [surface, tenor, node] that are known.

    Raises:
        InputError: no smile has two known points, so that nothing can be measured.
    """
    known = ~np.isnan(iv)
    if not (known.sum(axis=2) >= _FEWEST).any():
        raise InputError(
            f"{path} reaches {known.sum():,} points of the grid, no two of one tenor: there is no arbitrage to measure"
        )
    return float(known.mean())


def figures(found: Violations, grid: Grid, *, tolerance: float, data: Mapping[str, float]) -> dict[str, Any]:
    """Rates, sizes and locations as plain values for JSON; an unknown rate of the data is None."""
    kinds = arbitrage.summarise(found, grid, tolerance=tolerance)
    return {
        "surfaces": len(found.usable),
        "unusable_surfaces": int((~found.usable).sum()),
        "tolerance": tolerance,
        "free_rate": arbitrage.free_rate(found, tolerance=tolerance),
        "data_free_rate": data.get(_OVERALL),
        "tenors_years": grid.tenors.tolist(),
        "kinds": {kind: _kind(kind, summary, data.get(kind)) for kind, summary in kinds.items()},
    }


def text(figures: Mapping[str, Any], results: Path) -> str:
    """The figures as a table for people."""
    header = f"{'kind':<11}{'free':>8}{'data':>9}{'mean':>11}{'largest':>11}  {'unit':<14}where"
    lines = [_headline(figures), "", header, *(_row(kind, row) for kind, row in figures["kinds"].items())]
    hit = [_by_tenor(kind, row, figures["tenors_years"]) for kind, row in figures["kinds"].items() if row["max"]]
    if hit:
        lines += ["", "surfaces hit, by tenor in years", *hit]
    if figures["data_free_rate"] is None:
        lines += ["", f"The data's own rates are not known: {results}/evaluate.json has none; `dvc repro` makes it."]
    return "\n".join(lines)


def _kind(kind: str, summary: Summary, data: float | None) -> dict[str, Any]:
    return {
        "free_rate": summary.free_rate,
        "data_free_rate": data,
        "mean": summary.mean,
        "max": summary.largest,
        "unit": "of forward" if kind in arbitrage.PRICE_KINDS else {"density": "g", "wing": "dw/dk"}[kind],
        "tenor_years": summary.tenor,
        "log_moneyness": summary.k,
        "surfaces_by_tenor": summary.surfaces_by_tenor,
    }


def _headline(figures: Mapping[str, Any]) -> str:
    count, unusable, known = figures["surfaces"], figures["unusable_surfaces"], figures.get("known_rate", 1.0)
    return (
        f"{count:,} surface{'s' if count != 1 else ''}, {figures['free_rate']:.2%} free of arbitrage"
        f" beyond {figures['tolerance']:g} of the forward"
        + (f" at the {known:.0%} of the points that are known" if known < 1.0 else "")
        + f"; data {_rate(figures['data_free_rate'])}"
        + (f"; {unusable:,} with a vol that is not positive and finite" if unusable else "")
    )


def _row(kind: str, row: Mapping[str, Any]) -> str:
    rates = f"{kind:<11}{_rate(row['free_rate']):>8}{_rate(row['data_free_rate']):>9}"
    where = f"{row['tenor_years']:.4g} years, k = {row['log_moneyness']:.3g}" if row["max"] else "-"
    return f"{rates}{row['mean']:>11.3g}{row['max']:>11.3g}  {row['unit']:<14}{where}"


def _by_tenor(kind: str, row: Mapping[str, Any], tenors: list[float]) -> str:
    counts = zip(tenors, row["surfaces_by_tenor"], strict=True)
    return f"{kind:<11}" + ", ".join(f"{tenor:.3g}: {count:,}" for tenor, count in counts if count)


def _rate(rate: float | None) -> str:
    return "unknown" if rate is None else f"{rate:.2%}"
