"""Commands on surfaces: draw them, complete them from quotes, score them, measure their static arbitrage."""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pipeline.cli.common import (
    Finite,
    bundle_option,
    check_ending,
    check_not_read,
    json_option,
    json_text,
    one_line_errors,
    option_of_bundle,
    provider_option,
    results_option,
    seed_option,
)
from pipeline.cli.quotes_options import ReadingOptions, reading_options
from pipeline.errors import InputError, shown

if TYPE_CHECKING:
    import datetime as dt

    from vae.runtime import PriorName, Provider
    from vae.surface.grid import Grid

Item = TypeVar("Item")


def _conditions(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Numbers by name, from arguments of the form NAME=VALUE."""
    conditions = {}
    for value in values:
        name, _equals, number = value.partition("=")
        try:
            conditions[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} must be NAME=NUMBER") from error
    return conditions


@click.command(
    short_help="Draw surfaces from the model.", epilog="Example: volvae sample -n 1000 --seed 7 -o surfaces.parquet"
)
@click.option("-n", "count", type=click.IntRange(1, 2**50), default=1000, show_default=True, help="Number of surfaces.")
@seed_option
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A .parquet or .npy file.",
)
@bundle_option
@provider_option
@click.option(
    "--given",
    "conditions",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_conditions,
    help="What the surfaces should have, of the model's conditions; may be repeated.",
)
@click.option("--market", help="A market of the model; all of them by default.")
@click.option(
    "--prior",
    type=click.Choice(["fitted", "standard_normal"]),
    default="fitted",
    show_default=True,
    help="Law of the latents: as in the training surfaces, or N(0, I), with which the model was trained.",
)
@click.option("--noise", is_flag=True, help="Add the noise of quotes, as the training surfaces have it.")
@json_option
@one_line_errors
def sample(
    count: int,
    seed: int,
    output: Path,
    bundle: Path,
    provider: "Provider",
    conditions: dict[str, float],
    market: str | None,
    prior: "PriorName",
    *,
    noise: bool,
    as_json: bool,
) -> None:
    """Draw surfaces, or vectors, from the model and write them to a file."""
    from pipeline.cli import vectors
    from pipeline.files import surface_tables, vector_tables
    from vae import runtime

    model = runtime.load(bundle, provider=provider)
    if isinstance(model, runtime.VectorModel):
        vectors.check_conditions(conditions, market)
        blocks = model.sample_blocks(count, seed=seed, prior=prior, noise=noise)
        with _progress(blocks, length=-(-count // model.block), label="sample") as tracked:
            vector_tables.write_vectors(output, tracked, count=count, dimension=model.dimension)
        kind, size = "vectors", f"{model.dimension} points"
    else:
        blocks = model.sample_blocks(count, seed=seed, conditions=conditions, market=market, prior=prior, noise=noise)
        with _progress(blocks, length=-(-count // model.block), label="sample") as tracked:
            surface_tables.write_surfaces(output, tracked, model.grid, count=count)
        kind, size = "surfaces", "{} tenors x {} nodes".format(*model.grid.shape)
    outcome = {"path": str(output), kind: count, "seed": seed, "provider": model.provider}
    text = f"{count:,} {kind} of {size}, seed {seed}, on {model.provider}: {shown(output)}"
    click.echo(json_text(outcome) if as_json else text)


@click.command(
    short_help="Complete a surface from quotes.", epilog="Example: volvae complete quotes.csv -o surface.csv --plot"
)
@click.argument("quotes", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .csv file.")
@click.option(
    "--date", type=click.DateTime(["%Y-%m-%d"]), help="Date of the surface, where the file has several or none."
)
@click.option("--snapshot", type=click.DateTime(), help="Time of the surface, where its date has several.")
@click.option("--market", help="Market of the surface, where the file has several, or of the model's.")
@reading_options
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .json file with what is known so far, which is read and written anew; the model's newest where none is.",
)
@click.option("--elapsed", type=Finite(), help="Working days since that state; those between the dates by default.")
@click.option("--log-return", type=Finite(), help="Log return of the underlying on the last working day, if known.")
@click.option("--plot", is_flag=True, help="Write a page beside the output that shows the smiles and the quotes.")
@bundle_option
@provider_option
@json_option
@one_line_errors
def complete(
    quotes: Path,
    output: Path,
    date: "dt.datetime | None",
    snapshot: "dt.datetime | None",
    market: str | None,
    reading: ReadingOptions,
    state: Path | None,
    elapsed: float | None,
    log_return: float | None,
    bundle: Path,
    provider: "Provider",
    *,
    plot: bool,
    as_json: bool,
) -> None:
    """Complete a surface from quotes, or vectors with missing points.

    QUOTES is any file that prepare.quotes can read (docs/quotes.md), or the folder data/surfaces. Its columns have the
    canonical names, or are named by params.yaml or by --columns. Rows that are no quotes are counted by reason. The
    spread of bid and ask is the weight of a quote; without one, the noise of quotes that do not fit the model is
    estimated from them, and a warning says so. A bundle of vectors reads one vector a row, with empty cells.

    With --state the surface starts from what the quotes of earlier calls implied for now, for a model with
    train.dynamics.
    """
    from pipeline.cli import complete_quotes, kept_state, vectors
    from pipeline.files.atomic import new_file
    from pipeline.sources.one_surface import Choice
    from vae import runtime

    check_ending(output, ".csv")
    check_not_read(output, quotes)
    if state is None and (elapsed is not None or log_return is not None):
        raise InputError("--elapsed and --log-return say what passed since a state; name its file with --state")
    model = runtime.load(bundle, provider=provider)
    if isinstance(model, runtime.VectorModel):
        if state is not None:
            raise InputError("a model of vectors has no law of motion, and so no --state")
        outcome = vectors.complete(model, quotes, output, plot=plot)
        click.echo(json_text(outcome) if as_json else vectors.completed_text(outcome))
        return
    choice = Choice(None if date is None else date.date(), snapshot, market)
    source = complete_quotes.read(quotes, reading, choice)
    read = complete_quotes.for_model(model, source, market)
    previous = None if state is None else kept_state.read(state, model)
    since = 1.0 if previous is None else kept_state.elapsed(previous, source.when, elapsed)
    found = complete_quotes.run(model, read, previous, since, log_return)
    outcome = complete_quotes.figures(model, source, read, found) | {"path": str(output)}
    complete_quotes.write(output, model, found)
    text = f"{complete_quotes.text(source, outcome)}: {shown(output)}"
    if state is not None and previous is not None:
        kept, words = kept_state.keep(state, model, previous, found.state, since)
        outcome, text = outcome | kept, f"{text}; {words}"
    if plot:
        page = output.with_suffix(".html")
        with new_file(page) as stream:
            stream.write(complete_quotes.page(model, source, found, outcome).encode())
        outcome, text = outcome | {"plot": str(page)}, f"{text}, {shown(page)}"
    if found.warning is not None:
        click.echo(f"warning: {found.warning}", err=True)
    click.echo(json_text(outcome) if as_json else text)


@click.command(
    short_help="Say how likely surfaces are, and which points are odd.",
    epilog="Example: volvae score surfaces.parquet -o scores.csv",
)
@click.argument("surfaces", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="A .csv file with a row a surface.")
@reading_options
@bundle_option
@provider_option
@json_option
@one_line_errors
def score(
    surfaces: Path, output: Path | None, reading: ReadingOptions, bundle: Path, provider: "Provider", *, as_json: bool
) -> None:
    """Say how likely, well fitted and common surfaces on the model's grid, or vectors, are, and which points are odd.

    SURFACES is what `volvae sample` or `volvae complete` wrote, such a table with its rows in any order, or a file of
    quotes, which are read as by `volvae complete`, all dates and markets, and put on the model's grid.
    """
    from pipeline.cli import score_report, surface_files
    from pipeline.files import surface_tables
    from pipeline.sources.vector_file import read_vectors
    from vae import runtime

    check_ending(output, ".csv")
    check_not_read(output, surfaces)
    model = runtime.load(bundle, provider=provider)
    if isinstance(model, runtime.VectorModel):
        kind, grid, titles = "vector", None, None
        scores = model.score(read_vectors(surfaces, model.dimension))
    else:
        kind, grid = "surface", model.grid
        file = surface_files.read(surfaces, reading, lambda: model.grid)
        surface_tables.check_grid(surfaces, file.grid, grid)
        scores, titles = model.score(file.iv), file.titles
    if output is not None:
        score_report.write(output, scores, kind, grid, titles)
    outcome = score_report.figures(scores, kind)
    click.echo(json_text(outcome) if as_json else score_report.text(outcome, kind))


@click.command(short_help="Measure static arbitrage in surfaces.", epilog="Example: volvae arbitrage surfaces.parquet")
@click.argument("surfaces", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=Finite(min=0.0),
    default=1e-6,
    show_default=True,
    help="What a trade may earn, in units of the forward.",
)
@reading_options
@option_of_bundle("Folder of the model; a .npy file and quotes need it, for the grid.")
@results_option
@json_option
@one_line_errors
def arbitrage(
    surfaces: Path, tolerance: float, reading: ReadingOptions, bundle: Path, results: Path, *, as_json: bool
) -> None:
    """Measure static arbitrage in surfaces: how often, how large, where.

    SURFACES is what `volvae sample` or `volvae complete` wrote, such a table with its rows in any order, or a file of
    quotes, which are read as by `volvae complete`, all dates and markets, and put on the model's grid.
    """
    from pipeline.cli import arbitrage_table, surface_files
    from vae.surface import arbitrage as checks
    from vae.surface import plausible

    def grid_of_model() -> "Grid":
        from vae.runtime import SurfaceModel

        return SurfaceModel.load(bundle, provider="cpu").grid

    file = surface_files.read(surfaces, reading, grid_of_model, any_grid=True)
    iv, grid = file.iv, file.grid
    plausible.check_surfaces(iv, plausible.Interval(0.0, plausible.MEDIAN_VOL.high))
    known_rate = arbitrage_table.known_rate(surfaces, iv)
    blocks = checks.violation_blocks(iv, grid)
    with _progress(blocks, length=checks.block_count(len(iv)), label="arbitrage") as tracked:
        found = checks.join(tracked)
    figures = arbitrage_table.figures(found, grid, tolerance=tolerance, data=arbitrage_table.read_data_rates(results))
    figures["known_rate"] = known_rate
    click.echo(json_text(figures, indent=2) if as_json else arbitrage_table.text(figures, results))


def _progress(blocks: Iterable[Item], *, length: int, label: str) -> AbstractContextManager[Iterable[Item]]:
    """The blocks, counted by a bar on standard error if that is a terminal."""
    return click.progressbar(blocks, length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())
