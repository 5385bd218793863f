"""The command complete: reads quotes from a file, completes the surface, writes it as CSV and as a page."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files.csv_tables import write_csv
from pipeline.sources.columns import Columns
from vae.runtime import Completion, SurfaceModel
from vae.surface.grid import log_moneyness_of_delta
from vae.surface.units import BASIS_POINTS, DAYS_PER_YEAR, Z90

Array = NDArray[np.float64]

_COORDINATES = ("log_moneyness", "call_delta", "strike")


class Quotes(NamedTuple):
    """Quotes of one surface as the runtime reads them, each [quote].

    Either log-moneyness or call delta is given. Tenors are in years, vols decimal.
    """

    iv: Array
    tenor: Array
    log_moneyness: Array | None
    call_delta: Array | None
    weight: Array | None


def read(path: Path) -> Quotes:
    """Read quotes from a CSV or Parquet file with the canonical column names of docs/quotes.md.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a value that is no vol, tenor or coordinate.
    """
    source = Columns.read(path)
    tenor = _one_of(source, "tenor_years", "days")
    coordinate = _one_of(source, *_COORDINATES)
    for name in ("iv", *(["forward"] if coordinate == "strike" else [])):
        if name not in source.names:
            raise InputError(f"{path} has no column {name}; its columns: {', '.join(source.names)}")
    columns = {name: _finite(source, name) for name in ("iv", tenor, coordinate)}
    values = columns[coordinate]
    if coordinate == "strike":
        forward = _finite(source, "forward")
        if not ((values > 0.0) & (forward > 0.0)).all():
            raise InputError(f"{path}: strike and forward must be positive")
        values = np.log(values / forward)
    return Quotes(
        iv=columns["iv"],
        tenor=columns[tenor] / (DAYS_PER_YEAR if tenor == "days" else 1.0),
        log_moneyness=None if coordinate == "call_delta" else values,
        call_delta=values if coordinate == "call_delta" else None,
        weight=_finite(source, "weight") if "weight" in source.names else None,
    )


def run(model: SurfaceModel, quotes: Quotes) -> Completion:
    """Complete the surface that the quotes are of."""
    return model.complete(
        quotes.iv,
        tenor=quotes.tenor,
        log_moneyness=quotes.log_moneyness,
        call_delta=quotes.call_delta,
        weight=quotes.weight,
    )


def write(path: Path, model: SurfaceModel, found: Completion) -> None:
    """Write the points of a surface as CSV: tenor_years, log_moneyness, iv, std and the ends of the 90 % interval."""
    tenors = np.broadcast_to(model.grid.tenors[:, None], found.iv.shape)
    k = np.broadcast_to(model.grid.log_moneyness_of(found.iv), found.iv.shape)
    low, high = found.iv - Z90 * found.std, found.iv + Z90 * found.std
    columns = (part.ravel().tolist() for part in (tenors, k, found.iv, found.std, low, high))
    rows = [[f"{value:.8g}" for value in row] for row in zip(*columns, strict=True)]
    write_csv(path, ("tenor_years", "log_moneyness", "iv", "std", "low_90", "high_90"), rows)


def figures(quotes: Quotes, found: Completion) -> dict[str, float]:
    """Number of quotes used, distance of the surface from them, and standard deviations of its points."""
    used = found.used
    error = BASIS_POINTS * np.abs(found.fitted[used] - quotes.iv[used])
    return {
        "quotes": len(used),
        "quotes_used": int(used.sum()),
        "quotes_mean_error_bp": float(error.mean()),
        "quotes_largest_error_bp": float(error.max()),
        "median_std_bp": float(BASIS_POINTS * np.median(found.std)),
        "largest_std_bp": float(BASIS_POINTS * found.std.max()),
    }


def page(model: SurfaceModel, quotes: Quotes, found: Completion) -> str:
    """One HTML page: each smile with its 90 % interval, and the quotes on the smile of the nearest tenor."""
    import plotly.graph_objects as go  # only the page needs it
    from plotly.subplots import make_subplots

    tenors, k = model.grid.tenors, np.broadcast_to(model.grid.log_moneyness_of(found.iv), found.iv.shape)
    nearest = np.abs(quotes.tenor[:, None] - tenors).argmin(1)
    columns = 3
    rows = -(-len(tenors) // columns)
    titles = [f"{DAYS_PER_YEAR * tenor:.0f} days" for tenor in tenors]
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles, vertical_spacing=0.3 / rows)
    places = quotes.log_moneyness
    if places is None:
        places = log_moneyness_of_delta(np.asarray(quotes.call_delta), quotes.iv * np.sqrt(quotes.tenor))
    for i in range(len(tenors)):
        spot = {"row": i // columns + 1, "col": i % columns + 1}
        low, high = (100.0 * (found.iv[i] + sign * Z90 * found.std[i]) for sign in (-1.0, 1.0))
        band = {"x": np.concatenate([k[i], k[i][::-1]]), "y": np.concatenate([low, high[::-1]])}
        spot["showlegend"] = i == 0
        figure.add_scatter(**band, fill="toself", line_width=0, fillcolor="rgba(37, 99, 235, 0.2)", name="90 %", **spot)
        figure.add_scatter(x=k[i], y=100.0 * found.iv[i], line_color="#2563eb", name="surface", mode="lines", **spot)
        own = nearest == i
        points = {"x": places[own], "y": 100.0 * quotes.iv[own]}
        marker = {"color": np.where(found.used[own], "#111827", "#dc2626"), "size": 6}
        spot["showlegend"] = i == int(nearest.min())
        figure.add_scatter(**points, mode="markers", marker=marker, name="quotes", **spot)
    figure.update_layout(
        template="simple_white", height=240 * rows, title="Implied vol, %, by log-moneyness; quotes out of reach in red"
    )
    html: str = go.Figure(figure).to_html(include_plotlyjs=True, full_html=True)
    return html


def _one_of(source: Columns, *names: str) -> str:
    found = [name for name in names if name in source.names]
    if len(found) != 1:
        raise InputError(f"{source.path} must have exactly one column of {', '.join(names)}, not {len(found)}")
    return found[0]


def _finite(source: Columns, name: str) -> Array:
    values = source.numbers(name)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values))) + 1
        raise InputError(f"{source.path}: column {name} is empty or not finite in row {row}")
    return values
