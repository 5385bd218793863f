"""The command that draws paths of surfaces and returns through the next dates."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common import bundle_option, one_line_errors, provider_option
from pipeline.errors import InputError

if TYPE_CHECKING:
    import datetime as dt

    from vae.runtime import Provider, State, SurfaceModel

_PATHS = 256  # written at a time


@click.command(epilog="Example: volvae scenarios -n 1000 --days 5 --seed 7 -o scenarios.parquet")
@click.option("-n", "count", type=click.IntRange(1), default=1000, show_default=True, help="Number of paths.")
@click.option("--days", type=click.IntRange(1, 2**13), default=1, show_default=True, help="Days, Monday to Friday.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="The same seed gives the same file."
)
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .parquet file.")
@click.option(
    "--from",
    "surface",
    type=click.Path(path_type=Path),
    help="One whole surface of a newer date, as `complete` or `sample` writes it, where paths start.",
)
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="Date of that surface.")
@click.option("--log-return", type=float, help="Log return of the underlying up to that date, if the law has one.")
@bundle_option
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@one_line_errors
def scenarios(
    count: int,
    days: int,
    seed: int,
    output: Path,
    surface: Path | None,
    date: "dt.datetime | None",
    log_return: float | None,
    bundle: Path,
    provider: "Provider",
    *,
    as_json: bool,
) -> None:
    """Draw paths of surfaces and of the return of the underlying through the next days.

    They start at the last date of the data that the model was exported with, or with --from at one newer surface. The
    file has a row for each point of each surface: scenario, date, log_return since the start, and the point.
    """
    from pipeline.files import surface_tables
    from vae.runtime import SurfaceModel

    if output.suffix != ".parquet":
        raise InputError(f"{output} must end in .parquet")
    model = SurfaceModel.load(bundle, provider=provider)
    state = _start(model, surface, date, log_return)
    blocks = (
        model.scenarios(state, days, min(_PATHS, count - first), seed=seed, offset=first)
        for first in range(0, count, _PATHS)
    )
    surface_tables.write_scenarios(output, blocks, model.grid)
    outcome = {"path": str(output), "scenarios": count, "days": days, "seed": seed, "from": str(state.date)}
    text = f"{count:,} scenarios of {days} {'day' if days == 1 else 'days'} from {state.date}, seed {seed}: {output}"
    click.echo(json.dumps(outcome) if as_json else text)


def _start(
    model: "SurfaceModel", surface: Path | None, date: "dt.datetime | None", log_return: float | None
) -> "State":
    """The state where paths start.

    Raises:
        InputError: a surface without date, a date or return without surface, or a file with several surfaces.
    """
    from pipeline.files import surface_tables

    if surface is None:
        if date is not None or log_return is not None:
            raise InputError("--date and --log-return belong to a surface; name its file with --from")
        return model.state
    if date is None:
        raise InputError(f"--date must say of which date {surface} is")
    iv = surface_tables.read_on_grid(surface, model.grid)
    if len(iv) != 1:
        raise InputError(f"{surface} has {len(iv)} surfaces; paths start at one")
    return model.next_state(iv[0], date.date(), log_return=log_return)
