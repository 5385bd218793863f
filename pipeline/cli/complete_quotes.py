"""The command complete: completes a surface from quotes, writes it as CSV and as a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, listed
from pipeline.files import surface_tables
from vae.runtime import Completion, State, SurfaceModel
from vae.surface.units import BASIS_POINTS, Z90

if TYPE_CHECKING:
    from pipeline.cli.quotes_options import ReadingOptions
    from pipeline.sources.one_surface import Choice, OneSurface

Array = NDArray[np.float64]


class WeighedQuotes(NamedTuple):
    """Quotes of one surface as the runtime reads them, each [quote].

    Attributes:
        iv: decimal Black vols.
        tenor: years.
        k: ln(K/F).
        weight: precision in units of that of a point of the training data; None where nothing is known of it.
        market: of the model, whose surfaces are the likely ones; None where it is not known to the model.
    """

    iv: Array
    tenor: Array
    k: Array
    weight: Array | None
    market: str | None


def read(path: Path, given: "ReadingOptions", choice: "Choice") -> "OneSurface":
    """The quotes of one surface in a file, or the known points of one in a folder that ``prepare`` wrote.

    Raises:
        InputError: the path cannot be read, has several surfaces of which none is chosen, or no usable quote.
    """
    from pipeline.cli.quotes_options import hinted, settings_of
    from pipeline.sources import one_surface

    if path.is_dir():
        from pipeline.sources import prepared_surface

        return prepared_surface.read(path, choice)
    params = settings_of(path, given, date=choice.date)
    try:
        return one_surface.read(params, choice)
    except InputError as error:
        raise hinted(error, given) from error


def for_model(model: SurfaceModel, found: "OneSurface", market: str | None) -> WeighedQuotes:
    """Quotes with the weights of their file, or those that bid and ask give, or none, and their market if it is known.

    The noise of a quote is half its spread, but not less than the noise that the model has learned: its weight is
    (learned noise / half the spread)^2, at most 1.

    Args:
        model: that completes them.
        found: the quotes.
        market: that the user names, for a file without markets.

    Raises:
        InputError: neither the file nor the model has the market.
    """
    known = model.markets if model.market_is_condition else ()
    if found.market is None and market is not None and market not in known:
        raise InputError(
            f"--market {market}: the file has no column of markets, and the model's markets are {known or 'none'}"
        )
    learned = float(model.manifest["observation_scale_vol"])
    noise = np.fmax(found.noise, learned)  # NaN, where there is no spread, counts as the learned noise
    of_spread = None if np.isnan(found.noise).all() else (learned / noise) ** 2
    weight = of_spread if found.weight is None else found.weight
    market = found.market or market
    return WeighedQuotes(found.iv, found.tenor, found.k, weight, market if market in known else None)


def run(
    model: SurfaceModel,
    quotes: WeighedQuotes,
    previous: State | None = None,
    elapsed: float = 1.0,
    log_return: float | None = None,
) -> Completion:
    """Complete the surface that the quotes are of, perhaps from a previous state; see ``SurfaceModel.complete``."""
    return model.complete(
        quotes.iv,
        tenor=quotes.tenor,
        log_moneyness=quotes.k,
        weight=quotes.weight,
        market=quotes.market,
        previous=previous,
        elapsed=elapsed,
        log_return=log_return,
    )


def write(path: Path, model: SurfaceModel, found: Completion) -> None:
    """Write the points of a surface as CSV: coordinates, iv, std and the ends of the 90 % interval."""
    surface_tables.write_completion(path, model.grid, found.iv, found.std, Z90)


def figures(model: SurfaceModel, source: "OneSurface", quotes: WeighedQuotes, found: Completion) -> dict[str, Any]:
    """Numbers of rows and quotes, distance of the surface from them, and standard deviations of its points.

    The distance is that from the quotes that the surface was fitted to: wild ones would make a good fit look bad.
    """
    from pipeline.sources.quote_rows import RATES

    used = found.used
    fitted = used & ~found.wild
    error = BASIS_POINTS * np.abs(found.fitted[fitted] - quotes.iv[fitted])
    return {
        "surface": source.title,
        "market": quotes.market,
        "new_market": source.market is not None and quotes.market is None and bool(model.market_is_condition),
        "rows": source.rows,
        "assumed": [str(assumption) for assumption in source.assumed],
        "assumed_rates": [key for one in source.assumed for key in one.settings if key in RATES],
        "assumed_european": any("exercise" in one.settings for one in source.assumed),
        "rejected": [{"row": one.row, "reason": one.reason} for one in source.rejected],
        "quotes": len(used),
        "quotes_used": int(used.sum()),
        "wild_rows": source.row[found.wild].tolist(),
        "quotes_noise_bp": float(BASIS_POINTS * found.noise),
        "quotes_weighted": quotes.weight is not None,
        "p_value": found.p_value,
        "outside": found.outside,
        "cause": found.cause,
        "warning": found.warning,
        "quotes_mean_error_bp": float(error.mean()),
        "quotes_largest_error_bp": float(error.max()),
        "median_std_bp": float(BASIS_POINTS * np.median(found.std)),
        "largest_std_bp": float(BASIS_POINTS * found.std.max()),
    }


def text(source: "OneSurface", outcome: Mapping[str, Any]) -> str:
    """The figures as a line for people, after one that counts the rejected rows if there are any."""
    from pipeline.sources.one_surface import counted

    lines = [str(assumption) for assumption in source.assumed]
    if source.rejected:
        lines.append(f"{len(source.rejected):,} of {source.rows:,} rows rejected: {counted(source.rejected)}")
    if outcome["new_market"]:
        lines.append(f"the model was not trained on the market {source.market}: it completes it as one of any")
    title = f"{source.title}: " if source.title else ""
    wild = len(outcome["wild_rows"])
    beyond = outcome["quotes"] - outcome["quotes_used"]
    left_out = [f"{count:,} {why}" for count, why in ((beyond, "beyond the grid"), (wild, "wild")) if count]
    noise = f"{outcome['quotes_noise_bp']:.1f} bp"
    misfit = outcome["quotes_weighted"] and outcome["outside"]  # which is not in the noise, as without weights it is
    unit = f"; a quote of weight 1 has a noise of {noise}, as the model learned" if misfit else ""
    lines.append(
        f"{title}{outcome['quotes_used'] - wild:,} of {outcome['quotes']:,} quotes used"
        f"{f' ({listed(left_out)})' if left_out else ''}, {outcome['quotes_mean_error_bp']:.1f} bp off on average; "
        f"standard deviation of a point {outcome['median_std_bp']:.1f} bp, at most {outcome['largest_std_bp']:.1f} bp"
        f"{unit}"
    )
    return "\n".join(lines)


def page(model: SurfaceModel, source: "OneSurface", found: Completion, outcome: Mapping[str, Any]) -> str:
    """One HTML page: the surface, and each quoted smile with its 90 % interval, quotes and residuals."""
    from pipeline.report.completion_page import Quoted, completion_page

    quoted = Quoted(source.iv, source.tenor, source.k, source.noise)
    return completion_page(source.title, model.grid, quoted, found, outcome)
