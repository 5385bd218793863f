"""The command that values a book of options over scenarios: risk, what it comes from, and how to hedge it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common import (
    Finite,
    bundle_option,
    json_option,
    json_text,
    one_line_errors,
    provider_option,
    seed_option,
)
from pipeline.cli.scenario_start import Start, given_return_option, start_options

if TYPE_CHECKING:
    from vae.runtime import Provider

_FEWEST = 100  # scenarios


@click.command(
    short_help="Value a book of options over scenarios.",
    epilog="Example: volvae risk book.csv --spot 4500 --days 1 --seed 7 --stress spot=-0.1,level=0.05",
)
@click.argument("book", type=click.Path(path_type=Path))
@click.option("--spot", type=Finite(min=0.0, min_open=True), required=True, help="Price of the underlying.")
@click.option(
    "--rate",
    type=Finite(-1.0, 1.0),
    default=0.0,
    show_default=True,
    help="Continuous interest rate, such as 0.03 for 3 %.",
)
@click.option(
    "--dividend-yield", type=Finite(-1.0, 1.0), default=0.0, show_default=True, help="Continuous, such as 0.01 for 1 %."
)
@click.option("-n", "count", type=click.IntRange(_FEWEST), default=10_000, show_default=True, help="Scenarios.")
@click.option("--days", type=click.IntRange(1, 250), default=1, show_default=True, help="Days, Monday to Friday.")
@seed_option
@click.option(
    "--level",
    "levels",
    type=Finite(0.5, 1.0, max_open=True),
    multiple=True,
    default=(0.95, 0.99),
    show_default=True,
    help="Of value at risk and expected shortfall; may be repeated.",
)
@click.option(
    "--stress",
    "stresses",
    metavar="MOVES",
    multiple=True,
    help="Such as spot=-0.1,level=0.05,skew=0.01,term=0.02: the P&L of these moves at once; may be repeated.",
)
@given_return_option
@start_options
@bundle_option
@provider_option
@json_option
@one_line_errors
def risk(
    book: Path,
    spot: float,
    rate: float,
    dividend_yield: float,
    count: int,
    days: int,
    seed: int,
    levels: tuple[float, ...],
    stresses: tuple[str, ...],
    given_return: float | None,
    start: Start,
    bundle: Path,
    provider: "Provider",
    *,
    as_json: bool,
) -> None:
    """Value a book of European options over scenarios of the next days.

    BOOK has the columns type (call, put, underlying), strike, quantity, and expiry (a date), days or tenor_years. The
    scenarios start at the last date of the data that the model was exported with, with --from at a newer surface, or
    with --state where quotes have led. Rate and dividend yield stay as they are, so that forwards move with the spot.

    A stress moves the spot by a share, and vols by decimals: all of them (level), those of a tenor of three months and
    others by the root of their tenor (term), and that one deviation below the forward against that above (skew).
    """
    import numpy as np

    from pipeline.cli import book_risk, book_stress
    from pipeline.sources.book import read_book
    from vae.risk.book import Underlying
    from vae.runtime import SurfaceModel

    moves = [book_stress.parsed(each) for each in stresses]
    model = SurfaceModel.load(bundle, provider=provider)
    state = start.of(model)
    positions = read_book(book, today=state.date)
    underlying = Underlying(np.array([spot]), rate, dividend_yield)
    drawn = model.scenarios(state, days, count, seed=seed, log_return=given_return)
    found = book_risk.figures(positions, underlying, model.grid, state, drawn, levels)
    found["stress"] = book_stress.figures(positions, underlying, model.grid, state, moves)
    text = [book_risk.text(found), *book_stress.lines(found["stress"])]
    click.echo(json_text(found) if as_json else "\n".join(text))
