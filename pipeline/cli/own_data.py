"""Commands on a user's file of quotes: look at it, write the settings that read it, check all settings against it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli.common import BUNDLE, DEMO, json_option, one_line_errors
from pipeline.cli.quotes_options import PARAMS, ReadingOptions, reading_options
from pipeline.errors import InputError, shown

_date_option = click.option(
    "--date", type=click.DateTime(["%Y-%m-%d"]), help="Date of all rows, for a file that does not say it."
)
_params_option = click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=PARAMS,
    show_default=True,
    help="The settings of the pipeline.",
)


@click.command(
    short_help="Look at a file of quotes, and the settings that read it.", epilog="Example: volvae inspect quotes.csv"
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_date_option
@reading_options
@json_option
@one_line_errors
def inspect(file: Path, date: dt.datetime | None, reading: ReadingOptions, *, as_json: bool) -> None:
    """Look at a file of quotes: columns, units, dates, quality, and the settings that read it.

    A setting is shown only where names and values of the columns show it and the reader takes it. Where several
    readings are possible all are listed, with the options that choose one.
    """
    from pipeline.cli import inspect_file

    found = _found(file, date, reading)
    click.echo(json.dumps(found, indent=2) if as_json else inspect_file.text(found))


@click.command(
    short_help="Write the settings that read a file into params.yaml.", epilog="Example: volvae init quotes.csv"
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_date_option
@reading_options
@_params_option
@click.option("--force", is_flag=True, help="Replace the settings of another file.")
@one_line_errors
def init(file: Path, date: dt.datetime | None, reading: ReadingOptions, params: Path, *, force: bool) -> None:
    """Write the settings that read a file of quotes into params.yaml, with a grid and a model that suit it.

    Comments and other keys are kept. Where there is no params.yaml, one is written that says how to read the file and
    nothing else. Where `volvae inspect` lists several readings, options must choose one.
    """
    from pipeline.cli import inspect_file, params_yaml

    if params != PARAMS and not params.exists():
        raise InputError(f"{params} does not exist; without --params, {PARAMS} is written here")
    found = _found(file, date, reading)
    if not found["readings"]:
        raise InputError(*filter(None, inspect_file.lines(found)))
    if len(found["readings"]) > 1:
        ways = f"{file} can be read in {len(found['readings'])} ways; choose one by its options:"
        raise InputError(ways, *found["choices"])
    (chosen,) = found["readings"]
    if chosen["undated"]:
        raise InputError(f"{file} does not say when its rows were quoted: say it by --date")
    block = {**chosen["block"], "path": _from_project(file, params)}
    changed = params_yaml.write(params, {**chosen, "block": block}, force=force)
    click.echo(f"{shown(params)}: {', '.join(changed) or 'nothing'} changed")
    for line in chosen["assumed"]:
        click.echo(f"assumed: {line}")
    trains = "source" in params_yaml.blocks(chosen)["prepare"] and not params_yaml.reads_alone(params)
    click.echo(
        "next: `make run`, or `dvc repro`"
        if trains
        else f"next: `volvae complete {shown(file)}{_bundle_option()} -o surface.csv`; {_untrained(params)}"
    )


def _bundle_option() -> str:
    """The option that names the demo's bundle, where there is no other."""
    return f" --bundle {DEMO}" if DEMO.exists() and not BUNDLE.exists() else ""


@click.command(short_help="Check params.yaml and the file that it names.", epilog="Example: volvae check")
@_params_option
@one_line_errors
def check(params: Path) -> None:
    """Check all of params.yaml, and the file that it names, without any work."""
    from pipeline.cli import check_settings

    click.echo(check_settings.check(params))


def _untrained(params: Path) -> str:
    """Why nothing trains by the settings that were written."""
    from pipeline.cli import params_yaml

    if params_yaml.reads_alone(params):
        return f"{params} was not here: a model is trained in a clone of the project, by its own"
    return "so few surfaces cannot train a model"


def _found(file: Path, date: dt.datetime | None, reading: ReadingOptions) -> dict[str, Any]:
    from pipeline.cli import file_readings, inspect_file

    return inspect_file.figures(file, file_readings.find(file, reading, None if date is None else f"{date:%Y-%m-%d}"))


def _from_project(file: Path, params: Path) -> str:
    """The path of a file as params.yaml has it: from the project's folder, where the file lies below it."""
    folder, target = params.resolve().parent, file.resolve()
    return str(target.relative_to(folder) if target.is_relative_to(folder) else target)
