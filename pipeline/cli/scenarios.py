"""The command that draws paths of surfaces and returns through the next dates."""

from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common import (
    bundle_option,
    check_ending,
    json_option,
    json_text,
    one_line_errors,
    provider_option,
    seed_option,
)
from pipeline.cli.scenario_start import Start, given_return_option, start_options
from pipeline.errors import shown

if TYPE_CHECKING:
    from vae.runtime import Provider

_PATHS = 256  # written at a time


@click.command(
    short_help="Draw paths of surfaces through the next dates.",
    epilog="Example: volvae scenarios -n 1000 --days 5 --seed 7 -o scenarios.parquet",
)
@click.option("-n", "count", type=click.IntRange(1), default=1000, show_default=True, help="Number of paths.")
@click.option("--days", type=click.IntRange(1, 2**13), default=1, show_default=True, help="Days, Monday to Friday.")
@seed_option
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .parquet file.")
@given_return_option
@start_options
@bundle_option
@provider_option
@json_option
@one_line_errors
def scenarios(
    count: int,
    days: int,
    seed: int,
    output: Path,
    given_return: float | None,
    start: Start,
    bundle: Path,
    provider: "Provider",
    *,
    as_json: bool,
) -> None:
    """Draw paths of surfaces and of the return of the underlying through the next days.

    They start at the last date of the data that the model was exported with, with --from at one newer surface, or with
    --state where quotes have led. The file has a row for each point of each surface: scenario, date, log_return since
    the start, arbitrage_free of the surface, and the point.
    """
    from pipeline.files import surface_tables
    from vae.runtime import SurfaceModel

    check_ending(output, ".parquet")
    model = SurfaceModel.load(bundle, provider=provider)
    state = start.of(model)
    asked = partial(model.scenarios, state, days, seed=seed, log_return=given_return)
    first = asked(min(_PATHS, count))
    rest = (asked(min(_PATHS, count - done), offset=done) for done in range(_PATHS, count, _PATHS))
    lacking = surface_tables.write_scenarios(output, chain([first], rest), model.grid)
    outcome = {"path": str(output), "scenarios": count, "days": days, "seed": seed, "from": str(state.date)}
    outcome["with_arbitrage"] = lacking
    given = ""
    if first.effective_size is not None:
        outcome |= {"given_return": given_return, "effective_size": first.effective_size}
        given = f" given a log return of {given_return:g}, worth {first.effective_size:.0f} equally probable ones"
    through = f"{days} {'day' if days == 1 else 'days'}"
    text = f"{count:,} scenarios of {through} from {state.date}{given}, seed {seed}: {shown(output)}"
    click.echo(json_text(outcome) if as_json else text)
    if lacking:
        click.echo(
            f"warning: {lacking:,} of {count * days:,} surfaces have static arbitrage; their arbitrage_free is false",
            err=True,
        )
